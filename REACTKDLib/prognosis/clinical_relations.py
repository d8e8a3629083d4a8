"""Values that contradict each other, or the CT's header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InputError
from .clinical_values import describe, parse_text
from .schema import NUMBER
from .types import ClinicalSchema, Relation, Variable

#: Years by which the age may differ from the CT's header: the values may be of another year.
AGE_TOLERANCE = 2.0
#: Years from which ages are not told apart: de-identified headers have 90 for all above 89.
_OLDEST = 90.0
_ABOUT_IMAGE = ("age", "sex")
#: What DICOM's letters of the sex mean, for a schema that does not know them.
_SEXES = {"M": "male", "F": "female"}
#: Years of one unit of a DICOM age string (PS3.5, value representation AS).
_AGE_UNITS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def contradictions(
    schema: ClinicalSchema, values: Mapping[str, Any], from_image: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Variable and message of everything that contradicts something else.

    Parameters
    ----------
    values : variable -> value in the schema's unit; missing ones are not in it.
    from_image : ``age`` (years, or a DICOM age string) and ``sex`` (category, or ``M`` and ``F``)
        of the CT's header. Others, and what cannot be read, contradict nothing.
    """
    variables = {variable.name: variable for variable in schema.variables}
    for relation in schema.relations:
        names = [name for name in relation.variables if name in values]
        message = _violated(relation, names, values, variables)
        if message:
            yield from ((name, message) for name in names)
    yield from against_image(schema, values, from_image)


def against_image(
    schema: ClinicalSchema, values: Mapping[str, Any], from_image: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The part of :func:`contradictions` that concerns the CT's header."""
    variables = {variable.name: variable for variable in schema.variables}
    for name in _ABOUT_IMAGE:
        if name in values and name in variables and from_image.get(name) is not None:
            message = _against_image(variables[name], values[name], from_image[name])
            if message:
                yield name, message


def _violated(
    relation: Relation,
    names: list[str],
    values: Mapping[str, Any],
    variables: Mapping[str, Variable],
) -> str:
    """The message, "" where the relation holds or a value that it needs is missing."""
    *parts, whole = relation.variables
    if relation.kind == "at_most":
        if whole not in names:
            return ""
        limit = values[whole] * (1 + relation.tolerance)
        above = [name for name in parts if name in names and values[name] > limit]
        named = " and ".join(f"{n} {describe(variables[n], values[n])}" for n in above)
        return named and _exceeds(named, f"{whole} {describe(variables[whole], values[whole])}")
    if len(names) < len(relation.variables):
        return ""
    if relation.kind == "sum_at_most":
        total = sum(values[name] for name in parts)
        if total <= values[whole] * (1 + relation.tolerance):
            return ""
        return _exceeds(
            f"{' and '.join(parts)}, together {describe(variables[whole], total)},",
            f"{whole} {describe(variables[whole], values[whole])}",
        )
    index, weight, height = (values[name] for name in relation.variables)
    expected = weight / (height / 100) ** 2
    if abs(index - expected) <= relation.tolerance * expected:
        return ""
    return str(
        InputError(
            f"{relation.variables[0]} {index:.4g} does not fit height and weight, which make"
            f" {expected:.4g}.",
            "Correct the wrong one, or leave it empty.",
        )
    )


def _exceeds(part: str, whole: str) -> str:
    return str(InputError(f"{part} cannot exceed {whole}.", "Correct one, or leave it empty."))


def _against_image(variable: Variable, value: Any, other: Any) -> str:
    try:
        there = _of_image(variable, other)
    except InputError:
        return ""  # A header that says nothing usable ("O", "") contradicts nothing.
    if there is None:
        return ""
    if isinstance(value, str) or isinstance(there, str):
        same = value == there
    else:
        same = abs(min(value, _OLDEST) - min(there, _OLDEST)) <= AGE_TOLERANCE
    if same:
        return ""
    return str(
        InputError(
            f"{variable.name} is {describe(variable, value)}; the CT's header says"
            f" {describe(variable, there)}.",
            "Check that the values belong to the patient of the CT.",
        )
    )


def _of_image(variable: Variable, other: Any) -> float | bool | str | None:
    text = str(other).strip()
    age = re.fullmatch(r"([0-9]{1,3})([DWMY])", text)
    if variable.kind == NUMBER and age:
        return float(age[1]) * _AGE_UNITS[age[2]] or None  # de-identified headers may have 000Y
    try:
        return parse_text(variable, text).value
    except InputError:
        return parse_text(variable, _SEXES.get(text, text)).value
