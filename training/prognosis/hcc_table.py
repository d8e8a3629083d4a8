"""The public table "HCC Survival": 165 patients with hepatocellular carcinoma, 49 variables.

Source: Santos et al., Journal of Biomedical Informatics 58:49-59, 2015; UCI Machine Learning
Repository, file ``hcc-data.txt``, CC BY 4.0. One line per patient, commas, ``?`` for missing, the
class last (1 lives one year after diagnosis, 0 dies). The columns are in the order of the shipped
schema ``hcc_survival_49``.

The table mixes units in some columns (leukocytes and platelets are written per nl and per µl, some
total proteins per litre), and some values are impossible. The panel and the command line refuse
such values; here they are taken as they are written, so that what is measured on this table can be
compared with what others measured on it. :func:`not_in_unit` counts them, and the report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.schema import load_schema
from REACTKDLib.prognosis.types import ClinicalSchema, PatientArrays, Variable

from .cohort import PrognosisCase, PrognosisCohort

__all__ = ["hcc_schema", "not_in_unit", "read_hcc_table"]

#: Zero in one line of the table, which has no logarithm.
_WITH_ZERO = ("iron", "ferritin")


@lru_cache(maxsize=1)
def hcc_schema() -> ClinicalSchema:
    """The shipped schema of the table; variables that are 0 somewhere are not logarithmic."""
    schema = load_schema("hcc_survival_49")
    variables = tuple(
        replace(v, logarithmic=v.logarithmic and v.name not in _WITH_ZERO)
        for v in schema.variables
    )  # fmt: skip
    return replace(schema, variables=variables)


def read_hcc_table(path: Path | str) -> PrognosisCohort:
    """The patients of ``hcc-data.txt``; the event is death within a year (the table's class 0).

    Patients are named by the number of their line, ``line-001`` first: the table names none.

    Raises
    ------
    InputError : the file cannot be read, a line has not 50 cells, a cell is no number, a flag or a
        class is neither 0 nor 1, a category has no such code.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {error}.",
            'Download "HCC Survival" from the UCI Machine Learning Repository and name the file'
            " hcc-data.txt in the configuration.",
        ) from error
    cases = tuple(_case(f"{path}, line {n}", n, line) for n, line in enumerate(lines, start=1))
    values = np.array([case.arrays.clinical for case in cases])
    strange = not_in_unit(cases)
    complete = int((~np.isnan(values).any(axis=1)).sum()) if len(values) else 0
    return PrognosisCohort(
        "HCC Survival",
        cases,
        "death within one year",
        simulated=False,
        schema=hcc_schema(),
        notes={
            "source": "Santos 2015, UCI HCC Survival, CC BY 4.0",
            "missing values": f"{np.isnan(values).mean():.2%}; {complete} patients have none",
            "values kept as written, though they cannot be in the column's unit": ", ".join(
                f"{name} {count}" for name, count in strange.items()
            )
            or "none",
        },
    )


def _case(where: str, number: int, line: str) -> PrognosisCase:
    variables, cells = hcc_schema().variables, line.split(",")
    advice = "Take the file as the repository has it."
    if len(cells) != len(variables) + 1:
        raise InputError(f"{where} has {len(cells)} cells, not {len(variables) + 1}.", advice)
    if cells[-1] not in ("0", "1"):
        raise InputError(f"{where}: the class is {cells[-1]!r}, not 0 or 1.", advice)
    try:
        values = [_value(v, cell) for v, cell in zip(variables, cells[:-1], strict=True)]
    except ValueError as error:
        raise InputError(f"{where}: {error}.", advice) from error
    arrays = PatientArrays(clinical=np.array(values))
    return PrognosisCase(f"line-{number:03d}", int(cells[-1] == "0"), arrays)


def _value(variable: Variable, cell: str) -> float:
    if cell == "?":
        return np.nan
    if variable.kind == "category":
        if cell not in variable.codes:
            raise ValueError(f"{variable.name} has no code {cell!r}")
        return float(variable.categories.index(variable.codes[cell]))
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"{variable.name} is {cell!r}, no number") from None
    if not np.isfinite(number) or (variable.kind == "flag" and number not in (0.0, 1.0)):
        raise ValueError(f"{variable.name} is {cell}, not 0 or 1")
    return number


def not_in_unit(cases: Sequence[PrognosisCase]) -> dict[str, int]:
    """Variable -> number of patients whose value lies outside the schema's plausible range: in
    another unit, or wrong."""
    found = {}
    for place, variable in enumerate(hcc_schema().variables):
        if variable.plausible is not None:
            low, high = variable.plausible
            column = [c.arrays.clinical[place] for c in cases if c.arrays.clinical is not None]
            if count := sum(bool(v < low or v > high) for v in column):
                found[variable.name] = count
    return found
