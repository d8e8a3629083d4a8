"""DICOM cohorts: IDC and TCIA trees, HCC-TACE-Seg with its clinical table."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openpyxl
import pydicom
import pytest
from dicom_objects import expected_labels, write_seg
from images import LIVER_RULES, OBLIQUE, ct_array, write_dicom

from REACTKDLib.errors import InputError
from REACTKDLib.read import read_study
from training.label_schema import GRADE3, LUNG_METASTASIS
from training.manifest import ManifestError, read_manifest, study_files
from training.public_cohorts import GRADE_MERGE, build_manifest
from training.public_cohorts.tables import by_patient, read_table

REAL_TABLE = (
    Path(__file__).resolve().parents[3]
    / "shared" / "data" / "tables" / "HCC-TACE-Seg_clinical_data-V2.xlsx"
)  # fmt: skip

# Trees -------------------------------------------------------------------------------------------


def write_study(
    folder: Path, patient: str, study: str, date: str, *, segs: int = 1, phases: int = 2
) -> None:
    """A study in IDC's layout: ``phases`` CT series and SEGs drawn on the last of them."""
    for phase in range(phases):
        uid = f"{study}.{phase}"
        write_dicom(
            folder / patient / study / f"CT_{uid}",
            ct_array() + np.int16(phase),
            uid=uid,
            tags={"0010|0020": patient, "0020|000d": study, "0008|0020": date},
        )
    for n in range(segs):
        uid = f"{study}.{90 + n}"
        write_seg(
            folder / patient / study / f"SEG_{uid}" / f"{uid}.dcm",
            refers=f"{study}.{phases - 1}",
            tags={
                "PatientID": patient, "StudyInstanceUID": study, "StudyDate": date,
                "SeriesInstanceUID": uid, "SeriesDescription": f"reader {n}",
            },
        )  # fmt: skip


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two patients; the first has a later study with a SEG and an earlier one without."""
    folder = tmp_path / "tree" / "hcc_tace_seg"
    write_study(folder, "HCC_001", "1.5.1", "20010301", segs=0)
    write_study(folder, "HCC_001", "1.5.3", "20030301")
    write_study(folder, "HCC_001", "1.5.2", "20020301")
    write_study(folder, "HCC_010", "1.6.1", "20020301")
    (folder / "LICENSE.txt").write_text("CC BY 4.0")
    return tmp_path / "tree"


def problems_of(*arguments) -> str:
    with pytest.raises(ManifestError) as caught:
        build_manifest(*arguments)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize("layout", ["idc", "flat"])
def test_an_idc_tree(tree, tmp_path, layout):
    if layout == "flat":  # tags decide, not folders
        for n, file in enumerate(sorted(tree.rglob("*.dcm"))):
            target = tree / ("one" if "HCC_001" in file.parts else "two") / f"{n:04d}"
            target.parent.mkdir(exist_ok=True)
            file.rename(target)
    built = build_manifest("idc", tree, tmp_path / "out" / "idc.csv")
    assert (built.cases, built.left_out) == (2, ())
    cohort = read_manifest(built.path)
    assert [(c.patient, c.study, c.series_uid) for c in cohort.cases] == [
        (
            "HCC_001",
            "1.5.2",
            "1.5.2.1",
        ),  # the earliest study with a SEG, and the CT it was drawn on
        ("HCC_010", "1.6.1", "1.6.1.1"),
    ]
    assert cohort.cases[0].segmentation.parent == tmp_path / "out" / "idc_files"
    for case in cohort.cases:
        study = read_study(study_files(case), LIVER_RULES)
        assert np.array_equal(study.ct.array, ct_array() + 1)
        assert study.ct.geometry.same_grid(OBLIQUE, 1e-2)
        assert np.array_equal(study.segmentation.labels, expected_labels()[1:7])
        assert study.segmentation.labels_of("lesion") == (2,)


def test_an_idc_tree_with_labels(tree, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("PatientID,outcome\nHCC_001,yes\nHCC_010,no\n")
    options = {"label_table": table, "label_column": "outcome"}
    built = build_manifest("idc", tree, tmp_path / "idc.json", options, LUNG_METASTASIS)
    assert read_manifest(built.path, LUNG_METASTASIS).labels == (1, 0)


def test_an_idc_tree_broken(tree, tmp_path):
    folder = tree / "hcc_tace_seg"
    shutil.rmtree(folder / "HCC_001" / "1.5.2" / "CT_1.5.2.1")
    shutil.rmtree(folder / "HCC_010" / "1.6.1" / "SEG_1.6.1.90")
    write_study(folder, "HCC_011", "1.7.1", "20020301", segs=2)
    write_study(folder, "HCC_012", "1.8.1", "")
    write_study(folder, "HCC_012", "1.8.2", "20020301")
    write_study(folder, "HCC_013", "1.9.1", "20020301")
    sorted((folder / "HCC_013" / "1.9.1" / "CT_1.9.1.1").iterdir())[3].unlink()
    (folder / "cut.dcm").write_bytes(b"\0" * 200)
    output = tmp_path / "out" / "idc.csv"
    found = problems_of("idc", tree, output)
    for expected in (
        "HCC_001: 0 of the study's 1 CT series are the one that the SEG was drawn on (it names"
        " 1.5.2.1)",
        "HCC_010: no SEG among 2 series",
        'HCC_011: the earliest study has 2 SEG files (series "reader 0", "reader 1")',
        "HCC_012: several studies have a SEG, and not all have a date",
        "not evenly spaced",
        "cut.dcm cannot be read as DICOM",
    ):
        assert expected in found
    assert list(output.parent.iterdir()) == []  # converted labelmaps neither
    (folder / "cut.dcm").unlink()
    excluded = ["HCC_001", "HCC_010", "HCC_012", "HCC_013"]
    options = {"exclude": excluded, "seg_description": "Reader 1"}
    built = build_manifest("idc", tree, output, options)
    assert [c.patient for c in read_manifest(output).cases] == ["HCC_011"]
    assert len(built.left_out) == 4


CLINICAL = ("TCIA_ID", "age", "Sex", "AFP", "hepatitis", "Evidence_of_cirh", "CPS", "BCLC",
            "Pathology")  # fmt: skip


def write_clinical(path: Path, pathologies: Mapping[str, str]) -> Path:
    rows = [
        (patient, 60, 1 + n % 2, 12.5 if n else None, "HCV only", 1, "A", "Stage-B", pathology)
        for n, (patient, pathology) in enumerate(pathologies.items())
    ]
    if path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([CLINICAL, *rows])
        return path
    book = openpyxl.Workbook()
    for row in (CLINICAL, *rows):
        book.active.append(row)
    book.create_sheet("glossary").append(["TCIA_ID", "Patient ID"])
    book.save(path)
    return path


@pytest.mark.parametrize("suffix", ["xlsx", "csv"])
def test_hcc_tace_seg(tree, tmp_path, suffix):
    grades = {
        "HCC_001": "Well-moderately differentiated",
        "HCC_002": "NOT STATED",
        "HCC_003": "Well differentiated",
        "HCC_010": "Poorly differentiated",
    }
    write_clinical(tree / f"HCC-TACE-Seg_clinical_data.{suffix}", grades)
    built = build_manifest("hcc-tace-seg", tree, tmp_path / "hcc.csv")
    assert built.left_out == (
        "HCC_002: pathology 'NOT STATED'",
        "HCC_003: no images in the tree",
    )
    cohort = read_manifest(built.path, GRADE3)
    assert [(c.patient, c.label, c.study) for c in cohort.cases] == [
        ("HCC_001", 1, "1.5.2"),
        ("HCC_010", 2, "1.6.1"),
    ]
    assert cohort.cases[0].clinical == {
        "age": 60, "sex": "male", "hepatitis": "HCV only", "cirrhosis": 1, "child_pugh": "A",
        "bclc": "Stage-B",
    }  # fmt: skip
    assert cohort.cases[1].clinical["afp_ng_ml"] == 12.5
    study = read_study(study_files(cohort.cases[0]), LIVER_RULES)
    assert study.segmentation.labels_of("liver") == (1,)


def test_the_merge_rule_is_the_users(tree, tmp_path):
    table = write_clinical(
        tmp_path / "t.csv",
        {"HCC_001": "Well-moderately differentiated", "HCC_010": "Undifferentiated"},
    )
    found = problems_of("hcc-tace-seg", tree, tmp_path / "a.csv", {"clinical": table})
    assert "HCC_010: no merge rule for the pathology 'Undifferentiated'" in found
    merge = {"Well-moderately differentiated": "well", "undifferentiated": "poor"}
    options = {"clinical": table, "grade_merge": merge}
    built = build_manifest("hcc-tace-seg", tree, tmp_path / "b.csv", options)
    assert read_manifest(built.path, GRADE3).labels == (0, 2)


def test_hcc_tace_seg_broken(tree, tmp_path):
    assert "has 0 clinical tables" in problems_of("hcc-tace-seg", tree, tmp_path / "a.csv")
    table = write_clinical(tree / "clinical.csv", {"HCC_001": "Poorly differentiated"})
    found = problems_of("hcc-tace-seg", tree, tmp_path / "a.csv")
    assert "HCC_010 is not in" in found
    seg = next((tree / "hcc_tace_seg" / "HCC_001" / "1.5.2").rglob("1.5.2.90.dcm"))
    dataset = pydicom.dcmread(seg)
    dataset.SegmentSequence[1].SegmentLabel = "Portal vein"
    dataset.save_as(seg)
    found = problems_of("hcc-tace-seg", tree, tmp_path / "a.csv")
    assert "HCC_001: the SEG has no lesion; its segments are Liver, Portal vein" in found
    table.write_text("TCIA_ID,Grade\nHCC_001,well\n")
    assert "no column 'Pathology'" in problems_of("hcc-tace-seg", tree, tmp_path / "a.csv")


# Tables ------------------------------------------------------------------------------------------


def test_tables_say_the_same_in_both_formats(tmp_path):
    grades = {"HCC_001": "Well differentiated", "HCC_002": "No biopsy"}
    tables = [read_table(write_clinical(tmp_path / f"t.{s}", grades)) for s in ("csv", "xlsx")]
    assert tables[0] == tables[1]
    assert tables[0][0]["age"] == "60" and tables[0][0]["AFP"] == ""


def test_tables_that_cannot_be_used(tmp_path):
    for name, content, message in (
        ("a.txt", b"a", "neither .csv nor .xlsx"),
        ("a.xlsx", b"no archive", "cannot be read"),
        ("a.csv", b"\xff\xfe", "cannot be read"),
        ("b.csv", b"a,a\n1,2\n", "Name each column"),
        ("c.csv", b"", "Name each column"),
        ("d.csv", b"id,x\n1,2\n1,3\n", "several rows have the id 1"),
        ("e.csv", b"id,x\n", "no column 'id'. It has no rows"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            by_patient(tmp_path / name, "id")
        assert message in str(caught.value)


@pytest.mark.real
@pytest.mark.skipif(not REAL_TABLE.is_file(), reason=f"no clinical table at {REAL_TABLE}")
def test_the_real_clinical_table(tmp_path):
    table = by_patient(REAL_TABLE, "TCIA_ID", "Pathology", *CLINICAL)
    labels = Counter(GRADE_MERGE[row["Pathology"]] for row in table.values())
    assert labels == {"well": 37, "moderate": 32, "poor": 14, None: 22}
    assert {row["Sex"] for row in table.values()} == {"1", "2"}

    tree = tmp_path / "tree"
    write_study(tree, "HCC_001", "1.5.1", "20010301")  # images are generated, moderately
    write_study(tree, "HCC_002", "1.6.1", "20010301")  # well
    options = {"clinical": REAL_TABLE}
    built = build_manifest("hcc-tace-seg", tree, tmp_path / "hcc.csv", options)
    assert read_manifest(built.path, GRADE3).labels == (1, 0)
    assert len(built.left_out) == 103
