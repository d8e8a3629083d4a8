"""Schemas of clinical variables: the shipped ones, and everything that a file may get wrong."""

from __future__ import annotations

import copy
import json
from collections import Counter

import pytest

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.schema import (
    NUMBER,
    SHIPPED,
    find_variable,
    load_schema,
    schema_document,
    schema_from_document,
    unit_factor,
)

PAPER = load_schema("chronic_liver_58")
HCC = load_schema("hcc_survival_49")


def test_the_paper_has_58_variables_in_these_groups():
    assert len(PAPER.variables) == 58
    groups = Counter(v.group for v in PAPER.variables)
    assert groups["Person"] + groups["Cause of the liver disease"] == 9
    assert groups["Body and muscle"] + groups["Nutrition"] == 12
    assert groups["Blood count"] + groups["Liver tests"] + groups["Metabolism and kidney"] == 23
    assert groups["Fat on CT"] == 14


def test_the_public_table_has_49_variables_in_its_order():
    assert len(HCC.variables) == 49
    assert Counter(v.kind for v in HCC.variables) == {"flag": 22, "number": 23, "category": 4}
    assert (HCC.names[0], HCC.names[23], HCC.names[34], HCC.names[48]) == (
        *("sex", "age", "platelets"),
        "ferritin",
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_schema_survives_its_document(name):
    schema = load_schema(name)
    assert schema_from_document(json.loads(json.dumps(schema_document(schema)))) == schema


# Molar masses, g/mol: textbook figures, so that the factors of the file are not their own oracle.
@pytest.mark.parametrize(
    "name, unit, factor",
    [
        ("albumin", "g/dl", 10),
        ("haemoglobin", "g/dl", 10),
        ("haemoglobin", "mmol/l", 64456 / 4 / 1000),
        ("bilirubin_total", "mg/dl", 1e4 / 584.66),
        ("bilirubin_direct", "mg/dl", 1e4 / 584.66),
        ("creatinine", "mg/dl", 1e4 / 113.12),
        ("cholesterol", "mg/dl", 10 / 386.65),
        ("hdl", "mg/dl", 10 / 386.65),
        ("ldl", "mg/dl", 10 / 386.65),
        ("triglycerides", "mg/dl", 10 / 885.4),
        ("urea", "mg/dl", 10 / 60.06),
        ("urea", "mg/dl BUN", 10 / (2 * 14.007)),
        ("bile_acid", "mg/l", 1e3 / 408.57),
        ("cystatin_c", "nmol/l", 13343 / 1e6),
        ("alt", "ukat/l", 60),
        ("platelets", "/ul", 1e-3),
        ("gait_speed", "km/h", 1 / 3.6),
    ],
)
def test_factors_are_those_of_the_molar_mass(name, unit, factor):
    variable = find_variable(PAPER, name)
    assert variable is not None
    assert unit_factor(variable, unit) == pytest.approx(factor, rel=2e-3)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_number_has_a_range_a_factor_of_four_wide(name):
    for variable in load_schema(name).variables:
        if variable.kind == NUMBER:
            low, high = variable.plausible
            assert high >= 4 * low, variable.name


@pytest.mark.parametrize(
    "written, name",
    [
        ("Albumin", "albumin"), ("Total bilirubin", "bilirubin_total"),
        ("Total_Bilirubin", "bilirubin_total"),
        ("Gender", "sex"), ("HB", "haemoglobin"), ("PLT", "platelets"), ("stride", "gait_speed"),
        ("SAT_Volume", "sat_volume"), ("VAT_Area_Fat_Percentage", "vat_area_fat_percentage"),
        ("cystatin", "cystatin_c"), ("bileacid", "bile_acid"),
    ],
)  # fmt: skip
def test_names_of_the_authors_columns(written, name):
    variable = find_variable(PAPER, written)
    assert variable is not None and variable.name == name


def test_an_unknown_name():
    assert find_variable(PAPER, "shoe size") is None
    assert find_variable(PAPER, " - ") is None


@pytest.mark.parametrize(
    "written", ["10*9/l", "10^9/L", "x10^9/L", "×10⁹/l", "10**9/l", "10e9/l", "G/l", " 10 * 9 / L"]
)
def test_spellings_of_a_unit(written):
    platelets = find_variable(PAPER, "platelets")
    assert platelets is not None
    assert unit_factor(platelets, written) == 1.0
    assert unit_factor(platelets, "g/dl") is None


# What a file may get wrong ------------------------------------------------------------------------

GOOD = {
    "name": "mine",
    "title": "Generated",
    "variables": [
        {"name": "a", "title": "A", "kind": "number", "unit": "g/l", "plausible": [1, 9]},
        {"name": "b", "title": "B", "kind": "number", "unit": "g/l", "plausible": [1, 9]},
        {"name": "c", "title": "C", "kind": "category", "categories": ["x", "y"]},
        {"name": "d", "title": "D", "kind": "flag"},
    ],
    "relations": [{"kind": "at_most", "variables": ["a", "b"]}],
}


@pytest.mark.parametrize(
    "place, value, said",
    [
        (("variables", 0, "name"), "A b", "a: a name|lower case"),
        (("variables", 0, "name"), "case", "share the name 'case'"),
        (("variables", 0, "name"), "b", "share the name 'b'"),
        (("variables", 0, "aliases"), ["B"], "share the name 'b'"),
        (("variables", 0, "kind"), "float", "'float' is none of"),
        (("variables", 0, "unit"), " ", "needs a unit"),
        (("variables", 0, "plausible"), [9, 1], "plausible range"),
        (("variables", 0, "plausible"), None, "plausible range"),
        (("variables", 0, "plausible"), [1, 2, 3], "plausible"),
        (("variables", 0, "other_units"), {"g/dl": 0}, "positive number"),
        (("variables", 0, "other_units"), {"g/dl": "10"}, "other_units"),
        (("variables", 0, "other_units"), {"G/L": 10}, "a unit is there twice"),
        (("variables", 1, "colour"), "red", "unknown fields"),
        (("variables", 2, "categories"), ["x", "X"], "all different"),
        (("variables", 2, "codes"), {"1": "z"}, "not there"),
        (("variables", 2, "codes"), {"X": "y"}, "is a category"),
        (("variables", 2, "unit"), "g", "no unit"),
        (("variables", 3, "codes"), {"1": "x"}, "only a category"),
        (("variables", 3, "title"), "-", "no letter"),
        (("variables",), [], "0 variables"),
        (("variables",), "abc", "schema.variables"),
        (("relations", 0, "kind"), "less", "'less' is none of"),
        (("relations", 0, "variables"), ["a"], "two or more numbers"),
        (("relations", 0, "variables"), ["a", "d"], "two or more numbers"),
        (("relations", 0, "tolerance"), -1, "tolerance"),
        (("relations", 0, "kind"), "body_mass_index", "do not fit"),
        (("title",), 7, "schema.title"),
    ],
)
def test_a_schema_that_contradicts_itself(place, value, said, tmp_path):
    document = copy.deepcopy(GOOD)
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        load_schema(path)
    assert "mine.json" in caught.value.message and caught.value.advice


def test_the_same_schema_unchanged(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert load_schema(path).names == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"name": 1, "name": 2}',
        b" " * (1 << 20) + b"{}",
    ],
    ids=["empty", "broken", "a list", "no text", "deep", "a key twice", "too large"],
)
def test_a_file_that_is_no_schema(content, tmp_path):
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.json"):
        load_schema(path)


def test_a_logarithm_needs_a_positive_range():
    document = copy.deepcopy(GOOD)
    document["variables"][0] |= {"logarithmic": True, "plausible": [0, 9]}
    with pytest.raises(InputError, match="logarithm"):
        schema_from_document(document)


def test_no_such_schema():
    with pytest.raises(InputError, match="chronic_liver_59"):
        load_schema("chronic_liver_59")
