"""The region of interest: the model's grid, the crop, and segmentations that do not fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from phantoms import CT_GRID, LESION, LIVER, PHANTOM, grid_around, voxel_centres_ras
from random_models import specification

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.model_package import ModelSpec, spec_from_section
from REACTKDLib.roi import column_ends, locate_roi
from REACTKDLib.types import Segmentation, Study, Volume


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return spec_from_section(specification())


def with_segmentation_geometry(study: Study, geometry: Geometry) -> Study:
    segmentation = dataclasses.replace(study.segmentation, geometry=geometry)
    return Study(study.volumes, segmentation)


def test_column_ends_hold_the_extremes_of_every_direction():
    rng = np.random.default_rng(4)
    mask = rng.random((6, 7, 8)) < 0.1
    k, j, i = np.nonzero(mask)
    voxels = np.stack([i, j, k], axis=1)
    ends = column_ends(mask)
    assert {tuple(e) for e in ends} <= {tuple(v) for v in voxels}
    for direction in rng.normal(size=(50, 3)):
        assert (ends @ direction).max() == pytest.approx((voxels @ direction).max())
        assert (ends @ direction).min() == pytest.approx((voxels @ direction).min())


def test_the_models_grid_is_the_box_of_the_segmented_voxels_and_the_margin(ct_study, spec):
    grid = locate_roi(ct_study, spec).model_geometry
    geometry = ct_study.segmentation.geometry
    k, j, i = np.nonzero(ct_study.segmentation.labels)
    halves = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T
    corners = (np.stack([i, j, k], axis=1)[:, None, :] + halves).reshape(-1, 3)
    lps = geometry.lps_from_ijk(corners)
    low, high = lps.min(axis=0) - spec.grid.margin_mm, lps.max(axis=0) + spec.grid.margin_mm

    edges = grid.corners_lps()
    assert grid.direction_lps == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert grid.spacing_mm == spec.grid.spacing_mm
    assert np.all(edges.min(axis=0) <= low + 1e-4)
    assert np.all(edges.max(axis=0) >= high - 1e-4)
    assert np.allclose((edges.min(axis=0) + edges.max(axis=0)) / 2, (low + high) / 2)
    for size, stride, extent, spacing in zip(
        grid.size, spec.network.total_stride[::-1], high - low, grid.spacing_mm, strict=True
    ):
        assert size % stride == 1  # the first and last voxels are centres of feature cells
        assert (size - stride) * spacing < extent  # not a stride more than needed


def test_the_crop_is_a_part_of_the_ct_that_covers_the_models_grid(spec):
    large = grid_around((10.0, -4.0, 25.0), (72, 66, 49), (3.9, 4.2, 5.6), (6.0, -9.0, 14.0))
    study = PHANTOM.study(large)
    roi = locate_roi(study, spec)
    ct = study.ct
    assert np.allclose(roi.geometry.origin_lps, ct.geometry.lps_from_ijk(roi.crop_start))
    assert ct.array[roi.slices].shape == roi.geometry.array_shape
    assert np.prod(roi.geometry.size) < 0.6 * np.prod(ct.geometry.size)
    corners = ct.geometry.ijk_from_lps(roi.model_geometry.corners_lps())
    assert np.all(corners.min(axis=0) >= roi.crop_start)
    assert np.all(corners.max(axis=0) <= np.add(roi.crop_start, roi.geometry.size) - 1)


def test_the_crop_ends_where_the_ct_ends(ct_study, spec):
    short = CT_GRID.crop((9, 0, 5), (33, 41, 20))
    roi = locate_roi(PHANTOM.study(short, CT_GRID), spec)
    assert np.all(np.array(roi.crop_start) >= 0)
    assert np.all(np.add(roi.crop_start, roi.geometry.size) <= short.size)
    assert roi.crop_start[0] == roi.crop_start[2] == 0


def test_labels_are_numbered_by_role_whatever_their_values(ct_study, spec):
    plain = locate_roi(ct_study, spec)
    renumbered = np.choose(ct_study.segmentation.labels, [7, 200, 31]).astype(np.uint8)
    segments = (
        dataclasses.replace(LESION, label=31),
        dataclasses.replace(LIVER, label=200, role="liver"),
        dataclasses.replace(LIVER, label=7, name="spleen", role=None),
    )
    segmentation = Segmentation(renumbered, ct_study.segmentation.geometry, segments)
    assert np.array_equal(
        locate_roi(Study(ct_study.volumes, segmentation), spec).labels, plain.labels
    )
    assert set(np.unique(plain.labels)) == {0, 1, 2}


def test_a_segmentation_on_a_finer_grid_lands_where_it_belongs(spec):
    fine = grid_around((14.0, -9.0, 21.0), (86, 74, 60), (1.7, 1.6, 1.9), (-10, 20, 5))
    roi = locate_roi(PHANTOM.study(CT_GRID, fine), spec)
    truth = PHANTOM.labels(voxel_centres_ras(roi.geometry))
    wrong = roi.labels != truth
    # Only voxels within half a fine voxel of a surface may differ.
    ras = voxel_centres_ras(roi.geometry)[wrong]
    surfaces = [PHANTOM.liver, *PHANTOM.lesions]
    nearest = np.min([np.abs(s.level(ras) - 1) * max(s.radii_mm) for s in surfaces], axis=0)
    assert nearest.max() < 1.6
    assert wrong.mean() < 0.02


@pytest.mark.parametrize("flips", [(False, False, False), (True, False, False), (True, True, True)])
def test_storage_order_of_a_coarse_aligned_segmentation_changes_nothing(flips, spec):
    """Segmentation voxels twice as large as the CT's: CT centres lie between two of them."""
    ct = Geometry((80, 66, 56), (2.0, 2.0, 2.0), (-94.0, -56.0, -35.0))
    coarse = Geometry((40, 33, 28), (4.0, 4.0, 4.0), (-94.0, -56.0, -35.0))
    study = PHANTOM.study(ct, coarse)
    plain = locate_roi(study, spec)
    axes = [axis for axis, flip in enumerate(flips) if flip]
    last = [n - 1 if flip else 0 for n, flip in zip(coarse.size, flips, strict=True)]
    signs = np.where(flips, -1.0, 1.0)
    mirrored = Geometry(
        coarse.size,
        coarse.spacing_mm,
        tuple(coarse.lps_from_ijk(np.array(last)).tolist()),
        tuple(np.diag(signs).ravel().tolist()),
    )
    labels = np.flip(study.segmentation.labels, [2 - axis for axis in axes])
    segmentation = Segmentation(labels.copy(), mirrored, study.segmentation.segments)
    other = locate_roi(Study(study.volumes, segmentation), spec)
    assert other.geometry.same_grid(plain.geometry)
    assert np.array_equal(other.labels, plain.labels)


def test_a_segmentation_that_reaches_out_of_the_ct_gives_a_notice(spec):
    short = CT_GRID.crop((0, 0, 7), (47, 41, 20))
    roi = locate_roi(PHANTOM.study(short, CT_GRID), spec)
    assert [(n.code, n.severity) for n in roi.notices] == [("segmentation_truncated", "warning")]
    inside = PHANTOM.labels(voxel_centres_ras(short)) > 0
    everything = PHANTOM.labels(voxel_centres_ras(CT_GRID)) > 0
    assert f"{inside.sum() / everything.sum():.0%}" in roi.notices[0].text


def test_a_segmentation_inside_the_ct_gives_no_notice(ct_study, spec):
    assert locate_roi(ct_study, spec).notices == ()


def test_no_overlap_is_refused(ct_study, spec):
    x, y, z = CT_GRID.origin_lps
    away = dataclasses.replace(CT_GRID, origin_lps=(x + 20, y, z + 400))
    with pytest.raises(InputError, match="Only 0% of the segmentation lies inside") as caught:
        locate_roi(with_segmentation_geometry(ct_study, away), spec)
    assert "same patient" in caught.value.advice


#: A scan far from the origin, where taking RAS for LPS moves everything.
FAR = grid_around((150.0, -170.0, 600.0), (47, 41, 27), (3.9, 4.2, 5.6))


def study_far_away() -> Study:
    near = dataclasses.replace(FAR, origin_lps=CT_GRID.origin_lps)
    labels = PHANTOM.labels(voxel_centres_ras(near))
    ct = Volume(np.zeros(FAR.array_shape, np.int16), FAR, "CT")
    return Study({"ct": ct}, Segmentation(labels, FAR, (LIVER, LESION)))


def test_a_segmentation_in_the_other_coordinate_convention_is_said_to_be_flipped(spec):
    study = study_far_away()
    x, y, z = FAR.origin_lps
    turned = Geometry(FAR.size, FAR.spacing_mm, (-x, -y, z), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    with pytest.raises(InputError) as caught:
        locate_roi(with_segmentation_geometry(study, turned), spec)
    assert "after a flip of the right-left and anterior-posterior axis" in caught.value.message
    assert "does not flip" in caught.value.advice


@pytest.mark.parametrize(
    ("signs", "named"),
    [
        ((-1, 1, 1), "right-left axis"),
        ((1, -1, 1), "anterior-posterior axis"),
        ((1, 1, -1), "superior-inferior axis"),
    ],
)
def test_an_axis_that_runs_backwards_is_named(signs, named, spec):
    study = study_far_away()
    backwards = dataclasses.replace(FAR, direction_lps=tuple(np.diag(signs).ravel().tolist()))
    with pytest.raises(InputError, match=f"after a flip of the {named}"):
        locate_roi(with_segmentation_geometry(study, backwards), spec)


def test_a_required_role_without_voxels_is_refused_with_the_segments_found(ct_study, spec):
    labels = np.where(ct_study.segmentation.labels == 1, 0, 2).astype(np.uint8)
    segmentation = Segmentation(labels, CT_GRID, (LIVER, LESION))
    with pytest.raises(InputError, match="no voxel of the role 'liver'") as caught:
        locate_roi(Study(ct_study.volumes, segmentation), spec)
    assert "lesion (role lesion)" in caught.value.message


def test_an_empty_segmentation_is_refused_where_no_role_is_required(ct_study):
    document = specification()
    document["role_rules"][0]["required"] = False
    empty = Segmentation(np.zeros(CT_GRID.array_shape, np.uint8), CT_GRID, (LIVER, LESION))
    with pytest.raises(InputError, match="empty"):
        locate_roi(Study(ct_study.volumes, empty), spec_from_section(document))
