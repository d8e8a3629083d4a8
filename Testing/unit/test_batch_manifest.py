"""Manifests and names of cases: everything a person or a program may write there."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from REACTKDLib.batch.manifest import COLUMNS, MAX_ROW, manifest_rows
from REACTKDLib.batch.names import MAX_BYTES, name_key, name_problem
from REACTKDLib.batch.plan import write_plan
from REACTKDLib.errors import InputError

#: One folder serves all examples: each writes its files anew.
SHARED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
CELL = TEXT.filter(lambda text: "\0" not in text)


def write_csv(path: Path, rows, header=COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def plan_of(manifest: Path, folder: Path):
    plan = write_plan(manifest, folder / "plan.jsonl")
    return list(plan.cases()), plan


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


# names


@SHARED
@given(name=st.text(max_size=40))
def test_a_name_that_passes_is_a_folder_of_its_own(tmp_path, name):
    if name_problem(name) is not None:
        return
    place = tmp_path / "cases" / name
    assert place.parent == tmp_path / "cases"
    assert place.resolve() == (tmp_path / "cases").resolve() / name
    place.mkdir(parents=True, exist_ok=True)
    assert name in {p.name for p in (tmp_path / "cases").iterdir()}
    place.rmdir()


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:x", ".hidden", "~x", " x", "x ", "x."),
        *("CON", "con.txt", "Aux", "LPT1", "com¹", "nul ", "a\nb", "a\0b", "a\u202eb", "a;b"),
        *("a*", "a?", "a|b", "<a>", 'a"b', "\ud800", "ä" * (MAX_BYTES // 2 + 1)),
    ],
)
def test_unsafe_names_are_refused(name):
    assert name_problem(name) is not None


@pytest.mark.parametrize("name", ["Case 1", "P-01_S2", "Müller 3", "患者7", "console", "a.b"])
def test_ordinary_names_pass(name):
    assert name_problem(name) is None


def test_names_that_a_file_system_takes_for_one_have_one_key():
    assert name_key("STRASSE") == name_key("straße")
    assert name_key("caf\u00e9") == name_key("cafe\u0301") == name_key("CAFÉ")
    assert name_key("a") != name_key("b")


# rows


def test_a_row_of_csv_and_of_json_mean_the_same(tmp_path):
    cells = ["A", "a/ct.nii.gz", "l.nii.gz; m.nii.gz", "f.nii", "", "1.2.3"]
    rows = list(manifest_rows(write_csv(tmp_path / "m.csv", [cells])))
    document = dict(zip(COLUMNS, cells, strict=True))
    document["segmentation"] = ["l.nii.gz", "m.nii.gz"]
    document["pet_acetate"] = None
    (tmp_path / "m.json").write_text(json.dumps([document]), encoding="utf-8")
    (tmp_path / "m.jsonl").write_text(json.dumps(document) + "\n\n", encoding="utf-8")
    assert list(manifest_rows(tmp_path / "m.json")) == rows
    assert list(manifest_rows(tmp_path / "m.jsonl")) == rows
    (row,) = rows
    assert (row.case, row.ct, row.series) == ("A", "a/ct.nii.gz", "1.2.3")
    assert row.segmentation == ("l.nii.gz", "m.nii.gz")
    assert row.pet == {"pet_fdg": "f.nii"}
    assert row.problems == ()


@SHARED
@given(rows=st.lists(st.lists(CELL, min_size=6, max_size=6), min_size=1, max_size=8))
def test_whatever_a_csv_says_comes_back_row_by_row(tmp_path, rows):
    kept = [row for row in rows if any(cell.strip() for cell in row)]
    path = write_csv(tmp_path / "m.csv", rows)
    if not kept:
        with pytest.raises(InputError, match="has no case"):
            list(manifest_rows(path))
        return
    found = list(manifest_rows(path))
    assert [row.case for row in found] == [row[0].strip() for row in kept]
    assert [row.number for row in found] == list(range(1, len(kept) + 1))


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
JSON_ROW = st.dictionaries(st.sampled_from(COLUMNS) | TEXT, JSON_VALUE, max_size=7)


@SHARED
@given(
    rows=st.lists(JSON_ROW | JSON_VALUE, min_size=1, max_size=6), indent=st.sampled_from([None, 3])
)
def test_any_json_array_gives_as_many_checked_cases(tmp_path, rows, indent):
    (tmp_path / "m.json").write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    cases, plan = plan_of(tmp_path / "m.json", tmp_path)
    assert [case.row for case in cases] == list(range(1, len(rows) + 1))
    assert plan.count == len(rows)
    for case, row in zip(cases, rows, strict=True):
        if not isinstance(row, dict) or not row.get("ct") or set(row) - set(COLUMNS):
            assert case.problems
        if not case.problems:
            assert name_problem(case.name) is None


@SHARED
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".json", ".jsonl"]))
def test_any_bytes_are_cases_or_an_error_of_ours(tmp_path, content, suffix):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    try:
        rows = list(manifest_rows(path))
    except InputError as error:
        assert str(path) in error.message
        assert error.advice
    else:
        assert rows


@SHARED
@given(cut=st.integers(min_value=1, max_value=10_000))
def test_an_array_that_is_cut_off_is_broken(tmp_path, cut):
    rows = [{"case": f"c{n}", "ct": "x", "segmentation": "y"} for n in range(1500)]
    text = json.dumps(rows)
    path = tmp_path / "m.json"
    path.write_text(text[: -(1 + cut * 13 % (len(text) - 1))], encoding="utf-8")
    with pytest.raises(InputError, match="broken"):
        list(manifest_rows(path))


@pytest.mark.parametrize(
    ("content", "complaints"),
    [
        ("case,ct\nA,x\n", ["no column 'segmentation'"]),
        ("case,ct,segmentation,ct\nA,x,y,z\n", ["'ct' comes twice"]),
        ("case;ct;segmentation\n", ["no column 'ct'", "'case;ct;segmentation' is unknown"]),
        ("case,ct,segmentation,pet\nA,x,y,z\n", ["'pet' is unknown"]),
        ('case,ct,segmentation\nA,"x,y\n', ["broken"]),
        ("case,ct,segmentation\n", ["has no case"]),
        ("", ["no column 'case'"]),
        ("case,ct,segmentation\n" + "a" * (MAX_ROW + 1), ["more than"]),
    ],
)
def test_a_broken_manifest_says_all_that_is_wrong(tmp_path, content, complaints):
    (tmp_path / "m.csv").write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        plan_of(tmp_path / "m.csv", tmp_path)
    for complaint in complaints:
        assert complaint in raised.value.message


@pytest.mark.parametrize("content", ['{"case": "A"}', "[{}", "[{} {}]", "[1,]", "[] x", "nonsense"])
def test_json_that_is_no_array_is_broken(tmp_path, content):
    (tmp_path / "m.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"broken|has no case"):
        list(manifest_rows(tmp_path / "m.json"))


def test_a_spreadsheets_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    text = "\ufeffcase,ct,segmentation\r\n\r\nA,x,y\r\n,,\r\nB,x,y\r\n"
    (tmp_path / "m.csv").write_bytes(text.encode())
    assert [(r.number, r.case) for r in manifest_rows(tmp_path / "m.csv")] == [(1, "A"), (2, "B")]


def test_other_encodings_and_suffixes_are_refused(tmp_path):
    (tmp_path / "m.csv").write_bytes("case,ct,segmentation\nMüller,x,y\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        list(manifest_rows(tmp_path / "m.csv"))
    with pytest.raises(InputError, match=r"\.csv, \.json, \.jsonl"):
        list(manifest_rows(tmp_path / "m.xlsx"))


# plan


def test_every_problem_of_every_row_is_listed(tmp_path):
    touch(tmp_path, "ct.nii", "seg.nii")
    rows = [
        ["A", "ct.nii", "seg.nii", "", "", ""],
        ["a", "ct.nii", "gone.nii", "fdg.nii", "", ""],
        ["../b", "", "", "", "", ""],
        ["C", "ct.nii", "seg.nii;other.nii", "", "", ""],
        ["D", "ct.nii", "seg.nii"],
    ]
    cases, plan = plan_of(write_csv(tmp_path / "m.csv", rows), tmp_path)
    assert (plan.count, plan.unusable) == (5, 4)
    assert cases[0].problems == ()
    same, segmentation, pet = cases[1].problems
    assert "row 1 has the same case name" in same
    assert "gone.nii does not exist" in segmentation
    assert "pet_fdg fdg.nii does not exist" in pet
    assert len(cases[2].problems) == 3
    assert cases[3].problems == ("the segmentation other.nii does not exist",)
    assert "3 cells" in cases[4].problems[0]


def test_paths_are_relative_to_the_manifest(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    touch(tmp_path / "data", "ct.nii", "seg.nii")
    manifest = write_csv(tmp_path / "data" / "m.csv", [["A", "ct.nii", "seg.nii", "", "", ""]])
    monkeypatch.chdir(tmp_path)
    cases, plan = plan_of(manifest.relative_to(tmp_path), tmp_path)
    assert cases[0].problems == ()
    assert plan.root == tmp_path / "data"


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_long_manifest_is_not_held_in_memory(tmp_path, suffix):
    """2,000 rows with long paths: only the names stay."""
    touch(tmp_path, "ct.nii", "seg.nii")
    detour = "/".join(["."] * 1500) + "/ct.nii"
    path = tmp_path / f"m{suffix}"
    rows = ([f"case {n}", detour, "seg.nii", "", "", ""] for n in range(2_000))
    if suffix == ".csv":
        write_csv(path, rows)
    else:
        documents = (json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows)
        path.write_text(f"[{','.join(documents)}]", encoding="utf-8")
    assert path.stat().st_size > 5e6
    tracemalloc.start()
    plan = write_plan(path, tmp_path / "plan.jsonl")
    count = sum(1 for case in plan.cases() if not case.problems)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2_000
    assert peak < 2e6
