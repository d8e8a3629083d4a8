"""Damaged and hostile clinical files: a record or an error of REACTKDLib, and never a lie."""

from __future__ import annotations

import json
import math

import pytest
from fuzzing import damaged, fuzz, value_or_error
from hypothesis import given
from hypothesis import strategies as st

from REACTKDLib.errors import ClinicalValueError, InputError
from REACTKDLib.prognosis.clinical_arrays import to_array
from REACTKDLib.prognosis.clinical_files import clinical_csv, read_clinical, read_clinical_table
from REACTKDLib.prognosis.clinical_input import check_record, parse_value
from REACTKDLib.prognosis.clinical_text import render
from REACTKDLib.prognosis.schema import NUMBER, load_schema, schema_document

PAPER = load_schema("chronic_liver_58")
GOOD = {
    "a.csv": (
        b"case,age,sex,HBV,albumin [g/dl],ALT,text\na,61,F,yes,4.1,,Cirrhosis\nb,40,M,0,3,20 U/l,\n"
    ),
    "b.csv": b"case,name,value,unit\na,age,61,\na,albumin,4.1,g/dl\nb,sex,F,\n",
    "c.json": json.dumps(
        {
            "a": {"age": 61, "albumin": {"value": 4.1, "unit": "g/dl"}},
            "b": {"sex": "F", "hbv": True},
        }
    ).encode(),
    "d.txt": b"Cirrhosis, Child B.",
}


def usable(record) -> None:
    """Every value is one that the schema allows, and can be shown and used."""
    array = to_array(PAPER, record)
    for variable, value in zip(PAPER.variables, array, strict=True):
        if variable.plausible and not math.isnan(value):
            assert variable.plausible[0] <= value <= variable.plausible[1]
    assert isinstance(render(PAPER, record, "say").text, str)


@pytest.mark.parametrize("name", GOOD)
@given(data=st.data())
@fuzz
def test_a_damaged_file(name, data):
    def read(folder):
        usable(read_clinical(folder / name, PAPER, case=None if name == "d.txt" else "a"))
        if name != "d.txt":
            for refuse in (True, False):
                table = read_clinical_table(folder / name, PAPER, refuse=refuse)
                for record in table.records.values():
                    usable(record)

    value_or_error(read, {name: data.draw(damaged(GOOD[name]))})


@given(data=st.data())
@fuzz
def test_a_damaged_schema(data):
    good = json.dumps(schema_document(load_schema("hcc_survival_49"))).encode()
    value_or_error(
        lambda folder: load_schema(folder / "s.json"), {"s.json": data.draw(damaged(good))}
    )


_TEXT = st.one_of(
    st.text(max_size=30),
    st.floats().map(repr),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(["4.1 g/dl", "yes", "F", "=1+1", "1e9999", "0x10", "٤", "½", "\x00", "\ud800"]),
)


@given(text=_TEXT, unit=st.one_of(st.none(), _TEXT), number=st.integers(0, 57))
@fuzz
def test_any_text_as_a_value(text, unit, number):
    variable = PAPER.variables[number]
    try:
        value = parse_value(variable, text, unit)
    except ClinicalValueError as error:
        assert set(error.fields) == {variable.name} and error.fields[variable.name]
    else:
        if value is not None and variable.kind == NUMBER:
            assert variable.plausible[0] <= value <= variable.plausible[1]


_ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["value", "unit", "x"]), inner)
    ),
    max_leaves=4,
)


@given(raw=st.dictionaries(st.one_of(st.sampled_from(PAPER.names), st.text(max_size=20)), _ANY))
@fuzz
def test_any_record(raw):
    try:
        usable(check_record(PAPER, raw, from_image={"age": "061Y", "sex": "M"}))
    except InputError as error:
        assert error.message


@given(
    ages=st.dictionaries(
        st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9),
        st.floats(0, 125, allow_subnormal=False),
        max_size=4,
    )
)
@fuzz
def test_numbers_survive_a_table_exactly(ages, tmp_path_factory):
    records = {case: check_record(PAPER, {"age": repr(age)}) for case, age in ages.items()}
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_text(clinical_csv(PAPER, records), encoding="utf-8")
    again = read_clinical_table(path, PAPER).records
    assert {case: record.values["age"] for case, record in again.items()} == ages
