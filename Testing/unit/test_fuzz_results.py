"""Damaged results, and names that would be markup or formulas in what is written."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fuzzing import damaged, fuzz, value_or_error
from hypothesis import given
from hypothesis import strategies as st
from report_cases import PNG, TITLES, make_case, region

from REACTKDLib.case_report import case_report_html
from REACTKDLib.region_csv import write_region_csv
from REACTKDLib.report import (
    ATTENTION,
    GRAPH,
    PROVENANCE,
    REGIONS,
    RESULT,
    read_result,
    write_result,
)
from REACTKDLib.types import Notice


@pytest.fixture(scope="module")
def good(phantom_case, tmp_path_factory) -> dict[str, bytes]:
    folder = write_result(phantom_case, tmp_path_factory.mktemp("results") / "case")
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def use(folder: Path) -> None:
    """Reads a result and writes from it what people read."""
    case = read_result(folder)
    assert all(math.isfinite(p) for p in case.probabilities.values())
    assert case_report_html(case, {}, {})


@pytest.mark.parametrize("name", [RESULT, GRAPH, PROVENANCE, ATTENTION, REGIONS])
@given(data=st.data())
@fuzz
def test_a_damaged_result(name, good, data):
    header = 1200 if name in (ATTENTION, REGIONS) else None
    value_or_error(use, good | {name: data.draw(damaged(good[name], header=header))})


_ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=9),
    st.sampled_from([[], {}, [[1]], {"a": 1}, "../..", 10**400]),
)  # fmt: skip


@pytest.mark.parametrize("name", [RESULT, GRAPH, PROVENANCE])
@given(data=st.data())
@fuzz
def test_a_result_with_odd_values(name, good, data):
    document = json.loads(good[name])
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(_places(document))))
        if data.draw(st.booleans()):
            holder[key] = data.draw(_ODD)
        else:
            del holder[key]
    value_or_error(use, good | {name: json.dumps(document).encode()})


def _places(value: Any) -> Any:
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])
    if keys:
        yield from ((value, key) for key in list(keys)[:40])


@pytest.mark.parametrize("name", [RESULT, GRAPH, PROVENANCE])
def test_documents_nested_without_end(name, good):
    assert value_or_error(use, good | {name: b"[" * 100_000}) is None
    assert value_or_error(use, good | {name: b'{"a":' * 100_000}) is None


# What is written ---------------------------------------------------------------------------------

#: What would be markup, script, a style, a formula or a new line.
_EVIL = st.one_of(
    st.sampled_from([
        "<script>alert(1)</script>", "</td><td>", "\"><img src=x onerror=alert(1)>", "'onload='x",
        "</style><script>", "<!--", "]]>", "&lt;script&gt;", "javascript:alert(1)", "\x00<b>",
        "\u202e<i>", "=HYPERLINK(\"http://x\")", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1",
        "\n=1", " =1", "\uff1d1", "a\nb,\"c\"", "|cmd", "\ud800",
    ]),
    st.text(max_size=20),
)  # fmt: skip


class _Tags(HTMLParser):
    """Counts tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))


def tags_of(html: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = _Tags()
    parser.feed(html)
    return parser.seen


def case_named(text: str, other: str) -> Any:
    """A case whose every name is ``text`` or ``other``."""
    one, share = region(1, "parenchyma", -0.25)
    two, more = region(2, "lesion", 1.5)
    case = make_case(
        (dataclasses.replace(one, name=text), share), (dataclasses.replace(two, name=other), more)
    )
    provenance = json.loads(json.dumps(dict(case.provenance)))
    provenance["segments"] = [{"label": 1, "name": text, "role": other}]
    provenance["inputs"] = [{"role": other, "path": f"{text}.nii", "sha256": text}]
    provenance["model"] = {"name": text, "version": other, "weights_sha256": text}
    return dataclasses.replace(
        case,
        case_id=other,
        task_title=text,
        classes=tuple(dataclasses.replace(c, title=text) for c in case.classes),
        notices=(Notice("x", "warning", text),),
        provenance=provenance,
    )


@given(text=_EVIL, other=_EVIL)
@fuzz
def test_names_are_no_markup(text, other):
    plain = tags_of(case_report_html(case_named("a", "b"), {"view": PNG}, TITLES))
    evil = tags_of(case_report_html(case_named(text, other), {text: PNG}, {"ct": other}))
    # The same page but for lines that an empty name leaves out; nothing that the plain one lacks.
    assert set(evil) <= set(plain)
    assert abs(len(evil) - len(plain)) <= 30


@given(text=_EVIL, other=_EVIL)
@fuzz
def test_names_are_no_formulas(text, other, tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "regions.csv"
    case = case_named(text, other)
    write_region_csv(path, case)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert len(rows) == 3
    assert len({len(row) for row in rows}) == 1
    for row in rows[1:]:
        for cell in row[:3]:
            assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))
            assert cell[:1] >= " " or not cell


def test_a_file_name_that_is_no_text(phantom_case, tmp_path):
    """Bytes of a path that are no UTF-8: Python keeps them as lone surrogates."""
    provenance = json.loads(json.dumps(dict(phantom_case.provenance)))
    provenance["inputs"] = [{"role": "ct", "path": "/data/\udcff.nii", "sha256": "0" * 64}]
    case = dataclasses.replace(phantom_case, provenance=provenance, case_id="a\udce4")
    again = read_result(write_result(case, tmp_path / "out"))
    assert again.provenance["inputs"][0]["path"] == "/data/\udcff.nii"
    assert again.case_id == "a\udce4"
