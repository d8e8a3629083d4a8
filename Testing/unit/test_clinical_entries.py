"""Clinical values as they are written: kept, checked at their fields, taken from tables."""

from __future__ import annotations

import pytest

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.clinical_entries import (
    CONTRADICTS,
    GIVEN,
    MISSING,
    REFUSED,
    Entries,
    check,
    entries_from_cases,
    file_patients,
    pasted_patients,
    typed,
    unit_choices,
)
from REACTKDLib.prognosis.clinical_files import clinical_csv, read_clinical
from REACTKDLib.prognosis.schema import load_schema
from REACTKDLib.prognosis.types import ClinicalRecord

SCHEMA = load_schema("chronic_liver_58")
ALBUMIN = next(v for v in SCHEMA.variables if v.name == "albumin")


def pasted(text):
    (entries,) = pasted_patients(text).values()
    return entries_from_cases(SCHEMA, entries)


def test_nothing_written_is_missing_and_no_problem():
    checked = check(SCHEMA, Entries())
    assert {field.state for field in checked.states.values()} == {MISSING}
    assert (checked.known, checked.problems, checked.is_empty) == (0, (), True)


def test_entries_survive_json_as_they_are_written():
    entries = Entries({"albumin": ("4.1x", "g/dl"), "sex": ("<b>", "")}, "Aszites, Größe 3 °")
    assert Entries.from_json(entries.to_json()) == entries
    assert Entries().to_json() == ""
    assert Entries.from_json("") == Entries()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"values": {"a": "b"}, "text": ""}', '{"values": {}}', "1", "[" * 9999]
)
def test_a_broken_store_is_an_error(text):
    with pytest.raises(InputError, match="cannot be read"):
        Entries.from_json(text)


def test_each_field_has_its_own_state():
    entries = Entries(
        {
            "albumin": ("4.1", "g/l"),
            "alt": ("200", "U/l"),
            "bilirubin_total": ("1.2", "mg/dl"),
            "hbv": ("perhaps", ""),
            "age": ("na", "a"),
        }
    )
    checked = check(SCHEMA, entries)
    states = checked.states
    assert states["albumin"].state == REFUSED
    assert "wrong unit suspected. Is it g/dl? Then write 4.1 g/dl." in states["albumin"].message
    assert (states["alt"].state, states["alt"].shown) == (GIVEN, "")
    assert (states["bilirubin_total"].state, states["bilirubin_total"].shown) == (
        GIVEN,
        "20.52 µmol/l",
    )
    assert states["hbv"].state == REFUSED
    assert states["age"].state == MISSING
    assert checked.problems == ("hbv", "albumin")
    assert checked.known == 2
    assert dict(checked.checked.record.values) == {
        "alt": 200.0,
        "bilirubin_total": pytest.approx(20.52),
    }


def test_contradictions_stand_at_both_fields():
    entries = Entries({"bilirubin_total": ("10", "umol/l"), "bilirubin_direct": ("40", "umol/l")})
    states = check(SCHEMA, entries).states
    for name in ("bilirubin_total", "bilirubin_direct"):
        assert states[name].state == CONTRADICTS
        assert "cannot exceed" in states[name].message


def test_the_header_of_the_ct_contradicts_at_the_field():
    entries = Entries({"sex": ("female", ""), "age": ("61", "a")})
    states = check(SCHEMA, entries, {"sex": "M", "age": "60.6"}).states
    assert states["sex"].state == CONTRADICTS
    assert "header says male" in states["sex"].message
    assert states["age"].state == GIVEN


def test_names_of_another_schema_are_told():
    checked = check(SCHEMA, Entries({"ferritin": ("80", "ug/l"), "alt": ("20", "U/l")}))
    assert list(checked.unknown) == ["ferritin"]
    assert checked.known == 1


@pytest.mark.parametrize(
    ("text", "unit", "entry"),
    [
        ("41", "g/l", ("41", "g/l")),
        ("4.1 g/dl", "g/l", ("4.1", "g/dl")),
        ("4.1 g/DL", "g/l", ("4.1", "g/DL")),
        ("4.1 mg/dl", "g/l", ("4.1 mg/dl", "")),
        ("4,1", "g/l", ("4,1", "g/l")),
        ("", "g/l", ("", "g/l")),
    ],
)
def test_a_typed_unit_is_the_unit(text, unit, entry):
    assert typed(ALBUMIN, text, unit) == entry


def test_unit_choices_have_one_spelling_each():
    assert unit_choices(ALBUMIN) == ("g/l", "g/dl", "umol/l")
    age = next(v for v in SCHEMA.variables if v.name == "age")
    assert unit_choices(age) == ("a", "mo")


@pytest.mark.parametrize(
    "text",
    [
        "albumin [g/dl]\tALT\tSex\thbv\n4.1\t200\tf\t1\n",
        "name;value;unit\nalbumin;4.1;g/dl\nalt;200;\nsex;f;\nhbv;1.0;\n",
        'case,albumin,alt,sex,hbv\nP1,4.1 g/dl,200,female,"positive"\n',
    ],
)
def test_pasted_tables_of_both_orientations(text):
    found = pasted(text)
    assert dict(found.entries.values) == {
        "albumin": ("4.1", "g/dl"),
        "alt": ("200", "U/l"),
        "sex": ("female", ""),
        "hbv": ("yes", ""),
    }
    assert found.assumed == ("alt",)
    assert found.unknown == {}


def test_what_is_wrong_is_kept_as_it_is_written():
    found = pasted("albumin,hbv,ferritin,age\n4.1 g/l,perhaps,80,\n")
    assert dict(found.entries.values) == {"albumin": ("4.1", "g/l"), "hbv": ("perhaps", "")}
    assert list(found.unknown) == ["ferritin"]
    assert check(SCHEMA, found.entries).problems == ("hbv", "albumin")


def test_a_unit_in_the_heading_and_another_at_the_value_are_a_problem():
    found = pasted("albumin [g/l]\n4.1 g/dl\n")
    (problem,) = (s.message for s in check(SCHEMA, found.entries).states.values() if s.message)
    assert "two units" in problem


@pytest.mark.parametrize(
    "text", ["", "albumin\n", "albumin,albumin\n41,42\n", 'a,b\n"1,2\n', "x" * (1 << 21)]
)
def test_no_table_is_an_error(text):
    with pytest.raises(InputError):
        pasted(text)


def test_several_patients_are_told_apart():
    patients = pasted_patients("case,alt\nA,20\nB,30\n")
    assert list(patients) == ["A", "B"]
    with pytest.raises(InputError, match="twice"):
        pasted_patients("case,alt\nA,20\nA,30\n")


def test_files_give_what_the_reader_gives(tmp_path):
    record = ClinicalRecord({"alt": 20.0, "sex": "male", "hbv": False}, "A note.")
    path = tmp_path / "one.csv"
    path.write_text(clinical_csv(SCHEMA, {"P": record}), encoding="utf-8")
    (written,) = file_patients(path).values()
    found = entries_from_cases(SCHEMA, written)
    again = check(SCHEMA, found.entries).checked.record
    assert (again.values, again.text) == (record.values, record.text)
    assert read_clinical(path, SCHEMA).values == record.values


def test_a_text_file_is_free_text(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("Ascites.\nNo mass.", encoding="utf-8")
    (written,) = file_patients(path).values()
    found = entries_from_cases(SCHEMA, written)
    assert found.entries == Entries({}, "Ascites.\nNo mass.")


def test_too_long_a_text_is_refused_at_its_field():
    checked = check(SCHEMA, Entries({}, "x" * 100_001))
    assert checked.text.state == REFUSED
    assert checked.problems == ("text",)
