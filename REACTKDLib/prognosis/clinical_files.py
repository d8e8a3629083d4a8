"""Clinical records from CSV, JSON and plain text, and back to CSV.

A CSV has a column per variable and a row per patient, or the columns ``name``, ``value`` and
optionally ``unit`` (and ``case`` for several patients). A JSON has an object per patient, alone, in
a list (each with ``case``) or in an object by case. A file may be damaged or hostile: what is read
is limited before it is taken apart.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..region_csv import spreadsheet_text
from ..types import Notice
from .clinical_formats import MAX_LINE, broken, csv_cases, json_cases
from .clinical_input import (
    MAX_TEXT,
    Checked,
    Entry,
    check_entries,
    checked_record,
    record_from_text,
    refusal,
)
from .schema import CASE, TEXT
from .types import ClinicalRecord, ClinicalSchema

__all__ = [
    "ClinicalTable",
    "clinical_csv",
    "clinical_entries",
    "file_cases",
    "file_content",
    "read_clinical",
    "read_clinical_table",
    "read_pasted",
]

#: Bytes of a file. JSON is taken apart in memory, CSV row by row.
MAX_BYTES = {".csv": 32 << 20, ".json": 8 << 20, ".txt": 4 * MAX_TEXT}


@dataclass(frozen=True)
class ClinicalTable:
    """The records of several patients by case, in the order of the file.

    ``refused`` : case -> variable -> why it is not used; only where the reader was asked to go on.
    """

    records: Mapping[str, ClinicalRecord]
    refused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_clinical(
    path: Path | str,
    schema: ClinicalSchema,
    *,
    case: str | None = None,
    from_image: Mapping[str, Any] | None = None,
) -> ClinicalRecord:
    """The record of one patient from a ``.csv``, ``.json`` or ``.txt`` file.

    ``case`` chooses one of several patients. ``from_image`` as in
    :func:`REACTKDLib.prognosis.clinical_input.check_record`.

    Raises
    ------
    InputError : not readable, not of its format, too large, no or several patients.
    ClinicalValueError : values that cannot be used, all of them.
    """
    entries, text = clinical_entries(path, case=case)
    return checked_record(schema, entries, text=text, from_image=from_image)


def clinical_entries(
    path: Path | str, *, case: str | None = None, among: str | None = None
) -> tuple[list[Entry], str]:
    """What a file says of one patient, unchecked: entries, and free text of a ``.txt``.

    ``among`` is the ``case`` where the file has several patients; of a single one, it does not
    count.

    Raises
    ------
    InputError, ClinicalValueError : as :func:`read_clinical`, but for values.
    """
    path = Path(path)
    content = file_content(path)
    if path.suffix.lower() == ".txt":
        return [], record_from_text(content).text
    if among is not None and case is None:
        several = sum(1 for _ in file_cases(content, path.suffix.lower(), path.name)) > 1
        case = among if several else None
    count = 0
    found: list[Entry] = []
    for name, entries in file_cases(content, path.suffix.lower(), path.name):
        if case is None or name == case:
            count += 1
            found = found or entries
    if count != 1:
        raise InputError(
            f"{path.name} has {count} patients{f' called {case!r}' if case else ''}, not one.",
            "Give the file of one patient, or say which case.",
        )
    return found, ""


def read_clinical_table(
    path: Path | str, schema: ClinicalSchema, *, refuse: bool = True
) -> ClinicalTable:
    """The records of all patients of a ``.csv`` or ``.json`` file, which gives each a ``case``.

    ``refuse`` : a value that cannot be used ends it. False: it is missing then, stands in
    :attr:`ClinicalTable.refused`, and the record has a notice ``clinical_value_refused``.

    Raises
    ------
    InputError : as :func:`read_clinical`; a case without a name, or twice.
    ClinicalValueError : with the problems of the first patient who has any.
    """
    path = Path(path)
    records: dict[str, ClinicalRecord] = {}
    refused: dict[str, Mapping[str, str]] = {}
    for number, (case, entries) in enumerate(
        file_cases(file_content(path), path.suffix.lower(), path.name), start=1
    ):
        if not case or case in records:
            raise InputError(
                f"{path.name}: patient {number} has {'no case' if not case else 'a case twice'}.",
                "Give every patient a case of his own, in the column or field 'case'.",
            )
        checked = check_entries(schema, entries)
        if checked.refused and refuse:
            raise refusal(checked.refused, f"{path.name}, patient {number}: ")
        records[case] = _with_notice(checked)
        if checked.refused:
            refused[case] = checked.refused
    return ClinicalTable(records, refused)


def read_pasted(text: str, schema: ClinicalSchema) -> Checked:
    """What is pasted from a spreadsheet for one patient: two rows, or names and values in columns.

    What can be used and what cannot, so that a panel fills its fields and marks the others.

    Raises
    ------
    InputError : no table of one patient.
    """
    if len(text) > MAX_LINE:
        raise broken("The pasted text", f"it has more than {MAX_LINE} characters")
    found = list(csv_cases(text, "The pasted text"))
    if len(found) != 1:
        raise InputError(f"The pasted table has {len(found)} patients, not one.", "Paste one row.")
    return check_entries(schema, found[0][1])


def clinical_csv(schema: ClinicalSchema, records: Mapping[str, ClinicalRecord]) -> str:
    """A table that :func:`read_clinical_table` reads again; without records, one to fill in.

    Headings have the units. Numbers keep their value; no text begins a formula.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    units = {v.name: f" [{v.unit}]" if v.unit else "" for v in schema.variables}
    writer.writerow([CASE, *(name + units[name] for name in schema.names), TEXT])
    for case, record in records.items():
        cells = [_cell(record.values.get(name)) for name in schema.names]
        writer.writerow([spreadsheet_text(case), *cells, spreadsheet_text(record.text)])
    return stream.getvalue()


def _cell(value: float | bool | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return spreadsheet_text(value) if isinstance(value, str) else repr(float(value))


def _with_notice(checked: Checked) -> ClinicalRecord:
    if not checked.refused:
        return checked.record
    names = ", ".join(list(checked.refused)[:20])
    notice = Notice("clinical_value_refused", "warning", f"Refused, and taken as missing: {names}.")
    record = checked.record
    return ClinicalRecord(record.values, record.text, (*record.notices, notice))


def file_content(path: Path) -> str:
    """The text of a ``.csv``, ``.json`` or ``.txt`` file, no more than its format may have.

    Raises
    ------
    InputError : another suffix, not readable, too large, not UTF-8.
    """
    limit = MAX_BYTES.get(path.suffix.lower())
    if limit is None:
        raise InputError(
            f"The clinical file {path} does not end in {', '.join(MAX_BYTES)}.",
            "Save it as CSV, JSON or plain text.",
        )
    if not path.is_file():
        raise InputError(f"The clinical file {path} does not exist.", "Check the path.")
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise InputError(
            f"The clinical file {path} cannot be read: {error.strerror or error}.",
            "Check its rights.",
        ) from error
    if len(content) > limit:
        raise InputError(
            f"The clinical file {path} is larger than {limit >> 10} KiB.",
            "Give the variables of the model alone.",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The clinical file {path} is not UTF-8 ({error.reason}).",
            "Save it as UTF-8 (in a spreadsheet: CSV UTF-8).",
        ) from error


def file_cases(content: str, suffix: str, where: str) -> Iterator[tuple[str, list[Entry]]]:
    """Case ("" for none) and entries of every patient of a table; ``where`` names it in errors.

    Raises
    ------
    InputError : not of its format.
    """
    if suffix == ".csv":
        yield from csv_cases(content, where)
    elif suffix == ".json":
        yield from json_cases(content, where)
    else:
        raise broken(where, "plain text is about one patient")
