"""Clinical values as a person wrote them, before they are checked: what a panel edits and keeps.

An entry keeps the text and the unit beside it, right or wrong, so that a wrong one can be shown at
its field and corrected. Nothing is converted here; :func:`check` says what becomes of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ClinicalValueError, InputError
from ..types import frozen_mapping
from .clinical_files import file_cases, file_content
from .clinical_formats import MAX_LINE, broken, csv_cases
from .clinical_input import MAX_TEXT, Checked, Entry, check_entries, find_entry, written_text
from .clinical_values import describe, is_missing, parse_value, split_unit
from .schema import CATEGORY, FLAG, NUMBER, TEXT, unit_factor
from .types import ClinicalSchema, Variable

__all__ = [
    "CONTRADICTS",
    "GIVEN",
    "MISSING",
    "REFUSED",
    "Check",
    "Entries",
    "FieldState",
    "Found",
    "check",
    "entries_from_cases",
    "file_patients",
    "pasted_patients",
    "typed",
    "unit_choices",
]

#: States of a field.
MISSING, GIVEN, REFUSED, CONTRADICTS = ("missing", "given", "refused", "contradicts")
#: Characters of what :meth:`Entries.from_json` reads.
_MAX_JSON = 4 << 20


@dataclass(frozen=True)
class Entries:
    """What is written of one patient.

    ``values`` : variable -> its value and unit as written; the unit is "" for a flag or category.
    A variable that is not in it is missing. ``text`` : the free text.
    """

    values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen_mapping(self.values))

    def with_value(self, name: str, value: str, unit: str = "") -> Entries:
        """These with another value of one variable; an empty one makes it missing."""
        values = dict(self.values)
        values.pop(name, None)
        if value.strip():
            values[name] = (value, unit)
        return Entries(values, self.text)

    def to_json(self) -> str:
        """As a text that a parameter keeps; "" where nothing is written."""
        if not self.values and not self.text:
            return ""
        values = {name: list(pair) for name, pair in self.values.items()}
        return json.dumps({"values": values, "text": self.text}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Entries:
        """What :meth:`to_json` made.

        Raises
        ------
        InputError : not of that form.
        """
        if not text:
            return Entries()
        try:
            document: Any = json.loads(text) if len(text) <= _MAX_JSON else None
            values = {name: (value, unit) for name, (value, unit) in document["values"].items()}
            words = [document["text"], *(word for pair in values.values() for word in pair)]
            if not all(isinstance(word, str) for word in words):
                raise TypeError("not text")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(
                "The clinical values that the scene keeps cannot be read.",
                "Clear them, and give them again.",
            ) from error
        return Entries(values, document["text"])


@dataclass(frozen=True)
class FieldState:
    """What became of one field: one of :data:`MISSING`, :data:`GIVEN`, :data:`REFUSED` (the value
    itself) and :data:`CONTRADICTS` (another value, or the CT's header); ``message`` says why;
    ``shown`` is the value in the schema's unit where it was written in another."""

    state: str
    message: str = ""
    shown: str = ""


@dataclass(frozen=True)
class Check:
    """All fields: ``states`` by variable, ``text`` the state of the free text, and ``checked``.

    ``unknown`` : names that the schema does not have, with the message; they are not used.
    """

    states: Mapping[str, FieldState]
    text: FieldState
    checked: Checked
    unknown: Mapping[str, str]

    @property
    def known(self) -> int:
        """How many variables have a value that can be used."""
        return len(self.checked.record.values)

    @property
    def problems(self) -> tuple[str, ...]:
        """The variables (and ``text``) that must be corrected before anything is computed."""
        bad = (REFUSED, CONTRADICTS)
        names = [name for name, field in self.states.items() if field.state in bad]
        return (*names, *([TEXT] if self.text.state in bad else []))

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is written."""
        return self.text.state == MISSING and all(
            field.state == MISSING for field in self.states.values()
        )


def check(
    schema: ClinicalSchema, entries: Entries, from_image: Mapping[str, Any] | None = None
) -> Check:
    """What becomes of every field; ``from_image`` as in :func:`.clinical_input.check_record`."""
    own = {v.name: _own_state(v, entries.values.get(v.name)) for v in schema.variables}
    given = [(name, *entries.values[name]) for name in own if name in entries.values]
    checked = check_entries(schema, given, text=entries.text, from_image=from_image)
    for name, field_state in own.items():
        if field_state.state == GIVEN and name in checked.refused:
            own[name] = FieldState(CONTRADICTS, checked.refused[name], field_state.shown)
    text = FieldState(GIVEN if entries.text.strip() else MISSING)
    if TEXT in checked.refused and entries.text.strip():
        text = FieldState(REFUSED, checked.refused[TEXT])
    others = {
        name: f"{name!r} is no variable of {schema.name}." for name in entries.values.keys() - own
    }
    return Check(own, text, checked, dict(sorted(others.items())))


def _own_state(variable: Variable, entry: tuple[str, str] | None) -> FieldState:
    if entry is None or is_missing(entry[0]):
        return FieldState(MISSING)
    try:
        value = parse_value(variable, *entry)
    except ClinicalValueError as error:
        return FieldState(REFUSED, str(error))
    other = variable.kind == NUMBER and unit_factor(variable, entry[1] or variable.unit) != 1.0
    return FieldState(GIVEN, shown=describe(variable, value) if other else "")


def typed(variable: Variable, text: str, unit: str) -> tuple[str, str]:
    """Value and unit of what someone types into a number's field, ``unit`` standing beside it.

    A unit in the text is taken as the unit, where the variable has it: it is the later word.
    """
    number, written = split_unit(text)
    if not written:
        return text, unit
    return (number, written) if unit_factor(variable, written) is not None else (text, "")


def unit_choices(variable: Variable) -> tuple[str, ...]:
    """The units of a number, its own first, one spelling of each."""
    factors: dict[float, str] = {1.0: variable.unit}
    for unit, factor in variable.other_units.items():
        factors.setdefault(factor, unit)
    return tuple(factors.values())


# Tables -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a table says of one patient.

    ``unknown`` : names that are no variables, with the message. ``assumed`` : numbers without a
    unit that could have been in another; they are taken to be in the schema's.
    """

    entries: Entries
    unknown: Mapping[str, str]
    assumed: tuple[str, ...]


def pasted_patients(text: str) -> dict[str, list[Entry]]:
    """Patients of what is pasted from a spreadsheet: rows, or names and values in columns.

    Raises
    ------
    InputError : no table, or too large.
    """
    if len(text) > MAX_LINE:
        raise broken("The pasted text", f"it has more than {MAX_LINE} characters")
    return _by_case(csv_cases(text, "The pasted text"), "The pasted text")


def file_patients(path: Path) -> dict[str, list[Entry]]:
    """Patients of a ``.csv`` or ``.json`` file, or the one of whom a ``.txt`` file tells.

    Raises
    ------
    InputError : not readable, not of its format, too large, no patient.
    """
    content = file_content(path)
    if path.suffix.lower() == ".txt":
        return {"": [(TEXT, content, "")]}
    return _by_case(file_cases(content, path.suffix.lower(), path.name), path.name)


def _by_case(cases: Iterable[tuple[str, list[Entry]]], where: str) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for number, (case, entries) in enumerate(cases, 1):
        name = case or f"row {number}"
        if name in found:
            raise broken(where, f"the case {case!r} is there twice")
        found[name] = entries
    if not found:
        raise broken(where, "it has no patient")
    return found


def entries_from_cases(schema: ClinicalSchema, written: Iterable[Entry]) -> Found:
    """The entries of one patient of a table, as they are written.

    Raises
    ------
    InputError : a variable or the text is given twice with a value; nothing is taken then.
    """
    entries, text = Entries(), ""
    unknown: dict[str, str] = {}
    assumed: list[str] = []
    for name, value, unit in written:
        variable, bracket = find_entry(schema, name)
        if variable is None and name.strip().casefold() != TEXT:
            unknown.update(check_entries(schema, [(name, value, unit)]).refused)
            continue
        if variable is None:
            said = "" if value is None else str(value)
            if said.strip() and text.strip():
                raise InputError("The clinical text is given twice.", "Leave one of them.")
            text = said if said.strip() else text
            continue
        said, stated = written_text(variable, value, unit or bracket)
        if is_missing(said):
            continue
        if variable.name in entries.values:
            raise InputError(f"{variable.name} is given more than once.", "Leave one of them.")
        said, stated = _placed(variable, said, stated)
        if variable.kind == NUMBER and not stated and not split_unit(said)[1]:
            stated = variable.unit
            if len(unit_choices(variable)) > 1:
                assumed.append(variable.name)
        entries = entries.with_value(variable.name, said, stated)
    return Found(Entries(entries.values, text[: MAX_TEXT + 1]), unknown, tuple(assumed))


def _placed(variable: Variable, said: str, unit: str) -> tuple[str, str]:
    """A value as its field has it: the unit beside the number, a flag or category by its name."""
    number, written = split_unit(said)
    if variable.kind == NUMBER and written and not unit and unit_factor(variable, written):
        return number, written
    if variable.kind in (FLAG, CATEGORY) and not unit:
        try:
            return describe(variable, parse_value(variable, said)), ""
        except ClinicalValueError:
            return said, ""  # shown as it is, with the reason
    return said, unit
