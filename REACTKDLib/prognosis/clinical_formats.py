"""The formats of clinical files: from text to the names, values and units of every patient.

What is read may be damaged or hostile, so its size is limited before it is taken apart.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InputError
from .clinical_input import MAX_NAMES, Entry
from .clinical_values import MAX_CELL
from .schema import CASE, folded

#: Patients of a table, characters of one line of a CSV.
MAX_ROWS = 50_000
MAX_LINE = 1 << 20
_NAME, _VALUE, _UNIT = "name", "value", "unit"


def broken(where: str, why: str) -> InputError:
    """The error of a file that is no table."""
    return InputError(
        f"{where} is no clinical table: {why}.", "docs/clinical_input.md has examples."
    )


# CSV ----------------------------------------------------------------------------------------------


def csv_cases(content: str, where: str) -> Iterator[tuple[str, list[Entry]]]:
    """Case ("" for none) and entries of every patient of a CSV; ``where`` names it in errors.

    Raises
    ------
    InputError : no header, rows of another length, broken quotes, or larger than the limits.
    """
    rows = _rows(content, where)
    header = next(rows, [])
    if not any(header):
        raise broken(where, "it has no header")
    if len(header) > MAX_NAMES + 2:
        raise broken(where, f"it has more than {MAX_NAMES} columns")
    plain = [folded(name) if len(name) < MAX_CELL else "" for name in header]
    if {_NAME, _VALUE} <= set(plain):
        yield from _long_cases(plain, rows, where)
        return
    if plain.count(CASE) > 1:
        raise broken(where, "the column case is there twice")
    at = plain.index(CASE) if CASE in plain else None
    for cells in rows:
        pairs = [(n, c, "") for k, (n, c) in enumerate(zip(header, cells, strict=True)) if k != at]
        # An unnamed column without a value: spreadsheets leave such behind.
        yield (cells[at] if at is not None else ""), [p for p in pairs if p[0] or p[1]]


def _long_cases(
    header: Sequence[str], rows: Iterator[list[str]], where: str
) -> Iterator[tuple[str, list[Entry]]]:
    known = (_NAME, _VALUE, _UNIT, CASE)
    if not set(header) <= {*known, ""} or any(header.count(name) > 1 for name in known):
        raise broken(where, f"its columns are not {', '.join(known)}, each once")
    cases: dict[str, list[Entry]] = {}
    for cells in rows:
        row = dict(zip(header, cells, strict=True))
        entries = cases.setdefault(row.get(CASE, ""), [])
        entries.append((row[_NAME], row[_VALUE], row.get(_UNIT, "")))
    yield from cases.items()


def _rows(content: str, where: str) -> Iterator[list[str]]:
    """Rows of stripped cells, all as many as in the first; empty rows are left out."""
    delimiter = _delimiter(content[:MAX_LINE])
    reader = csv.reader(_lines(content, where), delimiter=delimiter, strict=True)
    width, count = 0, 0
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            count += 1
            if count > MAX_ROWS + 1:
                raise broken(where, f"it has more than {MAX_ROWS} rows")
            if width and len(row) != width:
                raise broken(where, f"row {count} has {len(row)} cells, the header has {width}")
            width = len(row)
            yield row
    except csv.Error as error:
        raise broken(where, f"line {reader.line_num}: {error}") from error


def _lines(content: str, where: str) -> Iterator[str]:
    stream = io.StringIO(content, newline="")
    while line := stream.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise broken(where, f"a line has {MAX_LINE} characters or more")
        yield line


def _delimiter(content: str) -> str:
    """Comma, semicolon or tab: the one that the first line has most of."""
    first = next((line for line in content.splitlines()[:50] if line.strip()), "")
    return max(",;\t", key=first.count)


# JSON ---------------------------------------------------------------------------------------------


class _Pairs(list[tuple[str, Any]]):
    """The pairs of a JSON object, of which a key may come twice."""


def json_cases(content: str, where: str) -> Iterator[tuple[str, list[Entry]]]:
    """As :func:`csv_cases`, of a JSON object per patient, of a list or of an object of them."""
    try:
        # Numbers stay as they are written: 4.10 is shown as 4.10, and no number is too long.
        document = json.loads(
            content, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str
        )
    except (ValueError, RecursionError) as error:
        raise broken(where, f"it is no JSON ({str(error)[:MAX_CELL]})") from error
    if isinstance(document, _Pairs):
        by_case = document and all(isinstance(v, _Pairs) and not _is_value(v) for _, v in document)
        if not by_case:
            yield _json_case(document)
            return
        documents = [_Pairs([(CASE, case), *pairs]) for case, pairs in document]
    elif isinstance(document, list):
        documents = document
    else:
        raise broken(where, "it is no JSON object or list of objects")
    if len(documents) > MAX_ROWS:
        raise broken(where, f"it has more than {MAX_ROWS} patients")
    for number, pairs in enumerate(documents, start=1):
        if not isinstance(pairs, _Pairs):
            raise broken(where, f"patient {number} is no JSON object")
        yield _json_case(pairs)


def _is_value(pairs: _Pairs) -> bool:
    keys = [key for key, _ in pairs]
    return _VALUE in keys and set(keys) <= {_VALUE, _UNIT} and len(set(keys)) == len(keys)


def _json_case(pairs: _Pairs) -> tuple[str, list[Entry]]:
    case = ""
    entries: list[Entry] = []
    for key, value in pairs:
        if key == CASE and isinstance(value, str) and not case:
            case = value.strip()
        elif isinstance(value, _Pairs) and _is_value(value):
            entries.append((key, dict(value), ""))
        elif isinstance(value, _Pairs):
            entries.append((key, list(value), ""))  # no value: it is refused as a list
        else:
            entries.append((key, value, ""))
    return case, entries
