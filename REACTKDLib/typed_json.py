"""Frozen dataclasses from JSON: every field, no other, each of its declared type."""

from __future__ import annotations

import dataclasses
import reprlib
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from .types import frozen_mapping

_LARGEST = sys.float_info.max


class FieldError(ValueError):
    """A field is missing, unknown or of the wrong type; the text names it and its value."""


def build(cls: type, fields: Any, where: str) -> Any:
    """Make the dataclass ``cls`` from a JSON object; ``where`` names it in errors.

    Lists become tuples, objects become dataclasses or read-only mappings, whole numbers floats
    where a float is declared. Fields with a default may be left out.

    Raises
    ------
    FieldError : not an object, a field missing, unknown or of the wrong type, at any depth.
    """
    if not isinstance(fields, dict):
        raise FieldError(f"{where} is {reprlib.repr(fields)}, not a table.")
    known = {f.name: f for f in dataclasses.fields(cls)}
    needed = {
        name
        for name, f in known.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    unknown, missing = sorted(set(fields) - set(known)), sorted(needed - set(fields))
    if unknown or missing:
        raise FieldError(f"section {where}: unknown fields {unknown}, missing fields {missing}.")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _convert(hints[name], v, f"{where}.{name}") for name, v in fields.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    arguments = typing.get_args(hint)
    if hint is Any:
        return value
    if types.NoneType in arguments:
        return None if value is None else _convert(arguments[0], value, where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    origin = typing.get_origin(hint) or hint
    if origin is tuple and isinstance(value, list):
        repeated = arguments[-1] is Ellipsis
        if repeated or len(arguments) == len(value):
            hints = [arguments[0]] * len(value) if repeated else arguments
            pairs = enumerate(zip(hints, value, strict=True))
            return tuple(_convert(h, v, f"{where}[{n}]") for n, (h, v) in pairs)
    elif origin is Mapping and isinstance(value, dict):
        return frozen_mapping(
            {k: _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
        )
    elif origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= _LARGEST:  # neither NaN nor infinite, which JSON does not have
            return float(value)
    elif origin in (int, str, bool) and type(value) is origin:
        return value
    raise FieldError(
        f"field {where} is {reprlib.repr(value)}, not {getattr(hint, '__name__', hint)}."
    )
