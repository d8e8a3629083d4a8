"""What the losses read: what a network gives in one forward pass, and its graph of regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from REACTKDLib.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

#: Occupied cells, summed, below which a region is not there.
_SMALLEST_REGION = 1e-6


@dataclass(frozen=True)
class RegionGraphs:
    """A padded batch of region graphs.

    ``features`` (N, R, C), one row per region; ``mask`` bool (N, R), which rows are regions: what
    the other rows hold has no influence. ``mass`` (N, R), how much of the graph a region is
    (volumes, say; any positive scale), or None for regions that count alike.

    Raises
    ------
    InputError : the shapes do not fit each other.
    """

    features: Tensor
    mask: Tensor
    mass: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.mask.shape)
        if self.features.ndim != 3 or tuple(self.features.shape[:2]) != shape:
            raise InputError(
                f"Region graphs with features {tuple(self.features.shape)} and mask {shape}.",
                "Give features (N, R, C) and a mask (N, R).",
            )
        if self.mask.dtype != torch.bool:
            raise InputError(f"The mask of region graphs is {self.mask.dtype}.", "Give booleans.")
        if self.mass is not None and tuple(self.mass.shape) != shape:
            raise InputError(
                f"Region graphs with mass {tuple(self.mass.shape)} and mask {shape}.",
                "Give one mass per region.",
            )

    def __getitem__(self, rows: Tensor) -> RegionGraphs:
        """The graphs of some samples, by index or mask (N,)."""
        mass = None if self.mass is None else self.mass[rows]
        return RegionGraphs(self.features[rows], self.mask[rows], mass)

    def nodes(self) -> Tensor:
        """The features in single precision at least, (N, R, C), zero where there is no region."""
        return torch.where(self.mask[..., None], at_least_single(self.features), 0.0)

    def marginals(self) -> Tensor:
        """Mass of each region as part of its graph, (N, R): rows sum to 1, or to 0 where a graph
        has no region."""
        mass = self.mask if self.mass is None else self.mass.detach()
        mass = torch.where(self.mask, mass.to(at_least_single(self.features).dtype), 0.0)
        return mass / mass.sum(dim=1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)

    def centred(self) -> RegionGraphs:
        """The features less their mean over all regions of the batch.

        The fused map is positive everywhere: its raw features all point the same way, and cosines
        between them say next to nothing. A decision of ours.
        """
        inside = self.mask[..., None]
        nodes = self.nodes()
        mean = nodes.sum(dim=(0, 1)) / inside.sum().clamp_min(1)
        return replace(self, features=torch.where(inside, nodes - mean, 0.0))

    def detach(self) -> RegionGraphs:
        """The same without gradient."""
        return replace(self, features=self.features.detach())


@dataclass(frozen=True)
class NetworkView:
    """One forward pass of a network.

    ``logits`` (N, classes); ``features`` (N, C, k, j, i), the fused map; ``pooled`` (N, C), what
    the head reads; ``graphs``, the region graphs of that map; ``weights`` (N, 1, k, j, i), the
    pooling weights of its cells, each sample summing to 1, zero outside the region of interest.
    """

    logits: Tensor
    features: Tensor
    pooled: Tensor
    graphs: RegionGraphs
    weights: Tensor

    def centred(self) -> Self:
        """The same with :meth:`RegionGraphs.centred` graphs."""
        return replace(self, graphs=self.graphs.centred())

    def __getitem__(self, rows: Tensor) -> NetworkView:
        """The view of some samples, by index or mask (N,)."""
        return NetworkView(
            self.logits[rows],
            self.features[rows],
            self.pooled[rows],
            self.graphs[rows],
            self.weights[rows],
        )


@dataclass(frozen=True)
class TeacherView(NetworkView):
    """One forward pass of a teacher.

    ``present`` bool (N,): the samples that the teacher has an answer for. What the other rows hold
    has no influence.
    """

    present: Tensor

    def detach(self) -> TeacherView:
        """The same without gradient: a teacher learns nothing from its student."""
        return TeacherView(
            logits=self.logits.detach(),
            features=self.features.detach(),
            pooled=self.pooled.detach(),
            graphs=self.graphs.detach(),
            weights=self.weights.detach(),
            present=self.present,
        )


def at_least_single(features: Tensor) -> Tensor:
    """Half precision made single: what mixed-precision networks give is too coarse to compare."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def directions(features: Tensor) -> Tensor:
    """Features along the last axis scaled to length 1, in single precision at least."""
    return functional.normalize(at_least_single(features), dim=-1)


def pool_regions(
    feature_map: Tensor,
    parts: Tensor,
    reference: Tensor | None = None,
    mass_by_volume: bool = False,
) -> RegionGraphs:
    """ROI average pooling: one node per region, differentiable in the feature map.

    Parameters
    ----------
    feature_map : (N, C, k, j, i).
    parts : (N, R, k, j, i), occupancy of every cell by every region times the region of interest.
    reference : (C,) or (N, C), subtracted from the pooled features; None subtracts nothing.
        Features that are positive everywhere all point the same way, and their cosines say little
        until they are centred.
    mass_by_volume : the regions weigh by their volume in cells; otherwise they count alike.

    Returns
    -------
    RegionGraphs : regions without cells are masked out, their features zero.

    Raises
    ------
    InputError : the feature map and the parts are on different grids.

    Source: REACT-KD, region graph generator.
    """
    if feature_map.shape[0] != parts.shape[0] or feature_map.shape[2:] != parts.shape[2:]:
        raise InputError(
            f"Feature map {tuple(feature_map.shape)} and regions {tuple(parts.shape)} differ.",
            "Bring the regions to the grid of the features.",
        )
    parts = parts.to(feature_map.dtype)
    volumes = parts.sum(dim=(2, 3, 4))
    mask = volumes > _SMALLEST_REGION
    sums = torch.einsum("nckji,nrkji->nrc", feature_map, parts)
    pooled = sums / torch.where(mask, volumes, 1.0)[..., None]
    if reference is not None:
        pooled = pooled - (reference if reference.ndim == 1 else reference[:, None])
    return RegionGraphs(
        torch.where(mask[..., None], pooled, 0.0), mask, volumes if mass_by_volume else None
    )
