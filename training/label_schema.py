"""Label schemas: the classes of a task, and how a table writes them.

A schema is configuration, not code: it is read from JSON of this form ::

    {"name": "grade3",
     "classes": [{"name": "well", "title": "well differentiated", "written": ["G1", 1]}, ...]}

A class's name and title always count as written forms. A label that no class knows is never
guessed: ``index_of`` gives None, and a manifest that contains it is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from REACTKDLib.errors import OptionError
from REACTKDLib.types import ClassInfo

Written = str | int | float


def _normal(label: Written) -> str:
    """One spelling per label: case, punctuation, the form of a number (1, "1.0") do not count."""
    text = str(label).strip()
    try:
        number = float(text)
    except ValueError:
        return " ".join(re.findall(r"[^\W_]+", text.casefold()))
    return f"{number:g}" if math.isfinite(number) else text.casefold()


@dataclass(frozen=True)
class LabelSchema:
    """The ordered classes of a task.

    Parameters
    ----------
    name : of the schema, for messages and configurations.
    classes : in order; the position of a class is its label in training.
    written : class name to further texts or numbers that mean it.

    Raises
    ------
    OptionError : fewer than two classes, a class named twice, a written form that means two
        classes or belongs to no class.
    """

    name: str
    classes: tuple[ClassInfo, ...]
    written: Mapping[str, tuple[Written, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.class_names
        if len(names) < 2 or len(set(names)) < len(names):
            raise OptionError(
                f"The label schema {self.name!r} has the classes {names}.",
                "Name two or more different classes.",
            )
        unknown = sorted(set(self.written) - set(names))
        if unknown:
            raise OptionError(
                f"The label schema {self.name!r} has written forms for {unknown}, which are no"
                " classes.",
                f"Its classes are {names}.",
            )
        for label, meant in self._forms():
            if self.index_of(label) != meant:
                raise OptionError(
                    f"In the label schema {self.name!r}, {label!r} means two classes.",
                    "Give each written form to one class.",
                )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(c.name for c in self.classes)

    def _forms(self) -> list[tuple[Written, int]]:
        return [
            (form, index)
            for index, c in enumerate(self.classes)
            for form in (c.name, c.title, *self.written.get(c.name, ()))
        ]

    def index_of(self, label: Written) -> int | None:
        """Index of the class that ``label`` means, or None for an unknown or empty label."""
        wanted = _normal(label)
        return next((index for form, index in self._forms() if _normal(form) == wanted), None)


def schema_from_section(section: Any) -> LabelSchema:
    """A schema from its JSON form (see the module).

    Raises
    ------
    OptionError : not of this form, or as :class:`LabelSchema`.
    """
    try:
        (name, classes) = (section["name"], section["classes"])
        unknown = set(section) - {"name", "classes"}
        unknown |= {key for c in classes for key in set(c) - {"name", "title", "written"}}
        if unknown:
            raise OptionError(
                f"A label schema has the unknown keys {sorted(unknown)}.",
                "Its keys are name and classes; those of a class name, title and written.",
            )
        return LabelSchema(
            name=str(name),
            classes=tuple(ClassInfo(str(c["name"]), str(c["title"])) for c in classes),
            written={str(c["name"]): tuple(c.get("written", ())) for c in classes},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise OptionError(
            f"A label schema is not of the expected form: {error!r}.",
            'Give {"name": ..., "classes": [{"name": ..., "title": ..., "written": [...]}, ...]}.',
        ) from error


def read_label_schema(path: Path | str) -> LabelSchema:
    """A schema from a JSON file.

    Raises
    ------
    OptionError : the file cannot be read, or as :func:`schema_from_section`.
    """
    try:
        section = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{path} cannot be read: {error}.", "Give a JSON label schema."
        ) from error
    return schema_from_section(section)


#: Differentiation of hepatocellular carcinoma. Roman or bare numbers are no written forms: the four
#: Edmondson-Steiner grades are merged into three classes in more than one way, and 1, 2, 3 is
#: counted from 0 by some. Who has such labels writes down a schema.
GRADE3 = LabelSchema(
    name="grade3",
    classes=(
        ClassInfo("well", "well differentiated"),
        ClassInfo("moderate", "moderately differentiated"),
        ClassInfo("poor", "poorly differentiated"),
    ),
    written={
        "well": ("G1", "grade 1"),
        "moderate": ("moderately", "moderate differentiated", "G2", "grade 2"),
        "poor": ("poorly", "poor differentiated", "G3", "grade 3"),
    },
)

#: Later lung metastasis of a soft-tissue sarcoma (the public set ``sts``).
LUNG_METASTASIS = LabelSchema(
    name="lung_metastasis",
    classes=(
        ClassInfo("no", "no lung metastasis"),
        ClassInfo("yes", "lung metastasis"),
    ),
    written={"no": (0,), "yes": (1,)},
)

SCHEMAS: Mapping[str, LabelSchema] = {s.name: s for s in (GRADE3, LUNG_METASTASIS)}
