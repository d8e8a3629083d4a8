"""One clinical value: from what a person wrote to a number in the schema's unit, or why not.

Nothing is guessed: a value that is impossible in its unit and possible in another is refused with
the question whether that one is meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import ClinicalValueError, InputError
from .schema import CATEGORY, FLAG, folded_unit, unit_factor
from .types import Variable

__all__ = [
    "MAX_CELL",
    "MISSING",
    "Parsed",
    "describe",
    "is_missing",
    "parse_text",
    "parse_value",
    "split_unit",
]

#: What stands for a missing value, whatever its case. ``none`` and ``-`` do not: one is a category
#: of some variables, the other may be a negative finding.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "missing", "?"})
#: Characters of one value.
MAX_CELL = 200

_YES = frozenset({"yes", "y", "true", "1", "positive", "present"})
_NO = frozenset({"no", "n", "false", "0", "negative", "absent"})
# ASCII digits alone: float() takes other scripts, underscores, "infinity" and "nan" as well.
_NUMBER = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?)(.*)", re.S)
_COMMA = re.compile(r"[+-]?[0-9][0-9. ]*,[0-9]")
#: Units as people read them; others are shown as they are.
_SHOWN = {"1": "", "a": "years", "%": "%", "{pack}/a": "packs per year"}
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Parsed:
    """A value that can be used.

    ``value`` : number in the variable's unit, bool or category; None if missing. ``converted_from``
    : the unit that it was written in, if its number changed. ``assumed`` : no unit was written.
    """

    value: float | bool | str | None
    converted_from: str = ""
    assumed: bool = False


def parse_value(
    variable: Variable, text: str, unit: str | None = None
) -> float | bool | str | None:
    """The value that ``text`` says, as a panel asks for it while someone types; None if missing.

    Parameters
    ----------
    text : ``41``, ``4.1 g/dl``, ``yes``, ``female``; one of :data:`MISSING` for a missing value.
    unit : unit of a number that ``text`` does not say itself; None or "" for the schema's.

    Raises
    ------
    ClinicalValueError : not a value of this variable, a unit that it does not have, outside of its
        plausible range. ``fields`` has the message under the variable's name.
    """
    try:
        return parse_text(variable, text, unit).value
    except InputError as error:
        raise ClinicalValueError(
            error.message, error.advice, {variable.name: str(error)}
        ) from error


def is_missing(text: str) -> bool:
    """Whether a cell says that the value is missing."""
    return text.strip().casefold() in MISSING


def parse_text(variable: Variable, text: str, unit: str | None = None) -> Parsed:
    """As :func:`parse_value`, with what was done to the number; raises InputError."""
    text, unit = text.strip(), (unit or "").strip()
    if len(text) + len(unit) > MAX_CELL:
        raise InputError(
            f"{variable.name} has {len(text) + len(unit)} characters, more than {MAX_CELL}.",
            "Give one value; free text is a field of its own.",
        )
    if is_missing(text):
        return Parsed(None)
    if variable.kind not in (FLAG, CATEGORY):
        return _number(variable, text, unit)
    if unit:
        raise InputError(
            f"{variable.name} has no unit, and {unit!r} is given.", "Leave the unit out."
        )
    return Parsed(_flag(variable, text) if variable.kind == FLAG else _category(variable, text))


def split_unit(text: str) -> tuple[str, str]:
    """Number and unit of ``4.1 g/dl``; the text and "" where it does not begin with a number or has
    no unit."""
    match = None if _COMMA.match(text.strip()) else _NUMBER.fullmatch(text.strip())
    if match is None or not match[2].strip():
        return text, ""
    return match[1], match[2].strip()


def _number(variable: Variable, text: str, unit: str) -> Parsed:
    match = _NUMBER.fullmatch(text)
    if _COMMA.match(text):
        raise InputError(
            f"{variable.name} is {text!r}, with a comma.",
            "Write a decimal point, as in 4.1, and nothing between thousands.",
        )
    if match is None:
        raise InputError(
            f"{variable.name} is {text!r}, which is no number.",
            "Write digits, as in 4.1, or leave it empty if it is missing.",
        )
    number, written = match[1], match[2].strip()
    if written and unit and folded_unit(written) != folded_unit(unit):
        raise InputError(
            f"{variable.name} has two units, {written!r} and {unit!r}.", "Give one of them."
        )
    given = written or unit
    factor = unit_factor(variable, given) if given else 1.0
    if factor is None:
        raise InputError(
            f"{variable.name} is given in {given!r}, a unit that it does not have.",
            f"Its units are {', '.join((variable.unit, *variable.other_units))}.",
        )
    value = float(number) * factor
    _check_range(variable, number, given or variable.unit, value)
    others = any(other != 1.0 for other in variable.other_units.values())
    return Parsed(value, given if factor != 1.0 else "", not given and others)


def _check_range(variable: Variable, number: str, unit: str, value: float) -> None:
    low, high = variable.plausible or (float("-inf"), float("inf"))
    if low <= value <= high:
        return
    units = {variable.unit: 1.0, **variable.other_units}
    fitting: dict[float, str] = {}  # one spelling of each unit
    for other, factor in units.items():
        if low <= float(number) * factor <= high:
            fitting.setdefault(factor, other)
    if fitting:
        raise InputError(
            f"{variable.name} {number} {unit}: wrong unit suspected.",
            " ".join(f"Is it {other}? Then write {number} {other}." for other in fitting.values()),
        )
    raise InputError(
        f"{variable.name} {number} {unit} is outside of {low:.10g} to {high:.10g} {variable.unit}.",
        "Correct it, or leave it empty.",
    )


def _whole(text: str) -> str:
    """``1`` for ``1.0``: tables with missing values write flags and codes as decimals."""
    return re.sub(r"\.0+$", "", text) if re.fullmatch(r"[0-9]+\.0+", text) else text


def _flag(variable: Variable, text: str) -> bool:
    word = _whole(text.casefold())
    if word not in _YES | _NO:
        raise InputError(
            f"{variable.name} is {text!r}, neither yes nor no.",
            "Write yes or no, or leave it empty if it is missing.",
        )
    return word in _YES


def _category(variable: Variable, text: str) -> str:
    words = {code.strip().casefold(): category for code, category in variable.codes.items()}
    words |= {category.strip().casefold(): category for category in variable.categories}
    word = _whole(text.casefold())
    if word not in words:
        raise InputError(
            f"{variable.name} is {text!r}, none of its categories.",
            f"They are {', '.join(variable.categories)}; leave it empty if it is missing.",
        )
    return words[word]


def describe(variable: Variable, value: Any) -> str:
    """A value as a person reads it: ``41 g/l``, ``yes``, ``female``; ``missing`` for None."""
    if value is None:
        return "missing"
    if variable.kind == FLAG:
        return "yes" if value else "no"
    if variable.kind == CATEGORY:
        return str(value)
    return f"{float(value):.6g} {shown_unit(variable.unit)}".strip()


def shown_unit(unit: str) -> str:
    """A unit as a person reads it: ``10⁹/l``, ``µmol/l``, ``cm²``, ``years``."""
    if unit in _SHOWN:
        return _SHOWN[unit]
    shown = re.sub(r"10\*([0-9]+)", lambda m: "10" + m[1].translate(_SUPERSCRIPT), unit)
    shown = re.sub(r"(?<=[a-z])([23])", lambda m: m[1].translate(_SUPERSCRIPT), shown)
    return re.sub(r"\bu(?=mol|g\b|l\b|kat|m\b)", "µ", shown)
