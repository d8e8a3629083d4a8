"""Limits within which the numbers of a model package are believed.

A package is data from somewhere: a grid of micrometres or a network of a million filters would fill
the memory before anything else could notice it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model_package import GridSpec, NetworkSpec, PoolingSpec, RegionSpec

_MOST_CHANNELS = 4096


def limit_problems(
    grid: GridSpec, network: NetworkSpec, pooling: PoolingSpec, regions: RegionSpec
) -> Iterator[str]:
    """What is beyond its limit, one sentence each."""

    def outside(what: str, low: float, high: float, *values: float) -> Iterator[str]:
        for value in values:
            if not low <= value <= high:
                yield f"{what} is {value}, not in {low}..{high}."

    yield from outside("grid.spacing_mm", 0.2, 50, *grid.spacing_mm)
    yield from outside("grid.margin_mm", 0, 200, grid.margin_mm)
    yield from outside("grid.supersampling", 1, 8, grid.supersampling)
    yield from outside("pooling.lesion_margin_mm", 0, 200, pooling.lesion_margin_mm)
    yield from outside("regions.rim_mm", 0, 200, regions.rim_mm)
    yield from outside("the number of encoder levels", 1, 8, len(network.blocks_down))
    yield from outside("network.blocks_down", 1, 32, *network.blocks_down)
    yield from outside("network.strides", 1, 8, *(n for s in network.strides for n in s))
    yield from outside("network.fused_channels", 1, _MOST_CHANNELS, network.fused_channels)
    yield from outside("network.attention_ratio", 1, _MOST_CHANNELS, network.attention_ratio)
    yield from outside("network.attention_kernel", 1, 31, network.attention_kernel)
    yield from outside("network.dropout", 0, 1, network.dropout)
    widest = network.init_filters * 2 ** max(len(network.blocks_down) - 1, 0)
    if network.init_filters < 1 or widest > _MOST_CHANNELS:
        yield f"network.init_filters is {network.init_filters}, and the widest level {widest}."
