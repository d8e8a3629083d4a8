"""Cohort manifests: what is read, every problem at once, and what the readers make of a case."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from images import LIVER_RULES, OBLIQUE, ct_array, label_array, rotation, write_dicom, write_image
from random_models import shipped_specification

from REACTKDLib.errors import InputError, OptionError, OutputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.model_package import ModelSpec, spec_from_section
from REACTKDLib.read import read_study
from REACTKDLib.read_image import read_geometry
from REACTKDLib.types import ClassInfo
from training.label_schema import GRADE3, SCHEMAS, LabelSchema, read_label_schema
from training.manifest import (
    Cohort,
    CohortCase,
    ManifestError,
    read_manifest,
    study_files,
    write_manifest,
)
from training.manifest_check import boxes_overlap

FAR = Geometry((6, 5, 4), (2.0, 2.0, 3.0), (900.0, 0.0, 0.0))
PET_GRID = Geometry((5, 6, 7), (4.0, 4.0, 4.0), (-40.0, 40.0, -130.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two patients, as NIfTI, that manifests of the tests refer to."""
    for patient in ("p1", "p2"):
        (tmp_path / patient).mkdir()
        write_image(tmp_path / patient / "ct.nii.gz", ct_array())
        write_image(tmp_path / patient / "seg.nii.gz", label_array())
        pet = np.linspace(0, 6, 210, dtype=np.float32).reshape(7, 6, 5)
        write_image(tmp_path / patient / "pet.nii.gz", pet, PET_GRID)
    return tmp_path


def row(patient: str, label: str = "well", **cells: str) -> dict[str, str]:
    """A good row of ``folder``; a cell of "" takes a column out."""
    files = {name: f"{patient[:2]}/{name}.nii.gz" for name in ("ct", "seg")}
    base = {
        "patient": patient, "label": label, "ct": files["ct"], "segmentation": files["seg"],
    }  # fmt: skip
    return {name: cell for name, cell in {**base, **cells}.items() if cell}


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(n for r in rows for n in r)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def problems_of(path: Path, *arguments, **options) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, *arguments, **options)
    assert len(set(caught.value.problems)) == len(caught.value.problems)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return "\n".join(caught.value.problems)


def test_a_manifest_in_csv_and_in_json(folder):
    rows = [
        row("p1", "Well differentiated", group="A", pet_fdg="p1/pet.nii.gz", pet_fdg_unit="SUVbw",
            clinical_age="61", clinical_hepatitis="HBV"),
        row("p2", "G3", pet_acetate="p2/pet.nii.gz", pet_acetate_unit="suv",
            role_liver="1", role_lesion="2; 3"),
    ]  # fmt: skip
    cohort = read_manifest(write_csv(folder / "cohort.csv", rows), GRADE3)
    assert cohort.name == "cohort"
    assert cohort.labels == (0, 2)
    first, second = cohort.cases
    assert (first.patient, first.group, first.ct) == ("p1", "A", folder / "p1/ct.nii.gz")
    assert first.pet == {"pet_fdg": folder / "p1/pet.nii.gz"}
    assert first.clinical == {"age": 61.0, "hepatitis": "HBV"}
    assert second.pet == {"pet_acetate": folder / "p2/pet.nii.gz"}
    assert second.roles == {"liver": ("1",), "lesion": ("2", "3")}
    assert (first.unit, second.unit) == ("group A", "patient p2")

    rows[1]["role_lesion"] = ["2", 3]
    rows[0]["clinical_age"] = 61
    (folder / "cohort.json").write_text(json.dumps({"cases": rows}))
    assert read_manifest(folder / "cohort.json", GRADE3) == cohort


def test_every_problem_is_listed_at_once(folder):
    write_image(folder / "far.nii.gz", label_array(FAR), FAR)
    (folder / "broken.nii.gz").write_bytes(b"no image")
    rows = [
        row("p1", "good", ct="p1/none.nii.gz"),
        row("p2", pet_fdg="p2/pet.nii.gz"),
        row("p2", segmentation="far.nii.gz", ct="broken.nii.gz"),
        row("p2b", segmentation="far.nii.gz"),
        row("p1c", ct=str(folder / "p1/ct.nii.gz"), segmentation=""),
        row("", segmentation="C:\\data\\seg.nii.gz"),
        row("p1d", mask_liver="p1/seg.nii.gz"),
        row("p1e", pet_fdg="p1/pet.nii.gz", pet_fdg_unit="Bq/ml", weight="80"),
    ]
    found = problems_of(write_csv(folder / "cohort.csv", rows), GRADE3)
    for expected in (
        "unknown column 'weight'",
        "line 2 (p1): the label 'good' is no class of grade3 (well, moderate, poor)",
        "none.nii.gz does not exist",
        "line 3 (p2): pet_fdg has no SUV scale",
        "broken.nii.gz is damaged",
        "far.nii.gz does not overlap the CT",
        "line 6 (p1c): the path of ct is absolute",
        "line 6 (p1c): there is neither a segmentation nor a mask",
        "line 7: the patient is missing",
        "the path of segmentation is absolute, 'C:\\\\data\\\\seg.nii.gz'",
        "line 8 (p1d): masks stand beside a segmentation",
        "line 9 (p1e): pet_fdg is in 'Bq/ml', not in SUV",
        "patient p2 is there 2 times",
        "fewer than two classes have cases: {'well': 6, 'moderate': 0, 'poor': 0}",
    ):
        assert expected in found
    # A grid is compared only where both headers could be read.
    assert "line 4 (p2): segmentation" not in found


def test_problems_between_cases(folder):
    rows = [
        row("p1", "well", group="A", study="1"), row("p1", "well", group="B", study="2"),
        row("p2", "poor", study="1"), row("p2", "poor", study="1"),
    ]  # fmt: skip
    found = problems_of(write_csv(folder / "c.csv", rows), GRADE3, folds=2)
    assert "patient p1 is in several groups: ['A', 'B']" in found
    assert "patient p2, study 1, is there 2 times" in found
    assert "class moderate has 0 patients (or groups), fewer than the 2 folds" in found
    assert "class poor has 1 patients" in found
    assert "class well" not in found
    assert "fewer than two classes" not in found


def test_a_model_to_come_is_compared(folder):
    spec: ModelSpec = spec_from_section(shipped_specification())
    good = write_csv(folder / "good.csv", [row("p1"), row("p2", "poor")])
    assert len(read_manifest(good, GRADE3, spec=spec).cases) == 2
    rows = [row("p1", segmentation="", mask_spleen="p1/seg.nii.gz"), row("p2", "poor")]
    bad = write_csv(folder / "bad.csv", rows)
    found = problems_of(bad, SCHEMAS["lung_metastasis"], spec=spec)
    assert "p1: the model has no roles ['spleen']" in found
    assert "p1: the model needs masks of ['liver']" in found
    assert "classes ('no', 'yes'), the model ('well', 'moderate', 'poor')" in found


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("c.txt", b"patient,ct\n", "neither .csv nor .json"),
        ("c.csv", b"patient,ct\n\xff,a\n", "cannot be read"),
        ("c.csv", b"", "no column 'patient'"),
        ("c.csv", b"patient,ct\n", "it has no cases"),
        ("c.csv", b"patient,ct,ct\np1,a,b\n", "'ct' is there 2 times"),
        ("c.csv", b"patient,ct\np1,a,b\n", "line 2 has 3 cells, not 2"),
        ("c.csv", b"patient,ct,pet_fdg_unit\np1,a,SUV\n", "there without 'pet_fdg'"),
        ("c.json", b"[1]", "not of the form"),
        ("c.json", b"{", "cannot be read"),
        ("c.json", b'{"cases": [], "unit": 1}', "unknown key 'unit'"),
        ("c.json", b'{"cases": [3]}', "case 1 is 3"),
        ("c.json", b'{"cases": [{"patient": {}}]}', "patient is {}"),
    ],
)
def test_a_file_of_another_form(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert expected in problems_of(tmp_path / name)


def test_a_missing_manifest(tmp_path):
    assert "cannot be read" in problems_of(tmp_path / "none.csv")


def test_one_unit_speaks_for_all_pet_of_a_json_manifest(folder):
    cases = [row("p1", pet_fdg="p1/pet.nii.gz"), row("p2", "poor", pet_fdg="p2/pet.nii.gz")]
    path = folder / "cohort.json"
    path.write_text(json.dumps({"pet_unit": "suv", "cases": cases}))
    assert len(read_manifest(path, GRADE3).cases) == 2
    cases[1]["pet_fdg_unit"] = "kBq/ml"  # the row's own word counts
    path.write_text(json.dumps({"pet_unit": "suv", "cases": cases}))
    assert problems_of(path, GRADE3).count("not in SUV") == 1


def test_labels_are_not_looked_at_without_a_schema(folder):
    cohort = read_manifest(write_csv(folder / "c.csv", [row("p1", "anything"), row("p2", "")]))
    assert [case.label for case in cohort.cases] == [None, None]
    with pytest.raises(OptionError, match="has no labels"):
        _ = cohort.labels


def test_a_dicom_ct_and_a_mask_on_another_overlapping_grid(folder):
    write_dicom(folder / "dicom", ct_array(), uid="1.2.3")
    write_dicom(folder / "dicom" / "other", ct_array(), uid="1.2.4")
    coarse = Geometry((7, 6, 5), (2.0, 2.0, 4.0), OBLIQUE.origin_lps, OBLIQUE.direction_lps)
    write_image(folder / "coarse.nii.gz", np.ones(coarse.array_shape, np.uint8), coarse)
    cells = {"ct": "dicom", "series_uid": "1.2.4", "segmentation": "coarse.nii.gz"}
    path = write_csv(folder / "c.csv", [row("p1", **cells), row("p2", "poor")])
    case = read_manifest(path, GRADE3).cases[0]
    assert np.array_equal(read_study(study_files(case), LIVER_RULES).ct.array, ct_array())
    cells["series_uid"] = ""
    path = write_csv(folder / "d.csv", [row("p1", **cells), row("p2", "poor", series_uid="9")])
    found = problems_of(path, GRADE3)
    assert "has 2 CT series" in found
    assert "A series UID (9) is given" in found


def test_headers_are_read_as_the_readers_read_them(tmp_path):
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha"):
        assert read_geometry(write_image(tmp_path / name, ct_array()), "ct").same_grid(OBLIQUE)
    with pytest.raises(InputError, match="is not a file"):
        (tmp_path / "b.nii").mkdir()
        read_geometry(tmp_path / "b.nii", "pet_fdg")


def turned(origin: tuple[float, float, float]) -> Geometry:
    return Geometry((10, 10, 10), (1, 1, 1), origin, tuple(rotation(45, 0).ravel()))


def smaller(geometry: Geometry) -> Geometry:
    """The grid without its outermost half voxels."""
    origin = tuple(geometry.lps_from_ijk(np.full(3, 0.5)))
    size = tuple(n - 1 for n in geometry.size)
    return Geometry(size, geometry.spacing_mm, origin, geometry.direction_lps)


def test_boxes_overlap_exactly():
    box = Geometry((10, 10, 10), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))  # 0..10 mm on each axis
    assert boxes_overlap(box, box)
    beside = Geometry((4, 4, 4), (1.0, 1.0, 1.0), (10.5, 0.5, 0.5))
    assert not boxes_overlap(box, beside)  # they touch
    assert boxes_overlap(box, Geometry((4, 4, 4), (1.0, 1.0, 1.0), (10.3, 0.5, 0.5)))
    inside = Geometry((2, 2, 2), (1.0, 1.0, 1.0), (4.0, 4.0, 4.0))
    assert boxes_overlap(box, inside) and boxes_overlap(inside, box)
    # All of a box turned by 45 degrees lies at x + y > 21.3 or 19.3; the first box ends at 20.
    apart, near = turned((14.0, 8.0, 0.5)), turned((13.0, 7.0, 0.5))
    for other in (apart, near):
        assert (other.corners_lps().min(axis=0) < 10).all()  # upright boxes around them overlap
    assert not boxes_overlap(box, apart)
    assert boxes_overlap(box, near)


@pytest.mark.parametrize(("height", "overlap"), [(1.40, True), (1.43, False)])
def test_edges_that_pass_each_other(height, overlap):
    """Two square bars on edge, one along x, one along y above it: half diagonals sum to 1.414."""
    size, spacing = (20, 1, 1), (1.0, 1.0, 1.0)
    below = Geometry(size, spacing, (-9.5, 0.0, 0.0), tuple(rotation(0, 45).ravel()))
    above = Geometry(size, spacing, (0.0, -9.5, height), tuple(rotation(90, 45).ravel()))
    assert boxes_overlap(below, above) == overlap


def test_boxes_agree_with_sampled_points():
    """Oracle: a dense lattice of one box, tested point by point in the other."""
    rng = np.random.default_rng(3)
    lattice = np.stack(np.meshgrid(*[np.linspace(-0.5, 7.5, 25)] * 3), axis=-1).reshape(-1, 3)
    seen = set()
    for _ in range(60):
        one, other = (
            Geometry(
                (8, 8, 8),
                tuple(rng.uniform(0.5, 3, 3)),
                tuple(rng.uniform(-14, 14, 3)),
                tuple(rotation(*rng.uniform(-90, 90, 2)).ravel()),
            )
            for _ in range(2)
        )
        index = other.ijk_from_lps(one.lps_from_ijk(lattice))
        sampled = bool(np.all((index > -0.5) & (index < 7.5), axis=1).any())
        seen.add(sampled)
        assert boxes_overlap(one, other) == boxes_overlap(other, one)
        if sampled:
            assert boxes_overlap(one, other)
        else:  # a thin overlap may slip through the lattice, a deep one may not
            assert not boxes_overlap(smaller(one), smaller(other))
    assert seen == {True, False}


# study_files -------------------------------------------------------------------------------------


def roles_read(case: CohortCase) -> dict[str, int]:
    """Voxels of each role as the ordinary reader sees them."""
    segmentation = read_study(study_files(case), LIVER_RULES).segmentation
    return {
        role: int(np.isin(segmentation.labels, segmentation.labels_of(role)).sum())
        for role in ("liver", "lesion")
    }


LIVER, LESION = label_array() > 0, label_array() == 2
VOXELS = {"liver": int(LIVER.sum() - LESION.sum()), "lesion": int(LESION.sum())}


@pytest.mark.parametrize(
    ("liver_name", "lesion_names"),
    [
        ("liver.nii.gz", ["tumour.nii.gz"]),
        ("organ/seg.nii.gz", ["mass/seg.nii.gz"]),
        ("2.nii.gz", ["1.nii.gz"]),
        ("b.nii.gz", ["a/1.nii.gz", "a/c.nii.gz"]),
        ("spleen.nii.gz", ["kidney.nii.gz"]),
    ],
)
def test_masks_keep_their_role_whatever_their_name(folder, liver_name, lesion_names):
    halves = [LESION.copy() for _ in lesion_names]
    if len(halves) == 2:
        halves[0][3:], halves[1][:3] = False, False
    for name, mask in zip([liver_name, *lesion_names], [LIVER, *halves], strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / name, mask.astype(np.uint8) * 255)
    cells = {"mask_liver": liver_name, "mask_lesion": ";".join(lesion_names), "segmentation": ""}
    path = write_csv(folder / "c.csv", [row("p1", **cells)])
    assert roles_read(read_manifest(path).cases[0]) == VOXELS


@pytest.mark.parametrize("value", [1, 2, 255])
def test_one_mask_alone_is_its_role_and_not_the_organ(folder, value):
    rules = tuple(r for r in LIVER_RULES if r.name == "lesion")
    write_image(folder / "gtv.nii.gz", LESION.astype(np.uint8) * value)
    path = write_csv(folder / "c.csv", [row("p1", segmentation="", mask_lesion="gtv.nii.gz")])
    segmentation = read_study(study_files(read_manifest(path).cases[0]), rules).segmentation
    lesion = np.isin(segmentation.labels, segmentation.labels_of("lesion"))
    assert np.array_equal(lesion, LESION)


def test_a_labelmap_with_its_roles_and_pet(folder):
    labels = label_array()
    labels[labels == 1], labels[labels == 2] = 6, 9
    write_image(folder / "organs.nii.gz", labels)
    cells = {"segmentation": "organs.nii.gz", "role_liver": "6", "role_lesion": "9",
             "pet_fdg": "p1/pet.nii.gz", "pet_fdg_unit": "SUV", "study": "s"}  # fmt: skip
    case = read_manifest(write_csv(folder / "c.csv", [row("p1", **cells)])).cases[0]
    assert roles_read(case) == VOXELS
    study = read_study(study_files(case), LIVER_RULES)
    assert study.case_id == "p1/s"
    assert study.volumes["pet_fdg"].geometry.same_grid(PET_GRID)


# Writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_written_manifest_is_read_back_from_anywhere(folder, suffix):
    rows = [
        {"patient": p, "label": label, "ct": folder / p / "ct.nii.gz",
         "mask_lesion": [folder / p / "seg.nii.gz", folder / p / "ct.nii.gz"],
         "clinical_age": 50, "clinical_note": None}
        for p, label in (("p1", "G1"), ("p2", "G2"))
    ]  # fmt: skip
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "deep" / "er")
    path = write_manifest(rows, folder / "link" / f"m{suffix}")
    assert str(folder) not in path.read_text()
    cohort = read_manifest(path, GRADE3)
    assert [c.ct.resolve() for c in cohort.cases] == [r["ct"].resolve() for r in rows]
    assert len(cohort.cases[0].masks["lesion"]) == 2
    assert cohort.cases[0].clinical == {"age": 50.0}
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write_manifest(rows, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_paths_do_not_depend_on_links_to_the_folder(folder):
    (folder / "data").mkdir()
    (folder / "data" / "store").write_bytes(b"")
    (folder / "data" / "ct.nii").symlink_to("store")
    (folder / "link").symlink_to(folder / "data")
    path = write_manifest([{"ct": folder / "link" / "ct.nii"}], folder / "data" / "m.csv")
    assert path.read_text() == "ct\nct.nii\n"  # a linked file keeps its own name


def test_what_cannot_be_written(folder):
    with pytest.raises(OutputError, match="separates files"):
        write_manifest([{"ct": folder / "a;b.nii"}], folder / "m.csv")
    with pytest.raises(OutputError, match=r"neither \.csv"):
        write_manifest([], folder / "m.xlsx")
    with pytest.raises(OutputError, match="cannot be written"):
        write_manifest([], folder / "none" / "m.csv")


# Label schemas -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("well", 0), ("Well differentiated", 0), ("  WELL-differentiated ", 0), ("G2", 1),
        ("moderately_differentiated", 1), ("grade 3", 2), ("Poorly", 2),
        ("1", None), ("II", None), ("", None), ("well to moderate", None), ("nan", None),
    ],
)  # fmt: skip
def test_grades_as_written(label, index):
    assert GRADE3.index_of(label) == index


def test_numbers_count_by_value():
    schema = SCHEMAS["lung_metastasis"]
    assert [schema.index_of(v) for v in (0, 1, "1", "1.0", 1.0, "yes", 2)] == [
        0,
        1,
        1,
        1,
        1,
        1,
        None,
    ]


def test_a_schema_from_json(tmp_path):
    section = {
        "name": "esg",
        "classes": [
            {"name": "low", "title": "I or II", "written": [1, "II"]},
            {"name": "high", "title": "III or IV", "written": [3, 4]},
        ],
    }
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(section))
    schema = read_label_schema(path)
    assert schema.class_names == ("low", "high")
    assert [schema.index_of(v) for v in ("1", "ii", 4, "V")] == [0, 0, 1, None]
    for broken in (
        {"name": "x"},
        {**section, "extra": 1},
        {"name": "x", "classes": section["classes"][:1]},
        {"name": "x", "classes": [{"name": "a"}, {"name": "b"}]},
        [1],
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(OptionError):
            read_label_schema(path)
    with pytest.raises(OptionError, match="cannot be read"):
        read_label_schema(tmp_path / "none.json")


def test_a_schema_that_contradicts_itself():
    classes = (ClassInfo("a", "A title"), ClassInfo("b", "B title"))
    with pytest.raises(OptionError, match=r"'1\.0' means two classes"):
        LabelSchema("s", classes, {"a": (1,), "b": ("1.0",)})
    with pytest.raises(OptionError, match="no classes"):
        LabelSchema("s", classes, {"c": (1,)})
    with pytest.raises(OptionError, match="two or more"):
        LabelSchema("s", (classes[0], classes[0]))


def test_cohorts_cross_processes(folder):
    import pickle

    cohort: Cohort = read_manifest(
        write_csv(folder / "c.csv", [row("p1"), row("p2", "G2")]), GRADE3
    )
    assert pickle.loads(pickle.dumps(cohort)) == cohort
