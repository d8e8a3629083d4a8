"""Segmentations from labelmaps, .seg.nrrd and structure files."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from images import (
    LIVER_RULES,
    OBLIQUE,
    ct_array,
    label_array,
    patch_text,
    rotation,
    write_image,
    write_seg_nrrd,
)

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry, resample_array
from REACTKDLib.read_segmentation import read_segmentation

LIVER = (label_array() > 0).astype(np.uint8)
LESION = (label_array() == 2).astype(np.uint8)


def points_of(segmentation, role):
    """LPS mm of all voxel centres of a role, sorted, shape (n, 3)."""
    mask = np.isin(segmentation.labels, segmentation.labels_of(role))
    points = segmentation.geometry.lps_from_ijk(np.argwhere(mask)[:, ::-1])
    return points[np.lexsort(np.round(points, 2).T)]


def expected_points(mask, geometry=OBLIQUE):
    """The same by SimpleITK, of a mask (k, j, i)."""
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection(geometry.direction_lps)
    points = np.array(
        [
            image.TransformIndexToPhysicalPoint((int(i), int(j), int(k)))
            for k, j, i in np.argwhere(mask)
        ]
    )
    return points[np.lexsort(np.round(points, 2).T)]


def error_of(paths, capfd, roles=None) -> InputError:
    """The error that reading ``paths`` raises; nothing may reach the terminal."""
    with pytest.raises(InputError) as error:
        read_segmentation(paths, LIVER_RULES, roles)
    assert capfd.readouterr() == ("", "")
    assert error.value.advice
    return error.value


def test_all_formats_give_the_same_labels_at_the_same_points(tmp_path):
    named = [
        {"Name": "Liver", "LabelValue": 1, "Layer": 0},
        {"Name": "Tumor", "LabelValue": 2, "Layer": 0},
    ]
    layered = [
        {"Name": "Tumor", "LabelValue": 1, "Layer": 1},
        {"Name": "Liver", "LabelValue": 1, "Layer": 0},
    ]
    cases = [
        [write_image(tmp_path / "labels.nii.gz", label_array())],
        [write_image(tmp_path / "labels.nrrd", label_array().astype(np.int32))],
        [write_image(tmp_path / "labels.mha", label_array().astype(np.float32))],
        [write_seg_nrrd(tmp_path / "flat.seg.nrrd", [label_array()], named)],
        [write_seg_nrrd(tmp_path / "layers.seg.nrrd", [LIVER, LESION], layered)],
        [
            write_image(tmp_path / "liver_lesions.nii.gz", LESION),
            write_image(tmp_path / "liver.nii.gz", LIVER * np.uint8(255)),
        ],
    ]
    for paths in cases:
        segmentation = read_segmentation(paths, LIVER_RULES)
        assert segmentation.labels.dtype == np.uint8
        for role, mask in (("liver", label_array() == 1), ("lesion", LESION)):
            expected = expected_points(mask.astype(np.uint8))
            points = points_of(segmentation, role)
            assert points.shape == expected.shape
            assert np.abs(points - expected).max() < 1e-3


def test_a_cropped_segmentation_keeps_its_place(tmp_path):
    geometry = OBLIQUE.crop((1, 2, 1), (11, 8, 6))
    path = write_seg_nrrd(
        tmp_path / "c.seg.nrrd", [LIVER[1:7, 2:10, 1:12]], [{"Name": "liver"}], geometry
    )
    points = points_of(read_segmentation([path], LIVER_RULES), "liver")
    assert np.abs(points - expected_points(LIVER)).max() < 1e-3


def test_label_values_and_other_segments_are_kept(tmp_path):
    labels = label_array()
    labels[labels == 1] = 40
    labels[0, 0, 0] = 7
    labels[7, 0, 0] = 9
    records = [
        {"Name": "HCC", "LabelValue": 2, "Layer": 0},
        {"Name": "Liver", "LabelValue": 40, "Layer": 0},
        {"Name": "spleen", "LabelValue": 7, "Layer": 0},
        {"Name": "nothing yet", "LabelValue": 8, "Layer": 0},
    ]
    path = write_seg_nrrd(tmp_path / "s.seg.nrrd", [labels], records)
    segmentation = read_segmentation([path], LIVER_RULES)
    assert np.array_equal(segmentation.labels, labels)
    assert [(s.label, s.name, s.role) for s in segmentation.segments] == [
        (2, "HCC", "lesion"),
        (40, "Liver", "liver"),
        (7, "spleen", None),
        (8, "nothing yet", None),
        (9, "label 9", None),
    ]


def test_a_segment_without_role_yields_to_one_with_a_role(tmp_path):
    body = np.ones_like(LIVER)
    records = [
        {"Name": "Liver", "LabelValue": 1, "Layer": 0},
        {"Name": "body", "LabelValue": 1, "Layer": 1},
    ]
    path = write_seg_nrrd(tmp_path / "s.seg.nrrd", [LIVER, body], records)
    assert np.array_equal(read_segmentation([path], LIVER_RULES).labels, np.where(LIVER, 1, 2))


def test_seg_nrrd_without_values_has_a_segment_per_component(tmp_path):
    # The form of 3D Slicer before 4.11.
    path = write_seg_nrrd(
        tmp_path / "old.seg.nrrd", [LESION, LIVER], [{"Name": "mass"}, {"Name": "Liver"}]
    )
    segmentation = read_segmentation([path], LIVER_RULES)
    assert [(s.label, s.role) for s in segmentation.segments] == [(1, "lesion"), (2, "liver")]
    assert np.array_equal(segmentation.labels, np.where(LESION, 1, np.where(LIVER, 2, 0)))


def test_structure_files_on_different_grids_lose_nothing(tmp_path):
    # A coarse organ and a fine lesion that reaches beyond the organ's grid, turned against it.
    coarse = Geometry((10, 9, 8), (4.0, 4.0, 5.0), (0.0, 0.0, 0.0))
    organ = np.zeros(coarse.array_shape, np.uint8)
    organ[2:7, 2:8, 3:9] = 1
    fine = Geometry(
        (20, 18, 16),
        (1.0, 1.0, 1.5),
        (20.0, 18.0, 25.0),
        tuple(float(v) for v in rotation(35, 10).ravel()),
    )
    mass = np.zeros(fine.array_shape, np.uint8)
    mass[2:15, 3:16, 4:19] = 1
    paths = [
        write_image(tmp_path / "Liver.nii.gz", organ, coarse),
        write_image(tmp_path / "mass.nrrd", mass, fine),
    ]
    segmentation = read_segmentation(paths, LIVER_RULES)
    assert segmentation.geometry.spacing_mm == pytest.approx(fine.spacing_mm, abs=1e-6)
    # The finest lattice is the lesion's own, so that it is kept voxel by voxel.
    points = points_of(segmentation, "lesion")
    assert np.abs(points - expected_points(mass, fine)).max() < 1e-3
    # The organ, resampled back, covers its old voxels except where the lesion took them.
    covered = resample_array(segmentation.labels, segmentation.geometry, coarse, nearest=True)
    assert (covered[organ == 1] > 0).all()
    volume_ml = (segmentation.labels == 1).sum() * segmentation.geometry.voxel_volume_ml
    inside = resample_array(organ, coarse, fine, nearest=True)[mass == 1].sum()
    expected_ml = organ.sum() * coarse.voxel_volume_ml - inside * fine.voxel_volume_ml
    assert volume_ml == pytest.approx(expected_ml, rel=0.02)


def test_structures_far_apart_are_refused(tmp_path, capfd):
    far = Geometry(OBLIQUE.size, OBLIQUE.spacing_mm, (9e4, 9e4, 9e4))
    paths = [
        write_image(tmp_path / "liver.nrrd", LIVER),
        write_image(tmp_path / "mass.nrrd", LESION, far),
    ]
    assert "voxels; at most" in error_of(paths, capfd).message


def test_an_empty_structure_file_means_no_such_structure(tmp_path):
    paths = [
        write_image(tmp_path / "liver.nii.gz", LIVER),
        write_image(tmp_path / "liver_tumor.nii.gz", np.zeros_like(LIVER)),
    ]
    segmentation = read_segmentation(paths, LIVER_RULES)
    assert [s.role for s in segmentation.segments] == ["liver", "lesion"]
    assert np.array_equal(segmentation.labels, LIVER)


@pytest.mark.parametrize("choice", ["a.nii.gz", "A", "1"])
def test_structure_files_are_chosen_by_file_name_or_number(tmp_path, choice):
    paths = [
        write_image(tmp_path / "a.nii.gz", LIVER),
        write_image(tmp_path / "b.nii.gz", LESION),
    ]
    segmentation = read_segmentation(paths, LIVER_RULES, {"liver": (choice,), "lesion": ("b",)})
    assert [(s.name, s.role) for s in segmentation.segments] == [("a", "liver"), ("b", "lesion")]


def test_an_organ_map_needs_explicit_roles(tmp_path, capfd):
    labels = label_array()
    labels[labels > 0] += 4
    path = write_image(tmp_path / "organs.nii.gz", labels)
    assert "labels 5, 6 without names" in error_of([path], capfd).message
    segmentation = read_segmentation([path], LIVER_RULES, {"liver": ("5", "6")})
    assert segmentation.labels_of("liver") == (5, 6)


def test_the_name_of_a_file_with_one_label_counts_if_it_means_a_role(tmp_path, capfd):
    lesion = write_image(tmp_path / "case3_lesion.nii.gz", LESION)
    assert 'no liver. It has 1 "case3_lesion"' in error_of([lesion], capfd).message
    liver = write_image(tmp_path / "liver.nii.gz", LIVER * np.uint8(255))
    assert read_segmentation([liver], LIVER_RULES).labels_of("liver") == (255,)
    other = write_image(tmp_path / "case3.nii.gz", LIVER)
    assert read_segmentation([other], LIVER_RULES).labels_of("liver") == (1,)


@pytest.mark.parametrize("name", ["spleen", "case3_Kidney_left", "liver_vessels", "body_mask"])
def test_the_label_of_a_file_named_after_another_structure_says_nothing(name, tmp_path, capfd):
    path = write_image(tmp_path / f"{name}.nii.gz", LIVER)
    error = error_of([path], capfd)
    assert f'no liver. It has 1 "{name}"' in error.message
    assert "liver=LABEL" in error.advice
    assert read_segmentation([path], LIVER_RULES, {"liver": ("1",)}).labels_of("liver") == (1,)


def test_structure_files_without_the_liver_are_listed_by_name(tmp_path, capfd):
    paths = [
        write_image(tmp_path / f"{name}.nii.gz", LIVER) for name in ("spleen", "a", "liver_vessels")
    ]
    message = error_of(paths, capfd).message
    assert 'no liver. It has 1 "spleen", 2 "a", 3 "liver_vessels"' in message


# Bad input ---------------------------------------------------------------------------------------


def test_nothing_given(capfd):
    assert "No segmentation" in error_of([], capfd).message


def test_a_missing_file(tmp_path, capfd):
    assert "does not exist" in error_of([tmp_path / "x.nii.gz"], capfd).message


def test_nothing_segmented(tmp_path, capfd):
    path = write_image(tmp_path / "labels.nii.gz", np.zeros_like(LIVER))
    assert "is empty" in error_of([path], capfd).message
    assert "is empty" in error_of([path, path], capfd).message


def test_no_liver(tmp_path, capfd):
    path = write_image(tmp_path / "labels.nrrd", LESION * np.uint8(2))
    assert "has no liver" in error_of([path], capfd).message


def test_a_liver_without_voxels(tmp_path, capfd):
    records = [
        {"Name": "Liver", "LabelValue": 1, "Layer": 0},
        {"Name": "HCC", "LabelValue": 2, "Layer": 0},
    ]
    path = write_seg_nrrd(tmp_path / "s.seg.nrrd", [LESION * np.uint8(2)], records)
    assert (
        'The liver of the segmentation has no voxels (1 "Liver")' in error_of([path], capfd).message
    )


def test_an_unknown_label_is_quoted(tmp_path, capfd):
    path = write_image(tmp_path / "labels.nrrd", label_array())
    error = error_of([path], capfd, {"lesion": ("8",)})
    assert "no segment '8'" in error.message
    assert "1, 2" in error.advice


@pytest.mark.parametrize("value", [0.5, -1, 256, 300, np.nan, 2**40])
@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_values_that_are_no_labels(tmp_path, capfd, value, suffix):
    labels = label_array().astype(np.float64 if value != int(np.nan_to_num(value)) else np.int64)
    if np.isnan(value):
        labels = labels.astype(np.float32)
    labels[3, 3, 3] = value
    path = write_image(tmp_path / f"labels{suffix}", labels)
    assert f"has the value {value}" in error_of([path], capfd).message


def test_an_image_is_no_labelmap(tmp_path, capfd):
    path = write_image(tmp_path / "ct.nrrd", ct_array())
    assert "from 0 to 255" in error_of([path], capfd).message


def test_layers_without_segment_names(tmp_path, capfd):
    path = write_seg_nrrd(tmp_path / "x.nrrd", [LIVER, LESION], [])
    assert "2 values per voxel and no segment names" in error_of([path], capfd).message
    assert "2 values per voxel" in error_of([path, path], capfd).message


def test_a_structure_file_with_several_labels(tmp_path, capfd):
    path = write_image(tmp_path / "labels.nrrd", label_array())
    assert "has the labels 1, 2" in error_of([path, path], capfd).message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"LabelValue:=2", b"LabelValue:=0", "label value '0'"),
        (b"LabelValue:=2", b"LabelValue:=x", "label value 'x'"),
        (b"LabelValue:=2", b"LabelValue:=1", "share the label 1"),
        (b"Segment1_Layer:=0", b"Segment1_Layer:=4", "in layer '4'"),
    ],
)
def test_a_damaged_segment_header(tmp_path, capfd, old, new, message):
    records = [
        {"Name": "Liver", "LabelValue": 1, "Layer": 0},
        {"Name": "HCC", "LabelValue": 2, "Layer": 0},
    ]
    path = write_seg_nrrd(tmp_path / "s.seg.nrrd", [label_array()], records)
    assert message in error_of([patch_text(path, old, new)], capfd).message


def test_too_many_structures(tmp_path, capfd):
    path = write_image(tmp_path / "liver.nrrd", LIVER)
    assert "256 structures; at most 255" in error_of([path] * 256, capfd).message
