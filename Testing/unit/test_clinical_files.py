"""Clinical records from CSV, JSON and text files."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from REACTKDLib.errors import ClinicalValueError, InputError
from REACTKDLib.prognosis import clinical_files, clinical_formats
from REACTKDLib.prognosis.clinical_files import (
    MAX_BYTES,
    clinical_csv,
    read_clinical,
    read_clinical_table,
    read_pasted,
)
from REACTKDLib.prognosis.clinical_formats import MAX_LINE
from REACTKDLib.prognosis.clinical_input import MAX_NAMES, check_record
from REACTKDLib.prognosis.schema import load_schema

PAPER = load_schema("chronic_liver_58")
HCC = load_schema("hcc_survival_49")
VALUES = {"age": 61.0, "sex": "female", "hbv": True, "albumin": 41.0}

WIDE = "age,sex,HBV,albumin [g/dl],ALT\n61,F,yes,4.1,\n"
LONG = "name,value,unit\nage,61,\nsex,F,\nhbv,1,\nalbumin,4.1,g/dl\nalt,NA,\n"
PLAIN = {"age": 61, "sex": "F", "hbv": True, "albumin": {"value": 4.1, "unit": "g/dl"}, "alt": None}


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", WIDE),
        ("b.csv", WIDE.replace(",", ";")),
        ("c.csv", WIDE.replace(",", "\t")),
        ("d.CSV", b"\xef\xbb\xbf" + WIDE.replace("\n", "\r\n").encode()),
        ("e.csv", f"\n{WIDE}\n\n,,,,\n"),
        ("f.csv", LONG),
        ("g.csv", LONG.replace(",", ";")),
        ("h.json", json.dumps(PLAIN)),
        ("i.json", json.dumps([PLAIN])),
        ("j.json", json.dumps({"p1": PLAIN})),
        ("k.csv", "".join(f'"{line}"\n'.replace(",", '","') for line in WIDE.splitlines())),
    ],
)
def test_every_form_says_the_same(name, content, tmp_path):
    record = read_clinical(written(tmp_path, name, content), PAPER)
    assert {
        k: pytest.approx(v) if k == "albumin" else v for k, v in record.values.items()
    } == VALUES
    assert "unit_converted" in {notice.code for notice in record.notices}


def test_free_text_in_every_form(tmp_path):
    for name, content in {
        "a.txt": " Cirrhosis.\n",
        "b.csv": "age,text\n61,Cirrhosis.\n",
        "c.json": '{"age": 61, "text": "Cirrhosis."}',
    }.items():
        assert read_clinical(written(tmp_path, name, content), PAPER).text == "Cirrhosis."


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.xlsx", b"PK", "does not end in"),
        ("a.csv", b"", "no header"),
        ("a.csv", b"\n\n", "no header"),
        ("a.csv", b"age\n", "0 patients"),
        ("a.csv", b"age\n61\n62\n", "2 patients"),
        ("a.csv", b"age,sex\n61\n", "row 2 has 1 cells"),
        ("a.csv", b'age\n"61\n', "line"),
        ("a.csv", b"age\n\xff\n", "not UTF-8"),
        ("a.csv", b"case,case,age\na,b,61\n", "twice"),
        ("a.csv", b"name,value,value\nage,61,62\n", "each once"),
        ("a.csv", b"name,value,colour\nage,61,red\n", "columns are not"),
        ("a.json", b"", "no JSON"),
        ("a.json", b"7", "no JSON object"),
        ("a.json", b"[7]", "patient 1 is no JSON object"),
        ("a.json", b"[]", "0 patients"),
        ("a.json", b"[" * 100_000, "no JSON"),
        ("a.txt", b" ", "text is empty"),
    ],
)
def test_files_that_are_no_record(name, content, said, tmp_path):
    with pytest.raises(InputError, match=said) as caught:
        read_clinical(written(tmp_path, name, content), PAPER)
    assert caught.value.advice or isinstance(caught.value, ClinicalValueError)


@pytest.mark.parametrize(
    "name, content, fields",
    [
        ("a.csv", "age,Age\n61,62\n", {"age"}),
        ("a.csv", "age,shoe size\n61,62\n", {"shoe size"}),
        ("a.csv", "age,\n61,62\n", {""}),
        ("a.csv", LONG + "Albumin,40,g/l\n", {"albumin"}),
        ("a.csv", "albumin [g/dl]\n41 g/l\n", {"albumin"}),
        ("a.csv", "age,albumin\n=1+1,@SUM(A1)\n", {"age", "albumin"}),
        ("a.json", '{"age": 61, "age": 62}', {"age"}),
        ("a.json", '{"age": [61], "sex": {"a": 1}, "albumin": {"value": 41, "value": 40}}',
         {"age", "sex", "albumin"}),
        ("a.json", '{"age": Infinity}', {"age"}),
        ("a.json", '{"age": 1' + "0" * 5000 + "}", {"age"}),
        ("a.json", '{"albumin [g/l]": {"value": 41, "unit": "g/dl"}}', {"albumin"}),
    ],
)  # fmt: skip
def test_values_that_cannot_be_used(name, content, fields, tmp_path):
    with pytest.raises(ClinicalValueError) as caught:
        read_clinical(written(tmp_path, name, content), PAPER)
    assert set(caught.value.fields) == fields


def test_one_of_several_patients(tmp_path):
    path = written(tmp_path, "a.csv", "case,age\na,61\nb,62\n")
    assert read_clinical(path, PAPER, case="b").values["age"] == 62
    with pytest.raises(InputError, match="0 patients called 'c'"):
        read_clinical(path, PAPER, case="c")
    with pytest.raises(ClinicalValueError):
        read_clinical(path, PAPER, case="b", from_image={"age": "031Y"})


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", "case,age,sex\nb,61,F\na,62,M\n"),
        ("a.csv", "case,name,value\nb,age,61\na,age,62\nb,sex,F\na,sex,M\n"),
        ("a.json", '{"b": {"age": 61, "sex": "F"}, "a": {"age": 62, "sex": "M"}}'),
        ("a.json", '[{"case": "b", "age": 61, "sex": "F"}, {"case": "a", "age": 62, "sex": "M"}]'),
    ],
)
def test_tables(name, content, tmp_path):
    table = read_clinical_table(written(tmp_path, name, content), PAPER)
    assert list(table.records) == ["b", "a"]
    assert dict(table.records["a"].values) == {"age": 62.0, "sex": "male"}
    assert not table.refused


@pytest.mark.parametrize("content", ["age\n61\n", "case,age\na,61\na,62\n", "case,age\n,61\n"])
def test_tables_need_a_case_each(content, tmp_path):
    with pytest.raises(InputError, match="case"):
        read_clinical_table(written(tmp_path, "a.csv", content), PAPER)


# Mixed units, in the way of the public table; the figures are made up.
MIXED = "case,platelets,leukocytes,TP,ALP\na,120,6.1,7.0,80\nb,120000,6100,70,1.3\n"


def test_mixed_units_are_refused_or_reported(tmp_path):
    path = written(tmp_path, "a.csv", MIXED)
    with pytest.raises(ClinicalValueError, match="patient 2") as caught:
        read_clinical_table(path, HCC)
    assert "Then write 120000 /ul." in caught.value.fields["platelets"]
    table = read_clinical_table(path, HCC, refuse=False)
    assert len(table.records["a"].values) == 4 and not table.records["b"].values
    assert set(table.refused["b"]) == {"platelets", "leukocytes", "total_protein", "alp"}
    (notice,) = [n for n in table.records["b"].notices if n.code == "clinical_value_refused"]
    assert "platelets" in notice.text and "120000" not in notice.text


def test_pasting():
    checked = read_pasted("name\tvalue\nAlbumin\t41\nsex\tF\n", PAPER)
    assert dict(checked.record.values) == {"albumin": 41.0, "sex": "female"}
    checked = read_pasted("age\talbumin\n61\t4.1\n", PAPER)
    assert dict(checked.record.values) == {"age": 61.0} and set(checked.refused) == {"albumin"}
    for text in ("", "age\n61\n62\n", "a" * (MAX_LINE + 1)):
        with pytest.raises(InputError):
            read_pasted(text, PAPER)


def test_a_table_written_is_the_table_read(tmp_path):
    records = {
        "p1": check_record(PAPER, {"age": "61.25", "sex": "F", "hbv": "no", "albumin": "4.1 g/dl"}),
        "p2": check_record(PAPER, {"plt": "93"}, text="Line one,\nline two."),
        "p3": check_record(PAPER, {}),
    }
    path = written(tmp_path, "a.csv", clinical_csv(PAPER, records))
    again = read_clinical_table(path, PAPER).records
    assert {c: (r.values, r.text) for c, r in again.items()} == {
        c: (r.values, r.text) for c, r in records.items()
    }


def test_the_template_has_every_variable_with_its_unit():
    (header,) = csv.reader(clinical_csv(PAPER, {}).splitlines())
    assert len(header) == 60 and "albumin [g/l]" in header and "sex" in header


def test_what_is_written_begins_no_formula():
    evil = '=HYPERLINK("http://x")'
    record = check_record(PAPER, {"age": "61"}, text=evil)
    rows = list(csv.reader(clinical_csv(PAPER, {evil: record}).splitlines()))
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)


# Hostile sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", MAX_BYTES)
def test_a_file_of_gigabytes_is_not_read(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    with path.open("wb") as stream:
        stream.truncate(8 << 30)  # sparse: no disk is used
    with pytest.raises(InputError, match="larger than"):
        read_clinical(path, PAPER)


def test_millions_of_columns(tmp_path):
    path = written(tmp_path, "a.csv", "a," * 2_000_000 + "\n")
    with pytest.raises(InputError, match="a line has"):
        read_clinical(path, PAPER)
    path = written(tmp_path, "b.csv", ",".join(f"x{n}" for n in range(MAX_NAMES + 3)) + "\n")
    with pytest.raises(InputError, match="columns"):
        read_clinical(path, PAPER)


def test_too_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(clinical_formats, "MAX_ROWS", 3)
    rows = [f"{n},61\n" for n in range(4)]
    enough = written(tmp_path, "a.csv", "case,age\n" + "".join(rows[:3]))
    assert len(read_clinical_table(enough, PAPER).records) == 3
    with pytest.raises(InputError, match="rows"):
        read_clinical_table(written(tmp_path, "a.csv", "case,age\n" + "".join(rows)), PAPER)
    patients = json.dumps([{"case": str(n)} for n in range(4)])
    with pytest.raises(InputError, match="patients"):
        read_clinical_table(written(tmp_path, "a.json", patients), PAPER)


def test_a_long_list_of_one_patient(tmp_path):
    content = "name,value\n" + "age,61\n" * (MAX_NAMES + 1)
    with pytest.raises(InputError, match="names"):
        read_clinical(written(tmp_path, "a.csv", content), PAPER)


def test_no_file(tmp_path):
    (tmp_path / "d.csv").mkdir()
    os.mkfifo(tmp_path / "f.csv")
    for name in ("a.csv", "d.csv", "f.csv"):
        with pytest.raises(InputError, match="does not exist"):
            read_clinical(tmp_path / name, PAPER)
    assert clinical_files.MAX_BYTES[".csv"] >= 1 << 20
