"""What a batch has to do: the rows of a manifest or folder, all of them checked first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..deidentify import LEFT_OUT, Pseudonyms
from ..errors import InputError
from .folders import folder_rows
from .manifest import IMAGES, Form, Row, manifest_rows
from .names import name_key, name_problem


@dataclass(frozen=True)
class Case:
    """A checked row. Paths are as written, relative to the manifest's folder.

    ``name`` : of its folder, and wherever the case is named. ``identifier`` : its name in the
    manifest, where ``name`` is a pseudonym.
    ``problems`` : everything that is wrong with the row; such a case is never run.
    ``clinical`` : a clinical file; ``values`` : clinical variable -> value as written.
    """

    row: int
    name: str
    ct: str = ""
    segmentation: tuple[str, ...] = ()
    pet: Mapping[str, str] = field(default_factory=dict)
    series: str = ""
    problems: tuple[str, ...] = ()
    identifier: str = ""
    clinical: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """Role (``ct``, ``segmentation``, a tracer, ``clinical``) and path of every input."""
        segmentations = (("segmentation", path) for path in self.segmentation)
        single = (("ct", self.ct), *segmentations, *self.pet.items(), ("clinical", self.clinical))
        return tuple((role, path) for role, path in single if path)


@dataclass(frozen=True)
class Plan:
    """All cases of a batch, in a file of one JSON object a line; ``root`` is where their paths
    begin."""

    file: Path
    root: Path
    count: int
    unusable: int

    def cases(self) -> Iterator[Case]:
        """The cases in the order of the manifest."""
        with self.file.open(encoding="utf-8") as stream:
            for line in stream:
                fields = json.loads(line)
                for name in ("segmentation", "problems"):
                    fields[name] = tuple(fields[name])
                yield Case(**fields)


def write_plan(
    manifest: Path,
    file: Path,
    checked: Callable[[int], None] = lambda count: None,
    pseudonyms: Pseudonyms | None = None,
    form: Form = IMAGES,
) -> Plan:
    """Read and check all of a manifest or folder, and write the plan to ``file``.

    Only the names of the cases are held in memory. ``checked`` hears how many rows are read.
    ``pseudonyms`` : names the cases; what is wrong with a row is left out then.

    Raises
    ------
    InputError : as :func:`~.manifest.manifest_rows` and :func:`~.folders.folder_rows`.
    OSError : ``file`` cannot be written.
    """
    if not manifest.exists():
        raise InputError(f"The manifest {manifest} does not exist.", "Check the path.")
    root = manifest if manifest.is_dir() else manifest.parent
    rows = folder_rows(manifest) if manifest.is_dir() else manifest_rows(manifest, form)
    count = unusable = 0
    with file.open("w", encoding="utf-8") as stream:
        for case in checked_cases(rows, root, form):
            if pseudonyms is not None:
                case = _pseudonymous(case, pseudonyms)
            stream.write(json.dumps(asdict(case)) + "\n")
            count += 1
            unusable += bool(case.problems)
            checked(count)
    return Plan(file, root.absolute(), count, unusable)


def _pseudonymous(case: Case, pseudonyms: Pseudonyms) -> Case:
    name = pseudonyms.name("case", case.name) if case.name else ""
    problems = (LEFT_OUT,) if case.problems else ()
    return replace(case, name=name, identifier=case.name, problems=problems)


def checked_cases(rows: Iterable[Row], root: Path, form: Form = IMAGES) -> Iterator[Case]:
    """Each row as a case with all its problems: of the row, its name, its files."""
    seen: dict[str, int] = {}
    for row in rows:
        problems = list(row.problems)
        wrong = name_problem(row.case)
        if wrong is not None:
            problems.append(wrong)
        else:
            first = seen.setdefault(name_key(row.case), row.number)
            if first != row.number:
                problems.append(f"row {first} has the same case name (case does not matter)")
        case = Case(
            row=row.number,
            name=row.case,
            ct=row.ct,
            segmentation=row.segmentation,
            pet=row.pet,
            series=row.series,
            clinical=row.clinical,
            values=row.values,
        )
        # A row that is broken already gives its own reasons for what it lacks.
        if not row.problems:
            problems += _lacking(case, form)
        problems += [p for role, path in case.inputs if (p := _path_problem(role, path, root))]
        yield Case(**{**vars(case), "problems": tuple(problems)})


def _lacking(case: Case, form: Form) -> list[str]:
    absent = [what for what in ("ct", "segmentation") if not getattr(case, what)]
    if form.variable is not None and len(absent) == 2:
        if case.clinical or case.values:
            return []
        return ["it has neither an image nor clinical data"]
    return [f"it has no {what}" for what in absent]


def _path_problem(role: str, path: str, root: Path) -> str | None:
    if not path:
        return None
    try:
        if (root / path).exists():
            return None
    except (OSError, ValueError) as error:  # no access, too long, a NUL in it
        return f"the {role} {path!a} cannot be looked at ({error})"
    return f"the {role} {path} does not exist"
