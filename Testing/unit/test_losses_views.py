"""Region pooling and the graphs that it gives."""

from __future__ import annotations

import pytest
import torch
from loss_views import graphs_of, random_parts

from REACTKDLib.errors import InputError
from training.losses import RegionGraphs, pool_regions


def test_pooling_is_the_mean_over_the_cells_of_a_region():
    features = torch.arange(2 * 3 * 8, dtype=torch.float32).reshape(2, 3, 2, 2, 2).requires_grad_()
    parts = torch.zeros(2, 3, 2, 2, 2)
    parts[:, 0, 0, 0, :] = 1  # cells 0 and 1
    parts[:, 1, 1, 1, 1] = 0.25  # cell 7, a quarter of it
    parts[1, 2] = 0.5
    graphs = pool_regions(features, parts, mass_by_volume=True)
    assert graphs.mask.tolist() == [[True, True, False], [True, True, True]]
    base = torch.arange(6).reshape(2, 3) * 8.0  # value of each channel's first cell
    torch.testing.assert_close(graphs.features[:, 0], base + 0.5)
    torch.testing.assert_close(graphs.features[:, 1], base + 7.0)
    torch.testing.assert_close(graphs.features[1, 2], base[1] + 3.5)
    assert graphs.features[0, 2].tolist() == [0, 0, 0]
    expected = torch.tensor([[2, 0.25, 0], [2, 0.25, 4]])
    torch.testing.assert_close(graphs.marginals(), expected / expected.sum(dim=1, keepdim=True))
    graphs.features[0, 0].sum().backward()
    expected_gradient = torch.zeros_like(features)
    expected_gradient[0, :, 0, 0, :] = 0.5
    torch.testing.assert_close(features.grad, expected_gradient)


def test_uniform_marginals_leave_padding_and_empty_graphs_out():
    mask = torch.tensor([[True, False, True], [False, False, False]])
    marginals = RegionGraphs(torch.zeros(2, 3, 1), mask).marginals()
    assert marginals.tolist() == [[0.5, 0, 0.5], [0, 0, 0]]


@pytest.mark.parametrize("per_sample", [False, True])
def test_pooled_features_are_centred_on_the_reference(per_sample):
    features, parts = torch.randn(2, 3, 3, 4, 5), random_parts(2, 4)
    reference = torch.randn(2, 3) if per_sample else torch.randn(3)
    expected = pool_regions(features, parts).features - reference.reshape(-1, 1, 3)
    torch.testing.assert_close(pool_regions(features, parts, reference).features, expected)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"\(2, 3, 3, 4, 5\).*\(2, 4, 3, 4, 4\)"):
        pool_regions(torch.zeros(2, 3, 3, 4, 5), torch.zeros(2, 4, 3, 4, 4))
    good = graphs_of(2, 3)
    with pytest.raises(InputError, match="booleans"):
        RegionGraphs(good.features, good.mask.float())
    with pytest.raises(InputError, match=r"mask \(2, 2\)"):
        RegionGraphs(good.features, good.mask[:, :2])
    with pytest.raises(InputError, match="mass"):
        RegionGraphs(good.features, good.mask, torch.ones(2))
