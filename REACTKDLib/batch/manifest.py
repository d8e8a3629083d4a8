"""The rows of a manifest, one after another: CSV, JSON or JSON Lines.

Columns: ``case``, ``ct``, ``segmentation``, and optionally ``pet_fdg``, ``pet_acetate`` and
``series``; :class:`Form` has others. Nothing here looks at the files that a row names. A manifest
is read line by line, so that its length does not matter.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import InputError

REQUIRED = ("case", "ct", "segmentation")
TRACERS = ("pet_fdg", "pet_acetate")
COLUMNS = (*REQUIRED, *TRACERS, "series")
SUFFIXES = (".csv", ".json", ".jsonl")

#: Characters of one line, or of one object of a JSON manifest.
MAX_ROW = 1 << 20
_CHUNK = 1 << 16


#: Column of a clinical file, and what columns of single clinical values begin with.
CLINICAL, VALUE = "clinical", "clinical:"


@dataclass(frozen=True)
class Form:
    """Which columns a manifest may have.

    ``variable`` : whether a model knows a clinical variable of that name, for columns
    ``clinical:NAME``; None where there are no such columns, and none called ``clinical``. With it a
    case needs no image, but something.
    """

    required: tuple[str, ...] = REQUIRED
    optional: tuple[str, ...] = (*TRACERS, "series")
    variable: Callable[[str], bool] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns but ``clinical:NAME``."""
        return (*self.required, *self.optional)

    def knows(self, column: str) -> bool:
        """Whether there may be such a column."""
        if self.variable is not None and column.startswith(VALUE):
            return self.variable(column.removeprefix(VALUE))
        return column in self.columns


@dataclass(frozen=True)
class Row:
    """One case as the manifest has it: paths as written, relative to the manifest's folder.

    ``number`` counts rows from 1 (the header is none). ``problems`` says why it cannot be used.
    ``values`` : clinical variable -> value as written.
    """

    number: int
    case: str
    ct: str = ""
    segmentation: tuple[str, ...] = ()
    pet: Mapping[str, str] = field(default_factory=dict)
    series: str = ""
    problems: tuple[str, ...] = ()
    clinical: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


#: Of results of REACT-KD.
IMAGES = Form()


def manifest_rows(path: Path, form: Form = IMAGES) -> Iterator[Row]:
    """The rows of a manifest, by its suffix ``.csv``, ``.json`` or ``.jsonl``.

    Raises
    ------
    InputError : no such file, another suffix, not UTF-8, columns unknown, missing or twice, broken
        quotes or JSON, a row of more than ``MAX_ROW`` characters, no row at all. Raised where it is
        met, so read all rows before work begins.
    """
    readers = {".csv": _csv_rows, ".json": _json_rows, ".jsonl": _json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"The manifest {path} does not end in {', '.join(SUFFIXES)}.",
            "Give a CSV or JSON manifest, or a folder of cases.",
        )
    count = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in reader(stream, path, form):
                count = row.number
                yield row
    except OSError as error:
        raise InputError(
            f"The manifest {path} cannot be read: {error.strerror or error}.", "Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"The manifest {path} is not UTF-8 ({error.reason}).",
            "Save it as UTF-8 (in a spreadsheet: CSV UTF-8).",
        ) from error
    if count == 0:
        raise InputError(f"The manifest {path} has no case.", "Write one row per case.")


def _lines(stream: IO[str], path: Path) -> Iterator[str]:
    while line := stream.readline(MAX_ROW):
        if len(line) == MAX_ROW:
            raise _broken(path, f"a line has more than {MAX_ROW} characters")
        yield line


def _broken(path: Path, why: str) -> InputError:
    return InputError(f"The manifest {path} is broken: {why}.", "Write it again.")


def _csv_rows(stream: IO[str], path: Path, form: Form) -> Iterator[Row]:
    reader = csv.reader(_lines(stream, path), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_columns(path, header, form)
        number = 0
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            number += 1
            yield _csv_row(number, header, cells)
    except csv.Error as error:
        raise _broken(path, f"line {reader.line_num}: {error}") from error


def _check_columns(path: Path, header: Sequence[str], form: Form) -> None:
    """Raises InputError with everything that is wrong with the columns."""
    problems = [f"there is no column {name!r}" for name in form.required if name not in header]
    problems += [f"the column {name!r} is unknown" for name in header if not form.knows(name)]
    problems += [
        f"the column {n!r} comes twice" for n in dict.fromkeys(header) if header.count(n) > 1
    ]
    if problems:
        columns = (*form.columns, *([f"{VALUE}NAME"] if form.variable is not None else []))
        needed = "the first three are" if form.required == REQUIRED else f"{form.required[0]} is"
        raise InputError(
            f"The manifest {path} cannot be used: {'; '.join(problems)}.",
            f"Columns, separated by commas: {', '.join(columns)}; {needed} needed.",
        )


def _csv_row(number: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    values = dict(zip(header, (cell.strip() for cell in cells), strict=False))
    problems = []
    if len(cells) != len(header):
        problems.append(f"it has {len(cells)} cells, the header has {len(header)}")
    segmentation = (part.strip() for part in values.get("segmentation", "").split(";"))
    return Row(
        number=number,
        case=values.get("case", ""),
        ct=values.get("ct", ""),
        segmentation=tuple(part for part in segmentation if part),
        pet={tracer: values[tracer] for tracer in TRACERS if values.get(tracer)},
        series=values.get("series", ""),
        problems=tuple(problems),
        clinical=values.get(CLINICAL, ""),
        values={n.removeprefix(VALUE): v for n, v in values.items() if v and n.startswith(VALUE)},
    )


def _json_lines(stream: IO[str], path: Path, form: Form) -> Iterator[Row]:
    number = 0
    for line_number, line in enumerate(_lines(stream, path), start=1):
        if not line.strip():
            continue
        number += 1
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _broken(path, f"line {line_number}: {error}") from error
        yield _json_row(number, document, form)


class _Text:
    """A stream of JSON of which only the part being decoded is in memory."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._text, self._at = stream, "", 0
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        chunk = self._stream.read(_CHUNK)
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def mark(self) -> str:
        """The next character that is no space, which stays; empty at the end."""
        while True:
            while self._text[self._at : self._at + 1] in (" ", "\t", "\r", "\n"):
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self) -> None:
        """Take the character that :meth:`mark` has shown."""
        self._at += 1

    def value(self) -> Any:
        """The next value.

        Raises
        ------
        ValueError, RecursionError : it is no JSON, or longer than ``MAX_ROW``.
        """
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                if len(self._text) - self._at > MAX_ROW or not self._more():
                    raise
                continue
            length = end - self._at
            # A number at the end of what was read may go on.
            if end < len(self._text) or not self._more():
                self._at += length
                return value


def _json_rows(stream: IO[str], path: Path, form: Form) -> Iterator[Row]:
    """The objects of one array, decoded one at a time."""
    text, number = _Text(stream), 0
    if text.mark() != "[":
        raise _broken(path, "it is no JSON array of objects")
    text.skip()
    while (mark := text.mark()) != "]":
        if number and mark != ",":
            raise _broken(path, f"no comma after object {number}")
        if number:
            text.skip()
            text.mark()
        number += 1
        try:
            document = text.value()
        except (ValueError, RecursionError) as error:
            raise _broken(path, f"object {number}: {error}") from error
        yield _json_row(number, document, form)
    text.skip()
    if text.mark():
        raise _broken(path, "something follows the array")


def _json_row(number: int, document: Any, form: Form) -> Row:
    if not isinstance(document, dict):
        return Row(number, "", problems=(f"it is {type(document).__name__}, not an object",))
    problems = [f"the field {name!r} is unknown" for name in document if not form.knows(name)]
    values: dict[str, str] = dict.fromkeys(COLUMNS, "")
    clinical: dict[str, str] = {}
    for name in document:
        if form.variable is not None and name.startswith(VALUE):
            text = _value_text(document[name])
            if text is None:
                what = type(document[name]).__name__
                problems.append(f"the field {name!r} is {what}, not one value")
            elif text:
                clinical[name.removeprefix(VALUE)] = text
    for name in form.columns:
        value = document.get(name)
        if name == "segmentation" and isinstance(value, list):
            continue
        if value is not None and not isinstance(value, str):
            problems.append(f"the field {name!r} is {type(value).__name__}, not text")
        values[name] = value.strip() if isinstance(value, str) else ""
    listed = document.get("segmentation")
    parts = listed if isinstance(listed, list) else values["segmentation"].split(";")
    if not all(isinstance(part, str) for part in parts):
        problems.append("the field 'segmentation' is a list of something else than text")
    texts = (part.strip() for part in parts if isinstance(part, str))
    return Row(
        number=number,
        case=values["case"],
        ct=values["ct"],
        segmentation=tuple(text for text in texts if text),
        pet={tracer: values[tracer] for tracer in TRACERS if values[tracer]},
        series=values["series"],
        problems=tuple(problems),
        clinical=values.get(CLINICAL, ""),
        values=clinical,
    )


def _value_text(value: Any) -> str | None:
    """A clinical value of a JSON manifest as text, "" for null; None for what is no value."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return repr(value)
    return value.strip() if isinstance(value, str) else None
