"""Random forward passes of a student and its teachers, for the tests of the losses."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses import NetworkView, RegionGraphs, TeacherView, pool_regions

GRID = (3, 4, 5)
CLASSES = 3


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def random_parts(n: int, regions: int, grid=GRID, seed: int = 0) -> Tensor:
    """Occupancies (N, R, k, j, i) that share out a region of interest."""
    draws = torch.rand((n, regions + 1, *grid), generator=generator(seed))
    return draws.pow(4).softmax(dim=1)[:, :regions]


def view(
    n: int, channels: int, seed: int, grid=GRID, regions: int = 4, requires_grad: bool = False
) -> NetworkView:
    """A pass with ``regions`` regions a sample; everything hangs on logits and features."""
    g = generator(seed)
    logits = torch.randn((n, CLASSES), generator=g)
    features = torch.randn((n, channels, *grid), generator=g)
    logits.requires_grad_(requires_grad)
    features.requires_grad_(requires_grad)
    weights = torch.rand((n, 1, *grid), generator=g)
    weights[:, :, 0, 0] = 0  # outside the region of interest
    weights = weights / weights.sum(dim=(2, 3, 4), keepdim=True)
    graphs = pool_regions(features, random_parts(n, regions, grid, seed))
    return NetworkView(logits, features, (features * weights).sum((2, 3, 4)), graphs, weights)


def teach(network: NetworkView, present: list[bool] | None = None) -> TeacherView:
    here = [True] * len(network.logits) if present is None else present
    return TeacherView(**vars(network), present=torch.tensor(here))


def graphs_of(*counts: int, channels: int = 8, seed: int = 0, padding: int = 0) -> RegionGraphs:
    """Graphs of the given node counts, padded with numbers that must have no influence."""
    g, width = generator(seed), max(counts) + padding
    features = torch.randn((len(counts), width, channels), generator=g, dtype=torch.float64)
    mask = torch.arange(width)[None] < torch.tensor(counts)[:, None]
    return RegionGraphs(torch.where(mask[..., None], features, 1e3), mask)
