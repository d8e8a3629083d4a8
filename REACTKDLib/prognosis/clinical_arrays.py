"""Clinical records as arrays for networks, before they are scaled."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .clinical_values import describe
from .schema import CATEGORY, FLAG
from .types import ClinicalRecord, ClinicalSchema, Variable

__all__ = ["describe", "to_array"]


def to_array(schema: ClinicalSchema, record: ClinicalRecord) -> np.ndarray:
    """Values (variables,) float64 in the schema's order; NaN where missing.

    A number in the schema's unit, a flag as 0 or 1, a category as its index.

    Raises
    ------
    InputError : a value of a variable that the schema does not have, or of another kind.
    """
    unknown = sorted(set(record.values) - set(schema.names))
    if unknown:
        raise InputError(
            f"The record has values of {', '.join(unknown)}, which are not in {schema.name}.",
            "Read it again with the model's schema.",
        )
    values = record.values
    array = [_number(v, values[v.name]) if v.name in values else np.nan for v in schema.variables]
    return np.array(array, dtype=np.float64)


def _number(variable: Variable, value: float | bool | str) -> float:
    if variable.kind == CATEGORY and isinstance(value, str) and value in variable.categories:
        return float(variable.categories.index(value))
    # numpy's booleans and numbers are welcome; a flag as 1.0 would be a value of another kind.
    flag = isinstance(value, (bool, np.bool_))
    if variable.kind == FLAG and flag:
        return float(value)
    if variable.kind not in (FLAG, CATEGORY) and not flag and not isinstance(value, str):
        return float(value)
    raise InputError(
        f"The record has a value of {variable.name} that is {type(value).__name__}; it is a"
        f" {variable.kind}.",
        "Read it again with the model's schema.",
    )
