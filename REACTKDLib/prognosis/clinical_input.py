"""A record of clinical values, checked: every value, and all of them together.

All problems of a record are reported at once, each at its variable. A value is refused or used; it
is never changed but for a conversion that its written unit asks for, and a notice says so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from ..errors import ClinicalValueError, InputError
from ..types import Notice
from .clinical_relations import against_image, contradictions
from .clinical_values import Parsed, is_missing, parse_text, parse_value
from .schema import TEXT, folded, name_index
from .types import ClinicalRecord, ClinicalSchema, Variable

__all__ = [
    "MAX_NAMES",
    "MAX_TEXT",
    "Checked",
    "check_against_image",
    "check_entries",
    "check_record",
    "checked_record",
    "find_entry",
    "knows",
    "parse_value",
    "record_from_text",
    "written_text",
]

#: Names that one record may give, and characters of its free text.
MAX_NAMES = 2000
MAX_TEXT = 100_000
_SHOWN_NAME = 60

#: Name, value and unit ("" for none) as written.
Entry = tuple[str, Any, str]


@dataclass(frozen=True)
class Checked:
    """A record, and what of it was refused: variable or unknown name -> message."""

    record: ClinicalRecord
    refused: Mapping[str, str] = field(default_factory=dict)


def check_record(
    schema: ClinicalSchema,
    raw: Mapping[str, Any],
    *,
    text: str = "",
    from_image: Mapping[str, Any] | None = None,
) -> ClinicalRecord:
    """The record of a patient.

    Parameters
    ----------
    raw : variable -> value as written. Names as :func:`REACTKDLib.prognosis.schema.find_variable`
        takes them, with a unit in brackets if wanted (``albumin [g/dl]``). Values as
        :func:`parse_value` takes them; also numbers, booleans, None, and ``{"value": 4.1, "unit":
        "g/dl"}``. The key ``text`` is free text.
    text : free text about the patient, "" where there is none.
    from_image : what the CT's header says of variables, such as ``{"age": "061Y", "sex": "M"}``;
        compared, never used instead of a missing value.

    Raises
    ------
    ClinicalValueError : with all problems of the record.
    """
    entries = [(name, value, "") for name, value in raw.items()]
    return checked_record(schema, entries, text=text, from_image=from_image)


def checked_record(
    schema: ClinicalSchema,
    entries: Iterable[Entry],
    *,
    text: str = "",
    from_image: Mapping[str, Any] | None = None,
) -> ClinicalRecord:
    """As :func:`check_record`, from names that may repeat.

    Raises
    ------
    ClinicalValueError : with all problems of the record.
    """
    checked = check_entries(schema, entries, text=text, from_image=from_image)
    if checked.refused:
        raise refusal(checked.refused)
    return checked.record


def check_against_image(
    schema: ClinicalSchema, record: ClinicalRecord, from_image: Mapping[str, Any]
) -> None:
    """Refuse a record, checked before the CT was at hand, that the CT's header contradicts;
    ``from_image`` as in :func:`check_record`.

    Raises
    ------
    ClinicalValueError : with every contradiction.
    """
    refused = dict(against_image(schema, record.values, from_image))
    if refused:
        raise refusal(refused)


def record_from_text(text: str) -> ClinicalRecord:
    """The record of a patient of whom only free text is given.

    Raises
    ------
    ClinicalValueError : empty, or longer than ``MAX_TEXT`` characters.
    """
    try:
        return ClinicalRecord(text=_checked_text(text))
    except InputError as error:
        raise ClinicalValueError(error.message, error.advice, {TEXT: str(error)}) from error


def refusal(refused: Mapping[str, str], where: str = "") -> ClinicalValueError:
    """The error that says all of ``refused``; ``where`` is a row of a table, say."""
    first = " ".join(list(refused.values())[:5])
    more = f" And {len(refused) - 5} more." if len(refused) > 5 else ""
    return ClinicalValueError(
        f"{where}Clinical values cannot be used. {first}{more}",
        "" if where == "" else "Nothing was read.",
        refused,
    )


def check_entries(
    schema: ClinicalSchema,
    entries: Iterable[Entry],
    *,
    text: str = "",
    from_image: Mapping[str, Any] | None = None,
) -> Checked:
    """As :func:`check_record`, from names that may repeat; what cannot be used is left out and
    told in :attr:`Checked.refused`.

    Raises
    ------
    InputError : more than ``MAX_NAMES`` names.
    """
    index = name_index(schema)
    refused: dict[str, str] = {}
    given: dict[str, list[tuple[Any, str]]] = {}
    texts = [text] if text else []
    for count, (name, value, unit) in enumerate(entries):
        if count >= MAX_NAMES:
            raise InputError(
                f"A clinical record has more than {MAX_NAMES} names.", "Give the model's variables."
            )
        variable, bracket = _find(index, name)
        if variable is not None:
            given.setdefault(variable.name, []).append((value, unit or bracket))
        elif name.strip().casefold() == TEXT:
            texts += [value] if value is not None and str(value).strip() else []
        else:
            refused[_shown(name)] = _unknown(schema, name, index if len(refused) < 20 else {})
    parsed: dict[str, Parsed] = {}
    for variable in schema.variables:
        try:
            if variable.name in given:
                parsed[variable.name] = _one(variable, given[variable.name])
        except InputError as error:
            refused[variable.name] = str(error)
    values = {name: p.value for name, p in parsed.items() if p.value is not None}
    for name, message in contradictions(schema, values, from_image or {}):
        refused[name] = f"{refused[name]} {message}" if name in refused else message
    values = {name: value for name, value in values.items() if name not in refused}
    free = ""
    try:
        free = _checked_text(*texts) if texts else ""
    except InputError as error:
        refused[TEXT] = str(error)
    kept = {name: parsed[name] for name in values}
    return Checked(ClinicalRecord(values, free, tuple(_notices(kept, free))), refused)


def find_entry(schema: ClinicalSchema, name: str) -> tuple[Variable | None, str]:
    """The variable of a heading such as ``albumin [g/dl]``, None for an unknown one, and the unit
    in it."""
    return _find(name_index(schema), name)


def knows(schema: ClinicalSchema, name: str) -> bool:
    """Whether :func:`check_record` finds a variable of that name; its unit may be in brackets."""
    return name.strip().casefold() == TEXT or _find(name_index(schema), name)[0] is not None


def _find(index: Mapping[str, Variable], name: str) -> tuple[Variable | None, str]:
    """The variable of a heading such as ``albumin [g/dl]``, and the unit in it."""
    if len(name) > 4 * _SHOWN_NAME:
        return None, ""
    variable = index.get(folded(name))
    match = re.fullmatch(r"([^\[(]+)[\[(]([^\[\]()]*)[\])]\s*", name)
    if variable is None and match:
        return index.get(folded(match[1])), match[2].strip()
    return variable, ""


def _one(variable: Variable, given: list[tuple[Any, str]]) -> Parsed:
    """What is given for a variable; it may be given only once, empty cells apart."""
    written = [written_text(variable, value, unit) for value, unit in given]
    filled = [pair for pair in written if not is_missing(pair[0])]
    if len(filled) > 1:
        raise InputError(
            f"{variable.name} is given {len(filled)} times:"
            f" {', '.join(' '.join(pair).strip()[:_SHOWN_NAME] for pair in filled[:5])}.",
            "Leave one of them.",
        )
    return parse_text(variable, *(filled or written)[0])


def written_text(variable: Variable, value: Any, unit: str) -> tuple[str, str]:
    """Value and unit as text; ``value`` as :func:`check_record` takes it.

    Raises
    ------
    InputError : not one value.
    """
    if isinstance(value, Mapping) and "value" in value and set(value) <= {"value", "unit"}:
        inner = value.get("unit")
        if inner is not None and not isinstance(inner, str):
            raise InputError(
                f"The unit of {variable.name} is {type(inner).__name__}, not text.",
                'Write {"value": 4.1, "unit": "g/dl"}.',
            )
        if unit and inner:  # one from the name, one beside the value: the parser compares them
            return f"{written_text(variable, value['value'], '')[0]} {inner}", unit
        return written_text(variable, value["value"], inner or unit)
    if value is None:
        return "", unit
    if isinstance(value, bool):
        return "yes" if value else "no", unit
    if isinstance(value, str):
        return value, unit
    if isinstance(value, Real):
        return repr(float(value)), unit
    raise InputError(
        f"{variable.name} is {type(value).__name__}, not one value.",
        'Write a value, or {"value": 4.1, "unit": "g/dl"}.',
    )


def _checked_text(*texts: Any) -> str:
    if len(texts) > 1:
        raise InputError(f"The clinical text is given {len(texts)} times.", "Leave one of them.")
    if not isinstance(texts[0], str):
        raise InputError(
            f"The clinical text is {type(texts[0]).__name__}, not text.", "Write it in quotes."
        )
    text = texts[0].strip()
    if not text:
        raise InputError("The clinical text is empty.", "Write it, or leave the field out.")
    if len(text) > MAX_TEXT:
        raise InputError(
            f"The clinical text has {len(text)} characters, more than {MAX_TEXT}.",
            "A language model reads some hundred words: give the relevant part.",
        )
    if "\x00" in text:
        raise InputError("The clinical text holds zero bytes.", "Give plain text.")
    return text


def _unknown(schema: ClinicalSchema, name: str, index: Mapping[str, Variable]) -> str:
    """The message of an unknown name, with the nearest of ``index``."""
    near = difflib.get_close_matches(folded(name[:_SHOWN_NAME]), index, n=4, cutoff=0.6)
    suggestions = list(dict.fromkeys(index[n].name for n in near))[:3]
    error = InputError(
        f"{_shown(name)!r} is no variable of {schema.name}.",
        f"Perhaps {' or '.join(suggestions)}?" if suggestions else "Leave it out.",
    )
    return str(error)


def _shown(name: str) -> str:
    return name if len(name) <= _SHOWN_NAME else f"{name[:_SHOWN_NAME]}…"


def _notices(parsed: Mapping[str, Parsed], text: str) -> Iterable[Notice]:
    """What was done; without the values, since notices may stand in a log."""
    converted = [f"{n} from {p.converted_from}" for n, p in parsed.items() if p.converted_from]
    assumed = [name for name, p in parsed.items() if p.assumed]
    if converted:
        what = ", ".join(converted)
        yield Notice("unit_converted", "info", f"Converted to the units of the schema: {what}.")
    if assumed:
        yield Notice(
            "unit_assumed",
            "info",
            f"Given without a unit, so in that of the schema: {', '.join(assumed)}.",
        )
    if not parsed and not text:
        yield Notice("clinical_empty", "warning", "No clinical value is given.")
