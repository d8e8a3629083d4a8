"""Clinical values as people write them: used, converted with a notice, or refused."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from REACTKDLib.errors import ClinicalValueError, InputError
from REACTKDLib.prognosis.clinical_arrays import describe, to_array
from REACTKDLib.prognosis.clinical_input import (
    MAX_NAMES,
    MAX_TEXT,
    check_entries,
    check_record,
    parse_value,
    record_from_text,
)
from REACTKDLib.prognosis.clinical_values import MAX_CELL
from REACTKDLib.prognosis.schema import find_variable, load_schema
from REACTKDLib.prognosis.types import ClinicalRecord

PAPER = load_schema("chronic_liver_58")
HCC = load_schema("hcc_survival_49")


def variable(name, schema=PAPER):
    found = find_variable(schema, name)
    assert found is not None
    return found


def refused(raw, schema=PAPER, **options):
    with pytest.raises(ClinicalValueError) as caught:
        check_record(schema, raw, **options)
    return caught.value


# One value ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, text, unit, value",
    [
        ("albumin", "41", None, 41.0),
        ("albumin", "41", "g/l", 41.0),
        ("albumin", " 41 g/L ", None, 41.0),
        ("albumin", "4.1 g/dl", None, 41.0),
        ("albumin", "4.1", "g/dL", 41.0),
        ("albumin", "4.1g/dl", "g/dl", 41.0),
        ("bilirubin_total", "2 mg/dl", None, 34.2),
        ("creatinine", "1 mg/dl", None, 88.4),
        ("wbc", "5100 /µL", None, 5.1),
        ("wbc", "5.1 x10^9/L", None, 5.1),
        ("platelets", "9.3e1", None, 93.0),
        ("age", "18 mo", None, 1.5),
        ("nutritional_score", "3", "1", 3.0),
        ("hbv", "yes", None, True),
        ("hbv", "0", None, False),
        ("hbv", "1.0", None, True),
        ("hbv", "Negative", None, False),
        ("sex", "F", None, "female"),
        ("sex", "Male", None, "male"),
    ],
)
def test_values(name, text, unit, value):
    got = parse_value(variable(name), text, unit)
    assert type(got) is type(value)
    assert got == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize("text", ["", " ", "NA", "n/a", "missing", "?", "NaN", "null", "NULL"])
@pytest.mark.parametrize("name", ["albumin", "hbv", "sex"])
def test_missing_is_a_value(name, text):
    assert parse_value(variable(name), text) is None


def test_none_is_a_category_and_not_missing():
    assert parse_value(variable("ascites", HCC), "none") == "none"
    assert parse_value(variable("ascites", HCC), "1.0") == "none"
    assert parse_value(variable("performance_status", HCC), "4") == "disabled"


@pytest.mark.parametrize(
    "name, text, unit, said",
    [
        ("albumin", "4.1", None,
         "albumin 4.1 g/l: wrong unit suspected. Is it g/dl? Then write 4.1 g/dl."),
        ("albumin", "4.1 g/l", None, "Then write 4.1 g/dl."),
        ("albumin", "41 g/dl", None, "Then write 41 g/l."),
        ("haemoglobin", "8.5", None, "Is it g/dl? Then write 8.5 g/dl. Is it mmol/l?"),
        ("creatinine", "1.1", None, "Then write 1.1 mg/dl."),
        ("platelets", "193000", None, "Then write 193000 /ul."),
        ("height", "1.8", None, "Then write 1.8 m."),
        ("albumin", "9000", None, "albumin 9000 g/l is outside of 8 to 80 g/l. Correct it"),
        ("age", "-3", None, "outside of 0 to 125"),
        ("age", "1e999", None, "outside of 0 to 125"),
        ("albumin", "41", "furlong",
         "in 'furlong', a unit that it does not have. Its units are g/l, g/dl"),
        ("albumin", "41 g/l", "g/dl", "two units, 'g/l' and 'g/dl'"),
        ("albumin", "4,1", None, "with a comma"),
        ("platelets", "193,000", None, "with a comma"),
        ("albumin", "<5", None, "no number"),
        ("albumin", "inf", None, "no number"),
        ("albumin", "4_1", None, "in '_1', a unit"),
        ("albumin", "\u0664\u0661", None, "no number"),
        ("albumin", "41 42", None, "in '42', a unit"),
        ("albumin", "=41", None, "no number"),
        ("albumin", "yes", None, "no number"),
        ("albumin", "1" * (MAX_CELL + 1), None, f"201 characters, more than {MAX_CELL}"),
        ("hbv", "2", None, "neither yes nor no"),
        ("hbv", "yes", "g/l", "has no unit"),
        ("sex", "1", None, "They are female, male"),
        ("sex", "x", None, "none of its categories"),
    ],
)  # fmt: skip
def test_refused_values(name, text, unit, said):
    with pytest.raises(ClinicalValueError) as caught:
        parse_value(variable(name), text, unit)
    assert set(caught.value.fields) == {name}
    assert said in caught.value.fields[name]
    assert said in str(caught.value)


@pytest.mark.parametrize("schema", [PAPER, HCC], ids=lambda s: s.name)
def test_the_ends_of_every_range_are_inside_in_every_unit(schema):
    for v in schema.variables:
        for end in v.plausible or ():
            assert parse_value(v, repr(end)) == end
            for unit, factor in v.other_units.items():
                inside = end / factor * (1 + 1e-9 if end == v.plausible[0] else 1 - 1e-9)
                assert parse_value(v, repr(inside), unit) == pytest.approx(end)


# A record -----------------------------------------------------------------------------------------

RAW = {
    "age": "61", "Gender": "F", "HBV": "1", "albumin [g/dl]": "4.1", "PLT": "93000 /ul",
    "Hb": "132",
    "bilirubin_total (µmol/l)": "18", "bilirubin_direct": "", "ALT": "?", "HCV": None,
    "ast": 35, "sarcopenia": False, "creatinine": {"value": "1.0", "unit": "mg/dl"},
}  # fmt: skip


def test_a_record():
    record = check_record(PAPER, RAW, text="  Ascites since May.\n", from_image={"age": "061Y"})
    assert dict(record.values) == {
        "age": 61.0, "sex": "female", "hbv": True, "sarcopenia": False, "haemoglobin": 132.0,
        "platelets": pytest.approx(93.0), "ast": 35.0, "albumin": pytest.approx(41.0),
        "bilirubin_total": 18.0, "creatinine": pytest.approx(88.4),
    }  # fmt: skip
    assert record.text == "Ascites since May."
    by_code = {notice.code: notice.text for notice in record.notices}
    assert set(by_code) == {"unit_converted", "unit_assumed"}
    converted = by_code["unit_converted"].partition(": ")[2]
    assert converted == "platelets from /ul, albumin from g/dl, creatinine from mg/dl."
    assert by_code["unit_assumed"].partition(": ")[2] == "age, haemoglobin, ast."


def test_notices_have_no_values():
    record = check_record(PAPER, RAW)
    for notice in record.notices:
        assert not any(v in notice.text for v in ("4.1", "41", "93", "132", "61"))


def test_all_problems_at_once():
    error = refused({
        "albumin": "4.1", "albumine": "38", "ast": "<5", "sex": "F", "gender": "M", "age": "200",
        "bmi": "30", "height": "180", "weight": "70",
    })  # fmt: skip
    assert set(error.fields) == {
        "albumin", "albumine", "ast", "sex", "age", "bmi", "height", "weight",
    }  # fmt: skip
    assert "Perhaps albumin?" in error.fields["albumine"]
    assert error.fields["sex"] == "sex is given 2 times: F, M. Leave one of them."
    assert "make 21.6" in error.fields["bmi"]
    assert "And 3 more." in error.message
    assert isinstance(error, InputError) and error.exit_code == 3


def test_a_log_gets_names_alone(caplog):
    with caplog.at_level(logging.DEBUG):
        error = refused({"albumin": "4.1", "sex": "unheard"})
    assert error.for_log == "2 clinical values cannot be used: sex, albumin."
    assert not caplog.records


@pytest.mark.parametrize(
    "raw, fields",
    [
        ({"tbil": "10", "dbil": "12"}, {"bilirubin_total", "bilirubin_direct"}),
        ({"tbil": "1 mg/dl", "dbil": "20 umol/l"}, {"bilirubin_total", "bilirubin_direct"}),
        ({"albumin": "60", "protein": "50"}, {"albumin", "total_protein"}),
        ({"hdl": "2", "ldl": "4", "cholesterol": "5"}, {"hdl", "ldl", "cholesterol"}),
        ({"wbc": "5", "neutrophils": "4", "lymphocytes": "2"},
         {"wbc", "neutrophils", "lymphocytes"}),
        ({"bmi": "25", "height": "1.8 m", "weight": "70"}, {"bmi", "height", "weight"}),
        ({"upper arm": "25", "upper_arm_muscle": "26"},
         {"upper_arm_circumference", "upper_arm_muscle"}),
    ],
)  # fmt: skip
def test_values_that_contradict_each_other(raw, fields):
    assert set(refused(raw).fields) == fields


@pytest.mark.parametrize(
    "raw",
    [
        {"tbil": "10", "dbil": "10.9"},  # rounding
        {"dbil": "12"},  # nothing to compare with
        {"hdl": "2", "ldl": "4"},
        {"bmi": "21.6", "height": "180", "weight": "70"},
        {"bmi": "30", "weight": "70"},
    ],
)
def test_values_that_do_not(raw):
    assert len(check_record(PAPER, raw).values) == len(raw)


@pytest.mark.parametrize(
    "raw, header, fields",
    [
        ({"age": "61"}, {"age": "031Y"}, {"age"}),
        ({"age": "61"}, {"age": 58.5}, {"age"}),
        ({"age": "61"}, {"age": "059Y"}, set()),  # an earlier CT
        ({"age": "2"}, {"age": "020M"}, set()),
        ({"age": "61"}, {"age": "31Y"}, {"age"}),
        ({"age": "61"}, {"age": "000Y"}, set()),  # written for want of an age
        ({"age": "97"}, {"age": "090Y"}, set()),  # de-identified: 90 stands for all above
        ({"age": "87"}, {"age": "090Y"}, {"age"}),
        ({"sex": "F"}, {"sex": "M"}, {"sex"}),
        ({"sex": "F", "age": "61"}, {"sex": "M", "age": "031Y"}, {"sex", "age"}),
        ({"sex": "F"}, {"sex": "F"}, set()),
        ({"sex": "F"}, {"sex": "O"}, set()),
        ({"sex": "F", "age": "61"}, {"sex": "", "age": "unknown", "weight": "3"}, set()),
        ({"sex": "F", "age": "61"}, {"sex": None}, set()),
    ],
)
def test_the_header_of_the_ct(raw, header, fields):
    if fields:
        error = refused(raw, from_image=header)
        assert set(error.fields) == fields
        assert all("the CT's header says" in text for text in error.fields.values())
    else:
        assert set(check_record(PAPER, raw, from_image=header).values) == set(raw)


def test_the_header_fills_nothing_in():
    record = check_record(PAPER, {"albumin": "41"}, from_image={"age": "061Y", "sex": "M"})
    assert dict(record.values) == {"albumin": 41.0}


def test_given_twice():
    error = refused({"albumin": "41", "Alb": "41"})
    assert "given 2 times" in error.fields["albumin"]
    assert check_record(PAPER, {"albumin": "41", "Alb": "NA"}).values["albumin"] == 41.0


def test_no_value_at_all_is_missing_with_a_notice():
    record = check_record(PAPER, dict.fromkeys(PAPER.names, ""))
    assert not record.values
    assert [n.code for n in record.notices] == ["clinical_empty"]


@pytest.mark.parametrize("value", [[41], {"v": 1}, {"value": 1, "unit": 3}, object()])
def test_what_is_no_value(value):
    assert set(refused({"albumin": value}).fields) == {"albumin"}


def test_report_instead_of_refusing():
    entries = [("platelets", "193000", ""), ("albumin", "3.4", ""), ("x", "1", "")]
    checked = check_entries(HCC, entries)
    assert dict(checked.record.values) == {"albumin": 3.4}
    assert set(checked.refused) == {"platelets", "x"}


def test_free_text():
    assert record_from_text(" Cirrhosis, Child B.\n").text == "Cirrhosis, Child B."
    for text in ("", "  \n", "a" * (MAX_TEXT + 1), "a\x00b"):
        with pytest.raises(ClinicalValueError) as caught:
            record_from_text(text)
        assert set(caught.value.fields) == {"text"}


def test_too_many_names():
    with pytest.raises(InputError, match=f"more than {MAX_NAMES} names"):
        check_record(PAPER, {f"x{n}": "1" for n in range(MAX_NAMES + 1)})


def test_a_very_long_name_is_shown_short():
    (name,) = refused({"a" * 10**6: "1"}).fields
    assert len(name) < 80


# Arrays -------------------------------------------------------------------------------------------


def test_arrays():
    record = check_record(PAPER, {"age": "61", "sex": "M", "hbv": "no", "hcv": "yes"})
    array = to_array(PAPER, record)
    assert array.shape == (58,) and array.dtype == np.float64
    assert array[:4].tolist() == [61.0, 1.0, 0.0, 1.0]
    assert np.isnan(array[4:]).all()
    assert np.isnan(to_array(PAPER, ClinicalRecord())).all()
    ascites = to_array(HCC, check_record(HCC, {"ascites": "mild"}))
    assert ascites[HCC.names.index("ascites")] == 1.0


@pytest.mark.parametrize(
    "values",
    [{"ascites": "mild"}, {"sex": "x"}, {"sex": 1.0}, {"hbv": 1.0}, {"age": "61"}, {"age": True}],
)
def test_records_of_another_schema(values):
    with pytest.raises(InputError, match="The record has"):
        to_array(PAPER, ClinicalRecord(values))


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("albumin", 41.0, "41 g/l"), ("bilirubin_total", 34.2, "34.2 µmol/l"),
        ("age", 61.0, "61 years"),
        ("platelets", 93.0, "93 10⁹/l"), ("rbc", 4.5, "4.5 10¹²/l"), ("bmi", 21.6, "21.6 kg/m²"),
        ("sat_area", 140.0, "140 cm²"), ("nutritional_score", 3.0, "3"), ("hbv", True, "yes"),
        ("hbv", False, "no"), ("sex", "female", "female"), ("albumin", None, "missing"),
        ("imat_area_fat_percentage", 12.0, "12 %"),
    ],
)  # fmt: skip
def test_values_for_people(name, value, text):
    assert describe(variable(name), value) == text


def test_no_range_is_endless():
    for schema in (PAPER, HCC):
        assert all(math.isfinite(e) for v in schema.variables for e in v.plausible or ())
