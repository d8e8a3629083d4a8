"""Folders of cases by convention."""

from __future__ import annotations

from pathlib import Path

import pytest

from REACTKDLib.batch.folders import folder_rows
from REACTKDLib.errors import InputError


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    return root


def rows(root: Path) -> dict:
    return {row.case: row for row in folder_rows(root)}


def test_pairs(tmp_path):
    found = rows(
        make(
            tmp_path,
            *("A_ct.nii.gz", "A_seg.nii.gz", "A_pet_fdg.nii.gz", "B_CT.nrrd", "B.seg.nrrd"),
            *("C_ct.mha", "C_segmentation.mha", "C_pet_acetate.nii", "D_ct.nii", "E_seg.nii"),
            *("F_ct.nii", "F_seg.nii", "F_segmentation.nii", "notes.txt", ".G_ct.nii"),
        )
    )
    assert sorted(found) == ["A", "B", "C", "D", "E", "F"]
    assert found["A"].segmentation == ("A_seg.nii.gz",)
    assert found["A"].pet == {"pet_fdg": "A_pet_fdg.nii.gz"}
    assert (found["B"].ct, found["B"].segmentation) == ("B_CT.nrrd", ("B.seg.nrrd",))
    assert found["C"].pet == {"pet_acetate": "C_pet_acetate.nii"}
    assert [found[n].problems for n in "ABC"] == [(), (), ()]
    assert found["D"].problems == ("it has no segmentation",)
    assert found["E"].problems == ("it has no ct",)
    assert "2 files could be its segmentation" in found["F"].problems[0]


def test_bids_with_sessions_and_derivatives(tmp_path):
    found = rows(
        make(
            tmp_path,
            *("dataset_description.json", "sub-01/ct/sub-01_ct.nii.gz"),
            "derivatives/masks/sub-01/ct/sub-01_dseg.nii.gz",
            "sub-02/ses-a/ct/sub-02_ses-a_acq-portal_ct.nii.gz",
            "sub-02/ses-a/ct/sub-02_ses-a_dseg.nii.gz",
            "sub-02/ses-a/pet/sub-02_ses-a_trc-FDG_pet.nii.gz",
            "sub-02/ses-a/pet/sub-02_ses-a_trc-11CAcetate_rec-x_pet.nii.gz",
            "sub-02/ses-b/ct/sub-02_ses-b_ct.nii.gz",
        )
    )
    assert sorted(found) == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    first, second = found["sub-01"], found["sub-02_ses-a"]
    assert first.ct == "sub-01/ct/sub-01_ct.nii.gz"
    assert first.segmentation == ("derivatives/masks/sub-01/ct/sub-01_dseg.nii.gz",)
    assert set(second.pet) == {"pet_fdg", "pet_acetate"}
    assert second.problems == first.problems == ()
    assert found["sub-02_ses-b"].problems == ("it has no segmentation",)


def test_one_folder_per_patient_or_study(tmp_path):
    found = rows(
        make(
            tmp_path,
            *("P1/ct/IM1.dcm", "P1/ct/IM2.dcm", "P1/segmentation.seg.nrrd", "P1/pet_fdg.nii.gz"),
            *("P2/ct.nii.gz", "P2/segmentations/liver.nii.gz", "P2/segmentations/lesion.nii.gz"),
            *("P3/2020/ct/1.dcm", "P3/2020/segmentation/1.dcm", "P3/2021/ct/1.dcm", "other/x.txt"),
        )
    )
    assert sorted(found) == ["P1", "P2", "P3_2020", "P3_2021"]
    assert (found["P1"].ct, found["P1"].segmentation) == ("P1/ct", ("P1/segmentation.seg.nrrd",))
    assert found["P1"].pet == {"pet_fdg": "P1/pet_fdg.nii.gz"}
    lesion, liver = found["P2"].segmentation
    assert (lesion, liver) == ("P2/segmentations/lesion.nii.gz", "P2/segmentations/liver.nii.gz")
    assert found["P3_2020"].segmentation == ("P3/2020/segmentation",)
    assert found["P3_2021"].problems == ("it has no segmentation",)


@pytest.mark.parametrize(
    ("files", "which"),
    [
        (["a.txt"], "none"),
        (["A_seg.nii"], "none"),
        (["A_ct.nii", "B/ct/1.dcm"], "both pairs and folders"),
        (["sub-1/sub-1_ct.nii", "A_ct.nii"], "both pairs and bids"),
    ],
)
def test_a_folder_that_could_be_anything_is_refused(tmp_path, files, which):
    with pytest.raises(InputError, match=f"follows {which}"):
        rows(make(tmp_path, *files))
