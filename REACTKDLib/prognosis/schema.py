"""Schemas of clinical variables: which ones a model knows, their units and plausible ranges.

Two are shipped (:data:`SHIPPED`); a file of the same form describes any other list. Units are
spelled as in UCUM (https://ucum.org), "1" where a number has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..resources import resource_path
from ..typed_json import FieldError, build
from .types import ClinicalSchema, Relation, Variable

__all__ = [
    "CASE",
    "SHIPPED",
    "TEXT",
    "find_variable",
    "folded",
    "load_schema",
    "schema_document",
    "schema_from_document",
]

#: Names of the shipped schemas.
SHIPPED = ("chronic_liver_58", "hcc_survival_49")
#: Columns and keys that are no variables: the name of a case, and free text.
CASE, TEXT = "case", "text"

KINDS = NUMBER, FLAG, CATEGORY = ("number", "flag", "category")
_RELATIONS = ("at_most", "sum_at_most", "body_mass_index")
_MAX_BYTES = 1 << 20
_MAX_VARIABLES = 2000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SIGNS = str.maketrans("µμ²³⁵⁶⁹¹", "uu235691", "×·")


def load_schema(path_or_name: Path | str) -> ClinicalSchema:
    """The schema of a JSON file, or the shipped one of that name (:data:`SHIPPED`).

    Raises
    ------
    InputError : no such schema, not readable, not JSON, or it contradicts itself; the message says
        where.
    """
    path = Path(path_or_name)
    if str(path_or_name) in SHIPPED:
        path = resource_path(f"Schemas/{path_or_name}.json")
    elif not path.is_file():
        raise InputError(
            f"There is no clinical schema {str(path_or_name)!r}.",
            f"Give a JSON file, or one of {', '.join(SHIPPED)}.",
        )
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise FieldError(f"it is larger than {_MAX_BYTES} bytes.")
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_repetition)
        return schema_from_document(document, path.name)
    except OSError as error:
        raise InputError(
            f"The clinical schema {path} cannot be read: {error.strerror or error}.",
            "Check the path.",
        ) from error
    except (ValueError, RecursionError) as error:  # FieldError and UnicodeDecodeError among them
        raise _refused(path.name, str(error)) from error


def schema_from_document(document: Any, where: str = "schema") -> ClinicalSchema:
    """The schema of a JSON object, as a model package holds one; ``where`` names it in errors.

    Raises
    ------
    InputError : a field is missing, unknown or of the wrong type, or the schema contradicts itself.
    """
    try:
        schema: ClinicalSchema = build(ClinicalSchema, document, "schema")
    except (FieldError, RecursionError) as error:
        raise _refused(where, str(error)) from error
    problems = [*_name_problems(schema), *_relation_problems(schema)]
    for variable in schema.variables:
        problems += [f"{variable.name}: {problem}." for problem in _problems(variable)]
    if problems:
        raise _refused(where, " ".join(problems[:5]))
    return schema


def schema_document(schema: ClinicalSchema) -> dict[str, Any]:
    """The JSON object of a schema, without fields that have their default value."""
    document = {
        "name": schema.name,
        "title": schema.title,
        "comment": schema.comment,
        "variables": [_fields(variable) for variable in schema.variables],
        "relations": [asdict(relation) for relation in schema.relations],
    }
    return json.loads(json.dumps(document))  # lists for tuples


def _fields(variable: Variable) -> dict[str, Any]:
    plain = Variable(variable.name, variable.title, variable.kind)
    return {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in vars(variable).items()
        if name in ("name", "title", "kind") or value != getattr(plain, name)
    }


def find_variable(schema: ClinicalSchema, name: str) -> Variable | None:
    """The variable that a file calls ``name``: its name, title or alias.

    Case, spaces and punctuation do not count. None where there is none.
    """
    return name_index(schema).get(folded(name))


def name_index(schema: ClinicalSchema) -> dict[str, Variable]:
    """Folded name, title or alias -> variable, for the names of many cells."""
    return {name: variable for variable in schema.variables for name in _names(variable)}


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.translate(_SIGNS).casefold())


def folded_unit(unit: str) -> str:
    """A unit as people type it, made comparable: ``10^9/L``, ``x10*9/l``, ``10⁹/l`` are one."""
    text = re.sub(r"\s+", "", unit.translate(_SIGNS).casefold())
    return re.sub(r"^x?(10)(?:\^|\*\*|e)?\*?(?=\d)", r"\1*", text)


def unit_factor(variable: Variable, unit: str) -> float | None:
    """What makes a value in ``unit`` one in the variable's own; None for an unknown unit."""
    units = {folded_unit(name): factor for name, factor in variable.other_units.items()}
    return (units | {folded_unit(variable.unit): 1.0}).get(folded_unit(unit))


def _names(variable: Variable) -> set[str]:
    return {folded(name) for name in (variable.name, variable.title, *variable.aliases)}


def _name_problems(schema: ClinicalSchema) -> Iterator[str]:
    if not 1 <= len(schema.variables) <= _MAX_VARIABLES:
        yield f"it has {len(schema.variables)} variables, not 1 to {_MAX_VARIABLES}."
    seen: dict[str, str] = {CASE: CASE, TEXT: TEXT}
    for variable in schema.variables:
        for name in sorted(_names(variable)):
            if name in seen:
                yield f"{variable.name} and {seen[name]} share the name {name!r}."
            seen[name] = variable.name


def _problems(variable: Variable) -> Iterator[str]:
    if not _NAME.fullmatch(variable.name):
        yield "a name has lower case letters, digits and underscores, 64 at most"
    if "" in _names(variable):
        yield "a name, title or alias has no letter"
    if variable.kind not in KINDS:
        yield f"the kind {variable.kind!r} is none of {', '.join(KINDS)}"
    elif variable.kind == NUMBER:
        yield from _number_problems(variable)
    elif variable.unit or variable.other_units or variable.plausible or variable.logarithmic:
        yield f"a {variable.kind} has no unit, range or logarithm"
    texts = [text.strip().casefold() for text in variable.categories]
    if variable.kind == CATEGORY and (
        len(texts) < 2 or len(set(texts)) < len(texts) or "" in texts
    ):
        yield "a category needs two or more categories, all different"
    if variable.kind != CATEGORY and (texts or variable.codes):
        yield "only a category has categories and codes"
    codes = [code.strip().casefold() for code in variable.codes]
    if not set(variable.codes.values()) <= set(variable.categories):
        yield "a code stands for a category that is not there"
    if len(set(codes)) < len(codes) or set(codes) & set(texts):
        yield "a code is there twice, or is a category"


def _number_problems(variable: Variable) -> Iterator[str]:
    if not variable.unit.strip():
        yield 'a number needs a unit, "1" where it has none'
    if variable.plausible is None or not variable.plausible[0] < variable.plausible[1]:
        yield "a number needs a plausible range, the lower end first"
    elif variable.logarithmic and variable.plausible[0] <= 0:
        yield "what is scaled as a logarithm has a positive range"
    if any(not 1e-12 < factor < 1e12 for factor in variable.other_units.values()):
        yield "the factor of a unit is a positive number"
    units = [folded_unit(unit) for unit in (variable.unit, *variable.other_units)]
    if len(set(units)) < len(units) or "" in units:
        yield "a unit is there twice, or has no name"


def _relation_problems(schema: ClinicalSchema) -> Iterator[str]:
    numbers = {v.name: v.unit for v in schema.variables if v.kind == NUMBER}
    for relation in schema.relations:
        names = relation.variables
        if relation.kind not in _RELATIONS:
            yield f"the relation {relation.kind!r} is none of {', '.join(_RELATIONS)}."
        elif len(names) < 2 or len(set(names)) < len(names) or not set(names) <= set(numbers):
            yield f"the relation {relation.kind} of {', '.join(names)} needs two or more numbers."
        elif not 0 <= relation.tolerance < 10:
            yield f"the tolerance of the relation {relation.kind} is {relation.tolerance}."
        elif not _units_fit(relation, [numbers[name] for name in names]):
            yield f"the units of the relation {relation.kind} of {', '.join(names)} do not fit."


def _units_fit(relation: Relation, units: list[str]) -> bool:
    if relation.kind == "body_mass_index":
        return units == ["kg/m2", "kg", "cm"]
    return len(set(units)) == 1


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise FieldError("a key is there twice.")
    return document


def _refused(where: str, problem: str) -> InputError:
    return InputError(
        f"The clinical schema {where} cannot be used: {problem}",
        "docs/clinical_input.md describes the fields.",
    )
