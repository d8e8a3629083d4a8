"""Dataclasses from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from REACTKDLib.typed_json import FieldError, build


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int]
    scale: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    many: Mapping[str, Inner]
    list_of: tuple[str, ...]
    flag: bool
    maybe: float | None = None
    anything: Mapping[str, Any] = field(default_factory=dict)


DOCUMENT: dict[str, Any] = {
    "name": "a",
    "inner": {"size": [1, 2], "scale": 3},
    "many": {"x": {"size": [3, 4]}},
    "list_of": ["p", "q"],
    "flag": True,
    "anything": {"k": [1, {"m": None}]},
}


def test_nested_tables_become_dataclasses_of_the_declared_types():
    result = build(Outer, DOCUMENT, "here")
    assert result.inner == Inner((1, 2), 3.0)
    assert isinstance(result.inner.scale, float)
    assert result.many["x"] == Inner((3, 4))
    assert result.list_of == ("p", "q")
    assert result.maybe is None
    assert result.anything["k"] == [1, {"m": None}]
    with pytest.raises(TypeError):
        result.many["y"] = Inner((0, 0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "here.name is 3, not str"),
        ({"flag": 1}, "here.flag is 1"),
        ({"inner": [1]}, "here.inner is .1., not a table"),
        ({"inner": {"size": [1]}}, "here.inner.size"),
        ({"inner": {"size": [1, True]}}, r"here.inner.size\[1\] is True"),
        ({"inner": {"size": [1, 2], "colour": 1}}, r"here.inner: unknown fields \['colour'\]"),
        ({"many": {"x": {}}}, r"here.many.x: unknown fields \[\], missing fields \['size'\]"),
        ({"maybe": "1"}, "here.maybe is '1'"),
        ({"list_of": "pq"}, "here.list_of is 'pq'"),
    ],
)
def test_what_does_not_fit_is_named(change, said):
    with pytest.raises(FieldError, match=said):
        build(Outer, DOCUMENT | change, "here")


def test_a_missing_field_is_named():
    document = {k: v for k, v in DOCUMENT.items() if k != "name"}
    with pytest.raises(FieldError, match=r"missing fields \['name'\]"):
        build(Outer, document, "here")
