"""Public cohorts of image files: trees as downloaded, whole and broken, become manifests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from images import LIVER_RULES, OBLIQUE, ct_array, label_array, write_image

from REACTKDLib.errors import OptionError, OutputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.read import read_study
from training.folds import split_units
from training.label_schema import LUNG_METASTASIS, SCHEMAS
from training.manifest import ManifestError, read_manifest, study_files
from training.public_cohorts import COHORTS, build_manifest

#: Real data lie beside the repository where there are any; they are no part of it.
REAL_STS = Path(__file__).resolve().parents[3] / "shared" / "data" / "sts_petct51"

LIVER, LESION = label_array() > 0, label_array() == 2
PET = np.linspace(0, 6, int(np.prod(OBLIQUE.size)), dtype=np.float32).reshape(OBLIQUE.array_shape)


def put(path: Path, array: np.ndarray, geometry: Geometry = OBLIQUE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_image(path, array, geometry)


def mask(array: np.ndarray) -> np.ndarray:
    return array.astype(np.uint8)


def lits_tree(tree: Path) -> Path:
    for n, part in ((0, "Batch 1"), (2, "Batch 2"), (10, "Batch 2")):
        put(tree / part / f"volume-{n}.nii", ct_array())
        put(tree / part / f"segmentation-{n}.nii", mask(LIVER) if n == 2 else label_array())
    put(tree / "test-volume-3.nii", ct_array())
    return tree


def msd_tree(tree: Path) -> Path:
    for n in (1, 11):
        put(tree / "imagesTr" / f"liver_{n}.nii.gz", ct_array())
        put(tree / "labelsTr" / f"liver_{n}.nii.gz", label_array())
    put(tree / "imagesTs" / "liver_2.nii.gz", ct_array())
    document = {
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "training": [
            {"image": f"./imagesTr/liver_{n}.nii.gz", "label": f"./labelsTr/liver_{n}.nii.gz"}
            for n in (1, 11)
        ],
    }
    (tree / "dataset.json").write_text(json.dumps(document))
    return tree


def waw_tree(tree: Path) -> Path:
    for patient, drawn in (("7", 1), ("35", 2)):
        for phase in range(4):
            grid = OBLIQUE.crop((0, 0, 0), (14, 11, 8 - (phase == 3)))
            put(tree / "Images" / patient / f"{patient}_{phase}_scan.nii.gz", ct_array(grid), grid)
        for n, cut in enumerate((np.s_[:3], np.s_[3:])):
            part = LESION.copy()
            part[cut] = False
            put(tree / "Masks" / patient / f"{patient}_{drawn}_{n}_tumor_seg.nrrd", mask(part))
    put(tree / "Images" / "40" / "40_1_scan.nii.gz", ct_array())
    (tree / "clinical.csv").write_text("PATPRI,age,response\n7,61,0\n35,70,1\n40,50,1\n")
    return tree


def authors_tree(tree: Path) -> Path:
    """Images, and masks in a second tree beside it, as the authors keep them."""
    both = ("FDG", "ACT")
    patients = (("well", "A1", both), ("moderate", "B2", both), ("poor", "C3", ("ACT",)))
    for grade, patient, tracers in patients:
        for tracer in tracers:
            put(tree / grade / patient / tracer / "CT.nii.gz", ct_array())
            put(tree / grade / patient / tracer / "PET.nii.gz", PET)
            masks = tree.with_name(tree.name + "_seg") / grade / patient / tracer
            put(masks / "CT_liver.nii.gz", mask(LIVER))
            put(masks / "CT_tumor.nii.gz", mask(LESION))
    return tree


def sts_tree(tree: Path) -> Path:
    lines = ["patient,lung_metastasis,suv_max,ct_size_xyz"]
    for n in range(6):
        folder = tree / f"STS_{n:03d}"
        put(folder / "ct.nii.gz", ct_array())
        put(folder / "gtv_ct.nii.gz", mask(LESION))
        put(folder / "pet_suv.nii.gz", PET)
        put(folder / "gtv_pet.nii.gz", mask(LESION))
        lines.append(f'STS_{n:03d},{n % 2},7.9,"(14, 11, 8)"')
    (tree / "labels.csv").write_text("\n".join(lines))
    return tree


TREES = {
    "lits17": (lits_tree, {}),
    "msd-task03": (msd_tree, {}),
    "waw-tace": (waw_tree, {}),
    "react-kd": (authors_tree, {"pet_unit": "SUV"}),
    "sts": (sts_tree, {}),
}


def options_of(name: str, tree: Path) -> dict[str, object]:
    extra = {"masks": tree.with_name(tree.name + "_seg")} if name == "react-kd" else {}
    return {**TREES[name][1], **extra}


@pytest.fixture
def build(tmp_path):
    """Builds a manifest of a generated tree, which ``broken`` may change before."""

    def run(name, options=None, broken=None, schema=None):
        tree = TREES[name][0](tmp_path / "tree")
        if broken:
            broken(tree)
        before = sorted(tree.rglob("*"))
        chosen = {**options_of(name, tree), **(options or {})}
        try:
            return build_manifest(name, tree, tmp_path / "out" / "cohort.csv", chosen, schema)
        finally:
            assert sorted(tree.rglob("*")) == before

    return run


def problems_of(build, *arguments, **options) -> str:
    with pytest.raises(ManifestError) as caught:
        build(*arguments, **options)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize("suffix", ["csv", "json"])
@pytest.mark.parametrize("name", TREES)
def test_every_case_of_a_tree_can_be_read(tmp_path, name, suffix):
    tree = TREES[name][0](tmp_path / "tree")
    output = tmp_path / "new" / "folder" / f"{name}.{suffix}"
    built = build_manifest(name, tree, output, options_of(name, tree))
    assert built.path == output and built.source == COHORTS[name].source
    assert list(output.parent.iterdir()) == [output]
    assert os.fspath(tmp_path) not in output.read_text()
    cohort = read_manifest(output, COHORTS[name].schema)
    assert len(cohort.cases) == built.cases > 1
    rules = LIVER_RULES if name in ("lits17", "msd-task03", "react-kd") else LIVER_RULES[1:]
    for case in cohort.cases:
        study = read_study(study_files(case), rules)
        assert np.array_equal(study.ct.array, ct_array(study.ct.geometry))
        assert set(study.volumes) == {"ct", *case.pet}
        found = np.isin(study.segmentation.labels, study.segmentation.labels_of("lesion"))
        assert found.sum() == (0 if case.patient == "LiTS17-2" else LESION.sum())


def test_lits17(build):
    cohort = read_manifest(build("lits17").path)
    assert [c.patient for c in cohort.cases] == ["LiTS17-0", "LiTS17-2", "LiTS17-10"]


def test_lits17_broken(build):
    def broken(tree):
        (tree / "Batch 1" / "segmentation-0.nii").unlink()
        put(tree / "copy" / "volume-10.nii", ct_array())

    found = problems_of(build, "lits17", broken=broken)
    assert "LiTS17-0 has 1 files volume-0 and 0 files segmentation-0" in found
    assert "LiTS17-10 has 2 files volume-10" in found


def test_excluded_patients_cause_no_problem(build):
    built = build(
        "lits17",
        {"exclude": ["LiTS17-0"]},
        lambda tree: (tree / "Batch 1" / "segmentation-0.nii").unlink(),
    )
    assert built.cases == 2
    assert built.left_out == ("LiTS17-0: excluded by the options",)


def test_msd_task03(build):
    assert [c.patient for c in read_manifest(build("msd-task03").path).cases] == [
        "MSD03-liver_1",
        "MSD03-liver_11",
    ]


def test_msd_task03_broken(build, tmp_path):
    def broken(tree):
        (tree / "labelsTr" / "liver_1.nii.gz").unlink()
        description = tree / "dataset.json"
        description.write_text(description.read_text().replace("cancer", "vessel"))

    found = problems_of(build, "msd-task03", broken=broken)
    assert "liver_1.nii.gz does not exist" in found
    assert "vessel" in found and "Task03 has 1 liver and 2 cancer" in found
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="cannot be read as a decathlon task"):
        build_manifest("msd-task03", tmp_path / "empty", tmp_path / "m.csv")


def test_waw_tace_takes_the_phase_that_was_drawn(build):
    built = build("waw-tace")
    cases = read_manifest(built.path).cases
    assert [(c.patient, c.study, c.ct.name) for c in cases] == [
        ("7", "phase 1", "7_1_scan.nii.gz"),
        ("35", "phase 2", "35_2_scan.nii.gz"),
    ]
    assert [len(c.masks["lesion"]) for c in cases] == [2, 2]
    assert built.left_out == ("40: no tumour mask",)


def test_waw_tace_with_labels_and_one_phase(build, tmp_path):
    table = {"label_table": tmp_path / "tree" / "clinical.csv", "label_column": "response"}
    built = build("waw-tace", table, schema=LUNG_METASTASIS)  # any schema of 0 and 1
    assert read_manifest(built.path, LUNG_METASTASIS).labels == (0, 1)
    built.path.unlink()
    built = build("waw-tace", {"phase": 2})
    assert built.cases == 1 and "7: phase 1 is not phase 2" in built.left_out


def test_waw_tace_broken(build, tmp_path):
    def broken(tree):
        (tree / "Images" / "35" / "35_2_scan.nii.gz").unlink()
        for n in range(2):
            file = tree / "Masks" / "7" / f"7_1_{n}_tumor_seg.nrrd"
            file.rename(file.with_name(f"7_3_{n}_tumor_seg.nrrd"))

    found = problems_of(build, "waw-tace", broken=broken)
    assert "35 has tumour masks of phase 2 and no scan of it" in found
    assert "7_3_0_tumor_seg.nrrd is not on the grid of phase 3; it fits phase 0, 1, 2" in found
    with pytest.raises(OptionError, match="without label_column"):
        build_manifest("waw-tace", tmp_path / "tree", tmp_path / "m.csv", {"label_table": "t.csv"})


def test_the_authors_tree_scan_by_scan(build):
    cohort = read_manifest(build("react-kd").path, COHORTS["react-kd"].schema)
    assert [(c.patient, c.study, tuple(c.pet), c.label) for c in cohort.cases] == [
        ("B2", "FDG", ("pet_fdg",), 1),
        ("B2", "ACT", ("pet_acetate",), 1),
        ("C3", "ACT", ("pet_acetate",), 2),
        ("A1", "FDG", ("pet_fdg",), 0),
        ("A1", "ACT", ("pet_acetate",), 0),
    ]
    assert all(c.ct.parent.name == c.study for c in cohort.cases)


def test_the_authors_tree_with_registered_scans(build):
    options = {"registered": True, "exclude": ["C3"]}
    cohort = read_manifest(build("react-kd", options).path, COHORTS["react-kd"].schema)
    assert [(c.patient, set(c.pet)) for c in cohort.cases] == [
        ("B2", {"pet_fdg", "pet_acetate"}),
        ("A1", {"pet_fdg", "pet_acetate"}),
    ]
    assert {c.ct.parent.name for c in cohort.cases} == {"FDG"}


def test_the_authors_tree_broken(build):
    def broken(tree):
        (tree / "poor").rename(tree / "unclear")
        (tree / "well" / "A1" / "FDG" / "PET.nii.gz").unlink()

    found = problems_of(build, "react-kd", {"pet_unit": ""}, broken)
    assert "(A1/FDG): pet_fdg has no SUV scale" in found
    assert "the label 'unclear' is no class of grade3" in found
    assert "PET.nii.gz does not exist" in found
    assert "C3" in found and "CT_liver.nii.gz does not exist" in found
    found = problems_of(build, "react-kd", {"registered": True})
    assert "poor/C3 has no FDG scan to register to" in found


def test_sts(build):
    cohort = read_manifest(build("sts").path, SCHEMAS["lung_metastasis"], folds=3)
    assert cohort.labels == (0, 1, 0, 1, 0, 1)
    assert {tuple(c.pet) for c in cohort.cases} == {("pet_fdg",)}
    assert {c.masks["lesion"][0].name for c in cohort.cases} == {"gtv_ct.nii.gz"}


def test_sts_broken(build, tmp_path):
    def broken(tree):
        table = tree / "labels.csv"
        table.write_text(table.read_text().replace("STS_001,1", "STS_001,?"))
        (tree / "STS_002" / "pet_suv.nii.gz").write_bytes(b"")
        (tree / "STS_077").mkdir()

    found = problems_of(build, "sts", broken=broken)
    assert "the label '?' is no class of lung_metastasis" in found
    assert "pet_suv.nii.gz is damaged" in found
    assert "STS_077 is not in" in found
    (tmp_path / "tree" / "labels.csv").write_text("patient,metastasis\nSTS_001,0\n")
    with pytest.raises(ManifestError, match="no column 'lung_metastasis'"):
        build_manifest("sts", tmp_path / "tree", tmp_path / "m.csv")


@pytest.mark.real
@pytest.mark.skipif(not REAL_STS.is_dir(), reason=f"no real PET/CT in {REAL_STS}")
def test_sts_on_the_real_patients(tmp_path):
    built = build_manifest("sts", REAL_STS, tmp_path / "sts.csv")
    cohort = read_manifest(built.path, LUNG_METASTASIS, folds=3)
    assert (len(cohort.cases), sum(cohort.labels)) == (51, 19)
    units = [case.unit for case in cohort.cases]
    for split in split_units(units, cohort.labels, 3, seed=0):
        assert len(split.held_out) == 17
        assert sum(cohort.labels[n] for n in split.held_out) in (6, 7)
    study = read_study(study_files(cohort.cases[0]), LIVER_RULES[1:])
    lesion = np.isin(study.segmentation.labels, study.segmentation.labels_of("lesion"))
    volume = lesion.sum() * study.segmentation.geometry.voxel_volume_ml
    assert volume == pytest.approx(370.8, abs=0.1)  # gtv_ml_ct of labels.csv
    assert study.volumes["pet_fdg"].array.max() == pytest.approx(7.911, abs=1e-3)  # suv_max


# The rules of building --------------------------------------------------------------------------


def test_nothing_is_overwritten_and_nothing_is_left_behind(build, tmp_path):
    built = build("lits17")
    before = built.path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        build("lits17")
    assert built.path.read_bytes() == before
    built.path.unlink()
    (tmp_path / "out" / "cohort_files").mkdir()
    with pytest.raises(OutputError, match="cohort_files exists"):
        build("lits17")
    (tmp_path / "out" / "cohort_files").rmdir()
    problems_of(build, "lits17", broken=lambda t: (t / "Batch 1" / "volume-0.nii").unlink())
    assert list((tmp_path / "out").iterdir()) == []


def test_wrong_names_and_options(build, tmp_path):
    with pytest.raises(OptionError, match="Choose from hcc-tace-seg, idc"):
        build_manifest("lits", tmp_path, tmp_path / "m.csv")
    with pytest.raises(OptionError, match=r"no options phase\. It has exclude\."):
        build("lits17", {"phase": 1})
    with pytest.raises(OptionError, match="exclude names LiTS17-5"):
        build("lits17", {"exclude": "LiTS17-5"})
    with pytest.raises(OptionError, match="is no folder"):
        build_manifest("lits17", tmp_path / "none", tmp_path / "m.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="there are no cases as lits17 has them"):
        build_manifest("lits17", tmp_path / "empty", tmp_path / "m.csv")
    with pytest.raises(OutputError, match=r"neither \.csv nor \.json"):
        build_manifest("lits17", tmp_path / "tree", tmp_path / "m.txt")
