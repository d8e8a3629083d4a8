"""The file form of a cohort manifest: rows of texts, in CSV or JSON.

CSV: UTF-8, one header line, commas. JSON: ``{"pet_unit": "SUV", "cases": [{...}, ...]}`` with the
same names as keys; ``pet_unit`` speaks for every PET of the manifest and may be left out.
What the columns mean is in :mod:`training.manifest`.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from REACTKDLib.errors import InputError, OutputError

#: Between several files or segments in one cell.
SEPARATOR = ";"

_JSON_KEYS = {"cases", "pet_unit"}


class ManifestError(InputError):
    """A manifest or a public data set cannot be used; ``problems`` has all that was found."""

    def __init__(self, source: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            "\n- ".join((f"{source} has {count}:", *problems)),
            "\nCorrect them all, then try again.",
        )


@dataclass(frozen=True)
class Row:
    """One case as written: ``where`` it stands, for messages; cells that are not empty."""

    where: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """The rows of a manifest; its columns, also the empty ones; the unit of all PET, or ""."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    pet_unit: str = ""


def read_rows(path: Path) -> tuple[Table, list[str]]:
    """The rows of a manifest and what is wrong with its form.

    Raises
    ------
    ManifestError : no CSV or JSON file that can be read at all.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise ManifestError(path, [f"the suffix {path.suffix!r} is neither .csv nor .json"])
    try:
        text = path.read_text(encoding="utf-8-sig")
        return (_csv_rows if path.suffix.lower() == ".csv" else _json_rows)(text)
    except (OSError, ValueError, csv.Error) as error:
        raise ManifestError(path, [f"it cannot be read: {error}"]) from error


def _csv_rows(text: str) -> tuple[Table, list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [name.strip() for name in next(reader, [])]
    problems = [f"the column {n!r} is there {c} times" for n, c in Counter(header).items() if c > 1]
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            problems.append(f"line {reader.line_num} has {len(cells)} cells, not {len(header)}")
        values = {n: c.strip() for n, c in zip(header, cells, strict=False) if c.strip()}
        rows.append(Row(f"line {reader.line_num}", values))
    return Table(tuple(rows), tuple(header)), problems


def _json_rows(text: str) -> tuple[Table, list[str]]:
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("cases"), list):
        raise ValueError('it is not of the form {"cases": [{...}, ...]}')
    problems = [
        f"unknown key {key!r} beside the cases" for key in sorted(set(document) - _JSON_KEYS)
    ]
    rows, columns = [], {}
    for number, case in enumerate(document["cases"], start=1):
        where = f"case {number}"
        if not isinstance(case, dict):
            problems.append(f"{where} is {case!r}, not a table of columns")
            continue
        columns.update(case)
        cells = {}
        for name, value in case.items():
            try:
                cells[name] = _text(value)
            except ValueError:
                problems.append(f"{where}: {name} is {value!r}, neither text nor number nor a list")
        rows.append(Row(where, {name: cell for name, cell in cells.items() if cell}))
    return Table(tuple(rows), tuple(columns), _text(document.get("pet_unit"))), problems


def _text(value: Any) -> str:
    """The cell of a value; None is an empty one."""
    if value is None:
        return ""
    if isinstance(value, list):
        return SEPARATOR.join(_text(item) for item in value)
    if isinstance(value, (str, int, float)):
        return str(value).strip()
    raise ValueError(f"{value!r} is neither text nor number nor a list")


def write_manifest(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write a manifest, whole or not at all; CSV or JSON by the suffix.

    Values are texts, numbers, None (an empty cell) or ``Path``, and lists of these. Paths are
    written relative to the manifest's folder, so that manifest and images can move together.

    Raises
    ------
    OutputError : there is a file at ``path``, another suffix, a path that cannot be written in a
        cell or relative to the manifest, the file system refuses.
    """
    path = Path(path)
    if path.exists():
        raise OutputError(f"{path} exists.", "Give another file, or move that one away.")
    if path.suffix.lower() not in (".csv", ".json"):
        raise OutputError(f"{path} is neither .csv nor .json.", "Name the manifest accordingly.")
    cells = [{name: _cell(value, path.parent) for name, value in row.items()} for row in rows]
    if path.suffix.lower() == ".json":
        text = json.dumps({"cases": cells}, indent=1, ensure_ascii=False) + "\n"
    else:
        stream = io.StringIO(newline="")
        columns = list(dict.fromkeys(name for row in cells for name in row))
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)
        text = stream.getvalue()
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.", "Give another file."
        ) from error
    return path


def _cell(value: Any, folder: Path) -> str:
    if isinstance(value, (list, tuple)):
        return SEPARATOR.join(_cell(item, folder) for item in value)
    if not isinstance(value, Path):
        return _text(value)
    # The file itself may be a link (a data store); its name and place here are what counts.
    target = value.parent.resolve() / value.name
    try:
        relative = Path(os.path.relpath(target, folder.resolve())).as_posix()
    except ValueError as error:
        raise OutputError(
            f"{value} is on another drive than {folder}.", "Write the manifest to that drive."
        ) from error
    if SEPARATOR in relative:
        raise OutputError(
            f"{value} has a {SEPARATOR!r} in its path, which separates files in a manifest.",
            "Rename it.",
        )
    return relative
