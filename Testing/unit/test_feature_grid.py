"""Where feature cells lie, against the real encoder, and what structures fill of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from phantoms import CT_GRID, Ellipsoid, grid_around, voxel_centres_ras
from random_models import shipped_specification, specification
from torch import nn

from REACTKDLib.geometry import Geometry
from REACTKDLib.model_package import NetworkSpec, spec_from_section
from REACTKDLib.networks.student import Student
from REACTKDLib.normalise import feature_geometry, occupancy, to_feature_grid

GRID = Geometry((16, 12, 8), (2.5, 3.0, 5.0), (-11.0, 4.0, 30.0))
STRIDES = [((1, 2, 2), (2, 2, 2)), ((2, 2, 2),), ((1, 2, 2), (1, 2, 2)), ((1, 3, 3), (2, 1, 2))]


def linear_encoder(strides: tuple[tuple[int, int, int], ...]) -> nn.Module:
    """The student's own encoder with all weights one and no norm.

    On a positive image its activations do nothing. Its impulse response is symmetric, so the
    middle of what a cell sees is exact.
    """
    spec = NetworkSpec(2, (1,) * (len(strides) + 1), strides, fused_channels=4)
    encoder = Student(("ct",), 2, spec).encoders["ct"]
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm3d):
                setattr(module, name, nn.Identity())
    for parameter in encoder.parameters():
        parameter.data.fill_(1.0)
    return encoder.double()


@pytest.mark.parametrize("strides", STRIDES)
def test_a_cell_lies_in_the_middle_of_what_the_encoder_sees_there(strides):
    encoder = linear_encoder(strides)
    stride = spec_stride(strides)
    size = [15 * s for s in stride]
    grid = Geometry((size[2], size[1], size[0]), GRID.spacing_mm, GRID.origin_lps)
    image = torch.ones((1, 1, *size), dtype=torch.float64, requires_grad=True)
    cell = (7, 7, 7)  # far from the border, where padding would cut the response
    features = encoder(image)
    features[0, 0][cell].backward()
    response = image.grad[0, 0].numpy()
    middle_kji = [
        float(response.sum(axis=tuple(a for a in range(3) if a != axis)) @ np.arange(n))
        / float(response.sum())
        for axis, n in enumerate(size)
    ]
    cells = feature_geometry(grid, stride)
    assert tuple(features.shape[2:]) == cells.array_shape
    assert np.allclose(
        cells.lps_from_ijk(cell[::-1]), grid.lps_from_ijk(middle_kji[::-1]), atol=1e-3
    )


def spec_stride(strides: tuple[tuple[int, int, int], ...]) -> tuple[int, int, int]:
    return NetworkSpec(2, (1,) * (len(strides) + 1), strides, fused_channels=4).total_stride


def test_the_shipped_models_cells_are_small_enough_to_point_at_something():
    spec = spec_from_section(shipped_specification())
    cells = feature_geometry(
        Geometry((64, 64, 64), spec.grid.spacing_mm, (0, 0, 0)), spec.network.total_stride
    )
    assert max(cells.spacing_mm[:2]) <= 10.0
    assert cells.spacing_mm[2] <= 15.0


def test_odd_sizes_round_up_as_the_encoder_does():
    spec = spec_from_section(specification()).network
    encoder = Student(("ct",), 2, spec).encoders["ct"]
    grid = Geometry((13, 10, 5), (2.5, 3.0, 5.0), (0, 0, 0))
    with torch.inference_mode():
        shape = tuple(encoder(torch.zeros(1, 1, *grid.array_shape)).shape[2:])
    assert feature_geometry(grid, spec.total_stride).array_shape == shape
    assert to_feature_grid(np.zeros(grid.array_shape), spec.total_stride).shape == shape


@pytest.mark.parametrize("stride", [(2, 4, 4), (1, 2, 3), (3, 3, 1)])
def test_cell_means_keep_all_mass_that_is_off_the_border(stride):
    array = np.zeros((12, 12, 24))
    array[2:9, 2:8, 3:19] = np.random.default_rng(0).random((7, 6, 16))
    cells = to_feature_grid(array, stride)
    assert cells.sum() * np.prod(stride) == pytest.approx(array.sum())


@pytest.mark.parametrize("strides", STRIDES)
def test_the_students_cells_are_those_of_the_feature_grid(strides):
    spec = NetworkSpec(2, (1,) * (len(strides) + 1), strides, fused_channels=4)
    student = Student(("ct",), 2, spec)
    voxels = np.random.default_rng(2).random((2, 3, 11, 14, 17))
    expected = to_feature_grid(voxels, spec.total_stride)
    assert np.allclose(student.cells(torch.tensor(voxels)).numpy(), expected)


@pytest.mark.parametrize("stride", [(2, 4, 4), (1, 3, 2)])
def test_cell_means_are_integrals_over_the_cells(stride):
    """Each voxel is split into 4 points per axis; a point counts for the cell that it lies in."""
    array = np.random.default_rng(1).random((12, 12, 12))
    expected = np.zeros([n // s for n, s in zip(array.shape, stride, strict=True)])
    parts = (np.arange(4) - 1.5) / 4
    lines = [
        np.floor((np.add.outer(np.arange(n), parts) / s) + 0.5).astype(int)
        for n, s in zip(array.shape, stride, strict=True)
    ]
    for voxel in np.ndindex(array.shape):
        for k in lines[0][voxel[0]]:
            for j in lines[1][voxel[1]]:
                for i in lines[2][voxel[2]]:
                    if all(c < n for c, n in zip((k, j, i), expected.shape, strict=True)):
                        expected[k, j, i] += array[voxel] / 64
    assert np.allclose(to_feature_grid(array, stride), expected / np.prod(stride))


def test_leading_axes_are_kept():
    stack = np.random.default_rng(2).random((3, 8, 8, 8))
    cells = to_feature_grid(stack, (2, 2, 2))
    assert np.allclose(cells[1], to_feature_grid(stack[1], (2, 2, 2)))


def test_occupancy_sums_to_one_everywhere():
    labels = np.random.default_rng(3).integers(0, 5, CT_GRID.array_shape).astype(np.uint8)
    fractions = occupancy(labels, CT_GRID, GRID, 2, label_count=5)
    assert fractions.shape == (5, *GRID.array_shape)
    assert fractions.dtype == np.float32
    assert np.allclose(fractions.sum(axis=0), 1.0)


def test_occupancy_beyond_the_source_is_label_0():
    labels = np.full((4, 4, 4), 3, np.uint8)
    source = Geometry((4, 4, 4), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    grid = Geometry((4, 2, 2), (4.0, 4.0, 4.0), (-7.0, 1.0, 1.0))  # two voxels left of the source
    fractions = occupancy(labels, source, grid, 2, label_count=4)
    assert np.array_equal(fractions[3][0, 0], [0, 0, 1, 1])
    assert np.array_equal(fractions[0][0, 0], [1, 1, 0, 0])


def test_occupancy_counts_the_samples_of_each_voxel():
    """2 x 2 x 2 source voxels fill each grid voxel: the fractions are their shares."""
    labels = np.random.default_rng(4).integers(0, 3, (6, 8, 10)).astype(np.uint8)
    source = Geometry((10, 8, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    grid = Geometry((5, 4, 3), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5))
    blocks = labels.reshape(3, 2, 4, 2, 5, 2).transpose(0, 2, 4, 1, 3, 5).reshape(3, 4, 5, 8)
    fractions = occupancy(labels, source, grid, 2, label_count=3)
    for value in range(3):
        assert np.allclose(fractions[value], (blocks == value).mean(axis=-1))


def test_occupancy_has_the_volume_and_place_of_the_structure():
    ball = Ellipsoid((2.0, 9.0, -5.0), (21.0, 17.0, 24.0))
    fine = grid_around((2.0, 9.0, -5.0), (50, 46, 40), (1.1, 1.2, 1.6), (15, -20, 30))
    labels = (ball.level(voxel_centres_ras(fine)) <= 1).astype(np.uint8)
    grid = grid_around((4.0, 7.0, -3.0), (16, 14, 12), (5.0, 5.0, 6.0))
    filled = occupancy(labels, fine, grid, 3, label_count=2)[1]
    assert filled.sum() * grid.voxel_volume_ml == pytest.approx(ball.volume_ml, rel=0.02)
    centre = np.average(voxel_centres_ras(grid).reshape(-1, 3), axis=0, weights=filled.ravel())
    assert np.allclose(centre, ball.centre_ras, atol=0.15)
