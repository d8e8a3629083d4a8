"""Coordinates against SimpleITK's own transforms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import CT_GRID, grid_around, rotation, sample

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import (
    Geometry,
    array_on_same_voxels,
    bounding_box,
    content_box,
    geometry_from_ijk_to_ras,
    geometry_from_image,
    image_from_array,
    resample_array,
)

LEFT_HANDED = Geometry((5, 7, 3), (0.7, 1.3, 4.0), (3.0, -8.0, 20.0), (0, 0, 1, 1, 0, 0, 0, -1, 0))
GRIDS = [CT_GRID, LEFT_HANDED, grid_around((-50, 30, 900), (9, 4, 6), (2.5, 0.6, 1.1), (25, 3, 80))]


def itk_image(geometry: Geometry) -> sitk.Image:
    """An image of the grid, set up without REACTKDLib."""
    image = sitk.Image([int(n) for n in geometry.size], sitk.sitkUInt8)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection(geometry.direction_lps)
    return image


@pytest.fixture(params=GRIDS, ids=["oblique", "left-handed", "far"])
def grid(request) -> Geometry:
    return request.param


@pytest.fixture
def indices() -> np.ndarray:
    return np.random.default_rng(3).uniform(-4, 30, (40, 3))


def test_ijk_to_lps_is_simpleitks_transform(grid, indices):
    image = itk_image(grid)
    expected = [image.TransformContinuousIndexToPhysicalPoint(ijk.tolist()) for ijk in indices]
    assert np.allclose(grid.lps_from_ijk(indices), expected, atol=1e-9)
    homogeneous = np.column_stack([indices, np.ones(len(indices))])
    assert np.allclose((homogeneous @ grid.ijk_to_lps_matrix.T)[:, :3], expected, atol=1e-9)


def test_lps_to_ijk_is_simpleitks_transform(grid, indices):
    image = itk_image(grid)
    points = indices * 11 - 60
    expected = [image.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in points]
    assert np.allclose(grid.ijk_from_lps(points), expected, atol=1e-6)


def test_ras_negates_the_first_two_axes_of_lps_and_keeps_the_third(grid, indices):
    lps = grid.lps_from_ijk(indices)
    ras = grid.ras_from_ijk(indices)
    assert np.allclose(ras[:, 0], -lps[:, 0])
    assert np.allclose(ras[:, 1], -lps[:, 1])
    assert np.allclose(ras[:, 2], lps[:, 2])
    homogeneous = np.column_stack([indices, np.ones(len(indices))])
    assert np.allclose((homogeneous @ grid.ijk_to_ras_matrix.T)[:, :3], ras, atol=1e-9)


def test_round_trips(grid, indices):
    assert np.allclose(grid.ijk_from_ras(grid.ras_from_ijk(indices)), indices, atol=1e-9)
    assert np.allclose(grid.ijk_from_lps(grid.lps_from_ijk(indices)), indices, atol=1e-9)


def test_points_may_have_any_leading_shape(grid):
    stacked = grid.ras_from_ijk(np.arange(24.0).reshape(2, 4, 3))
    assert stacked.shape == (2, 4, 3)
    assert np.allclose(stacked[1, 2], grid.ras_from_ijk(np.array([18.0, 19.0, 20.0])))


def test_an_image_and_its_geometry_round_trip(grid):
    assert geometry_from_image(itk_image(grid)).same_grid(grid)
    array = np.arange(np.prod(grid.size), dtype=np.float32).reshape(grid.array_shape)
    image = image_from_array(array, grid)
    assert geometry_from_image(image).same_grid(grid)
    assert image[4, 3, 2] == array[2, 3, 4]


def test_geometry_from_slicers_matrix(grid):
    assert geometry_from_ijk_to_ras(grid.ijk_to_ras_matrix, grid.size).same_grid(grid, 1e-9)


def test_volume_of_a_voxel_and_shape_of_the_array():
    geometry = Geometry((2, 3, 5), (2.0, 2.5, 4.0), (0, 0, 0))
    assert geometry.voxel_volume_ml == pytest.approx(0.02)
    assert geometry.array_shape == (5, 3, 2)


def test_a_crop_keeps_every_voxel_where_it_was(grid):
    start, size = (2, 1, 1), (3, 3, 2)
    crop = grid.crop(start, size)
    expected = sitk.RegionOfInterest(itk_image(grid), size, start)
    assert crop.size == size
    assert np.allclose(crop.origin_lps, expected.GetOrigin(), atol=1e-9)
    assert np.allclose(crop.ras_from_ijk([1, 2, 0]), grid.ras_from_ijk([3, 3, 1]), atol=1e-9)


def test_the_box_around_voxels_is_tight_and_stays_in_place(grid):
    array = np.zeros(grid.array_shape)
    assert bounding_box(array) is None
    # Extremes of the axes in different voxels; NaN and negative values are not zero.
    for index, value in zip([(1, 1, 0), (0, 2, 1), (1, 0, 3)], [np.nan, -1, 2], strict=True):
        array[index] = value
    box = bounding_box(array)
    assert box == (slice(0, 2), slice(0, 3), slice(0, 4))
    array[:] = 0
    array[1, 2, 3] = 5
    box = bounding_box(array)
    assert box == (slice(1, 2), slice(2, 3), slice(3, 4))
    assert np.allclose(grid.crop_to(box).origin_lps, grid.lps_from_ijk([3, 2, 1]), atol=1e-9)
    assert grid.crop_to((slice(0, 2), slice(1, 4), slice(2, 3))).array_shape == (2, 3, 1)


def test_corners_are_the_outer_edges_of_the_corner_voxels(grid):
    image = itk_image(grid)
    ends = [(-0.5, n - 0.5) for n in grid.size]
    expected = {
        tuple(np.round(image.TransformContinuousIndexToPhysicalPoint((i, j, k)), 6))
        for i in ends[0]
        for j in ends[1]
        for k in ends[2]
    }
    assert {tuple(np.round(c, 6)) for c in grid.corners_lps()} == expected


def test_same_grid_sees_small_shifts_and_other_sizes(grid):
    x, y, z = grid.origin_lps
    moved = Geometry(grid.size, grid.spacing_mm, (x, y + 0.01, z), grid.direction_lps)
    assert not grid.same_grid(moved)
    assert grid.same_grid(moved, tolerance_mm=0.1)
    assert not grid.same_grid(grid.crop((0, 0, 0), (2, 2, 2)))


def test_linear_resampling_is_exact_for_a_linear_field():
    def field(ras: np.ndarray) -> np.ndarray:
        return ras @ np.array([0.7, -1.9, 0.4]) + 33

    target = grid_around((12.0, -8.0, 19.0), (9, 8, 7), (4.1, 3.3, 6.2), (-20, 15, 40))
    result = resample_array(sample(field, CT_GRID), CT_GRID, target)
    assert result.dtype == np.float32
    assert np.allclose(result, sample(field, target), atol=1e-2)


def test_nearest_resampling_takes_the_nearest_voxel_and_keeps_the_type():
    labels = np.random.default_rng(0).integers(0, 200, CT_GRID.array_shape).astype(np.uint8)
    target = grid_around((12.7, -8.4, 19.2), (9, 8, 7), (4.1, 3.3, 6.2), (-20, 15, 40))
    result = resample_array(labels, CT_GRID, target, nearest=True)
    image = itk_image(CT_GRID)
    for k, j, i in np.ndindex(result.shape):
        point = itk_image(target).TransformIndexToPhysicalPoint((i, j, k))
        a, b, c = np.round(image.TransformPhysicalPointToContinuousIndex(point)).astype(int)
        assert result[k, j, i] == labels[c, b, a]
    assert result.dtype == np.uint8


def test_points_beyond_the_source_get_the_outside_value():
    source = Geometry((4, 4, 4), (1, 1, 1), (0, 0, 0))
    target = Geometry((3, 1, 1), (4, 1, 1), (0, 1, 1))
    array = np.full((4, 4, 4), 7.0)
    assert resample_array(array, source, target, outside=-1000).ravel().tolist() == [
        7,
        -1000,
        -1000,
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": (4, 0, 3)}, "(4, 0, 3)"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "(1.0, 0.0, 1.0)"),
        ({"spacing_mm": (1.0, -2.0, 1.0)}, "-2.0"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "nan"),
        ({"origin_lps": (0.0, float("inf"), 0.0)}, "inf"),
        ({"direction_lps": (1, 0.1, 0, 0, 1, 0, 0, 0, 1)}, "not orthonormal"),
        ({"direction_lps": (1, 0, 0, 0, 1, 0, 0, 0, 0)}, "not orthonormal"),
        ({"direction_lps": (float("nan"),) * 9}, "not orthonormal"),
    ],
)
def test_impossible_grids_are_refused_with_the_bad_value(changes, said):
    fields = {"size": (4, 5, 3), "spacing_mm": (1.0, 1.0, 1.0), "origin_lps": (0.0, 0.0, 0.0)}
    with pytest.raises(InputError) as caught:
        Geometry(**(fields | changes))
    assert said in caught.value.message
    assert caught.value.advice


def test_a_singular_matrix_is_refused():
    matrix = np.diag([1.0, 0.0, 2.0, 1.0])
    with pytest.raises(InputError, match="not positive"):
        geometry_from_ijk_to_ras(matrix, (2, 2, 2))


def test_rounded_cosines_are_accepted():
    cosines = tuple(np.round(rotation(12, -7, 31), 4).ravel().tolist())
    assert Geometry((2, 2, 2), (1, 1, 1), (0, 0, 0), cosines).direction_lps == cosines


def test_an_array_that_does_not_fit_its_grid_is_refused():
    with pytest.raises(InputError, match=r"\(2, 3, 4\)"):
        image_from_array(np.zeros((2, 3, 4)), Geometry((2, 3, 4), (1, 1, 1), (0, 0, 0)))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_the_same_voxels_in_another_order(grid, axes, signs):
    """SimpleITK's own permuting and flipping of axes gives the other order."""
    array = np.arange(np.prod(grid.size), dtype=np.int32).reshape(grid.array_shape)
    image = sitk.PermuteAxes(image_from_array(array, grid), list(axes))
    image = sitk.Flip(image, [sign < 0 for sign in signs])
    target = geometry_from_image(image)
    found = array_on_same_voxels(array, grid, target)
    assert np.array_equal(found, sitk.GetArrayFromImage(image))
    assert np.array_equal(array_on_same_voxels(found, target, grid), array)


def test_other_voxels_are_not_the_same(grid):
    array = np.zeros(grid.array_shape)
    i, j, k = grid.size
    shifted = Geometry(
        grid.size,
        grid.spacing_mm,
        tuple(grid.lps_from_ijk(np.array([0.1, 0, 0])).tolist()),
        grid.direction_lps,
    )
    wider = Geometry(
        grid.size,
        (*grid.spacing_mm[:2], grid.spacing_mm[2] * 1.1),
        grid.origin_lps,
        grid.direction_lps,
    )
    turned = Geometry(
        grid.size,
        grid.spacing_mm,
        grid.origin_lps,
        tuple((rotation(0, 0, 5) @ grid.direction_matrix).ravel().tolist()),
    )
    for other in (shifted, wider, turned, grid.crop((0, 0, 0), (i, j, k - 1))):
        assert array_on_same_voxels(array, grid, other) is None


def test_content_box():
    array = np.zeros((4, 5, 6))
    assert content_box(array) == (slice(0, 4), slice(0, 5), slice(0, 6))
    array[1, 2, 3] = array[2, 2, 4] = 1
    assert content_box(array) == bounding_box(array) == (slice(1, 3), slice(2, 3), slice(3, 5))
