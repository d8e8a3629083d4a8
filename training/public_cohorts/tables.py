"""Clinical tables: CSV, or the first sheet of an XLSX file."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from REACTKDLib.errors import EnvironmentProblem, InputError, OptionError


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows by column name, as texts; whole numbers have no decimals, empty cells are "".

    Raises
    ------
    InputError : the file cannot be read, a column without or with the same name as another.
    EnvironmentProblem : an XLSX file, and openpyxl is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".xlsx"):
        raise InputError(f"The table {path} is neither .csv nor .xlsx.", "Convert it.")
    lines = _xlsx_lines(path) if path.suffix.lower() == ".xlsx" else _csv_lines(path)
    header, *rows = lines or [[]]
    while header and not header[-1]:
        header.pop()
    if not header or not all(header) or len(set(header)) < len(header):
        raise InputError(
            f"The table {path} has the columns {header}.", "Name each column, and once."
        )
    padding = [""] * len(header)
    return [dict(zip(header, [*row, *padding], strict=False)) for row in rows if any(row)]


def by_patient(path: Path, patient_column: str, *needed: str) -> dict[str, dict[str, str]]:
    """Rows of a table by patient.

    Raises
    ------
    InputError : as :func:`read_table`; the patient's or a needed column is missing, there are no
        rows, a patient has several.
    """
    rows = read_table(path)
    for name in (patient_column, *needed):
        if not rows or name not in rows[0]:
            there = ", ".join(rows[0]) if rows else "no rows"
            raise InputError(f"The table {path} has no column {name!r}.", f"It has {there}.")
    counts = Counter(row[patient_column] for row in rows if row[patient_column])
    twice = sorted(patient for patient, count in counts.items() if count > 1)
    if twice:
        raise InputError(
            f"In the table {path} several rows have the {patient_column} {', '.join(twice)}.",
            "Keep one row for each patient.",
        )
    return {row[patient_column]: row for row in rows if row[patient_column]}


def labels_by_patient(
    table: Path | str | None, patient_column: str, label_column: str | None
) -> dict[str, str] | None:
    """Label by patient, None where no table is given.

    Raises
    ------
    OptionError : a table without ``label_column``.
    InputError : as :func:`by_patient`.
    """
    if table is None:
        return None
    if label_column is None:
        raise OptionError(f"The table {table} is given without label_column.", "Name the column.")
    rows = by_patient(Path(table), patient_column, label_column)
    return {patient: row[label_column] for patient, row in rows.items()}


def _csv_lines(path: Path) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return [[cell.strip() for cell in line] for line in csv.reader(file, strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"The table {path} cannot be read: {error}.", "Check the file.") from error


def _xlsx_lines(path: Path) -> list[list[str]]:
    try:
        import openpyxl
    except ImportError as error:
        raise EnvironmentProblem(
            f"openpyxl is not installed, and {path} is an Excel table.",
            "Install openpyxl, or save the table as CSV.",
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            return [[_text(cell) for cell in line] for line in book.worksheets[0].values]
        finally:
            book.close()
    # A damaged archive fails in openpyxl, zipfile or the XML parser, each in its own way.
    except Exception as error:
        raise InputError(f"The table {path} cannot be read: {error}.", "Check the file.") from error


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()
