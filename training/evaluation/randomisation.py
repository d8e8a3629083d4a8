"""Sanity check: a map that stays the same when the network forgets does not explain the network.

Source: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (cascading randomisation).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

from REACTKDLib.errors import InputError, OptionError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CascadeStep:
    """Likeness of the map to the trained network's, with all blocks down to ``block`` random.

    ``rank_correlation`` (Spearman) of the values and of the absolute values, -1 to 1;
    ``structural_similarity`` (SSIM) of the maps scaled to 0 to 1, at most 1.
    """

    block: str
    rank_correlation: float
    absolute_rank_correlation: float
    structural_similarity: float


def map_likeness(
    first: np.ndarray, second: np.ndarray, domain: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Rank correlation, that of absolute values, and SSIM of two maps (k, j, i).

    The correlations are taken inside the domain, SSIM in the box around it. A constant map has
    no order: its correlations are 0.

    Raises
    ------
    InputError : grids differ, the domain is empty, the box is thinner than three voxels.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    domain = np.ones(first.shape, bool) if domain is None else np.asarray(domain, dtype=bool)
    if not first.shape == second.shape == domain.shape or first.ndim != 3 or not domain.any():
        raise InputError(
            f"Maps {first.shape} and {second.shape}, domain {domain.shape} with"
            f" {int(domain.sum())} voxels.",
            "Give maps on one grid (k, j, i) and a domain in it.",
        )
    box = tuple(slice(int(v.min()), int(v.max()) + 1) for v in np.nonzero(domain))
    thinnest = min(first[box].shape)
    if thinnest < 3:
        raise InputError(
            f"The box around the domain has {first[box].shape} voxels.",
            "SSIM needs three along every axis: give maps on a finer grid.",
        )
    window = min(7, thinnest - 1 + thinnest % 2)  # odd, and not wider than the box
    return (
        _spearman(first[domain], second[domain]),
        _spearman(np.abs(first[domain]), np.abs(second[domain])),
        float(
            structural_similarity(
                _to_unit(first[box]), _to_unit(second[box]), win_size=window, data_range=1.0
            )
        ),
    )


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    a, b = (r - r.mean() for r in (rankdata(first), rankdata(second)))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def _to_unit(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def randomise(module: nn.Module, seed: int) -> None:
    """Give a module, and all in it, new parameters as at the start of a training, in place.

    Layers draw them as torch initialises them; a parameter that a module holds itself, without a
    ``reset_parameters``, is drawn from a normal distribution with its mean and deviation (1 where
    all its values are equal).
    Torch's global random state is left as it was.
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for parameter in part.parameters(recurse=False):
                spread = float(parameter.std(correction=0))
                drawn = torch.randn(parameter.shape) * (spread or 1.0) + float(parameter.mean())
                parameter.copy_(drawn)


def cascade(
    network: nn.Module,
    blocks: Sequence[str],
    explain: Callable[[nn.Module], np.ndarray],
    seed: int,
    domain: np.ndarray | None = None,
) -> tuple[CascadeStep, ...]:
    """Randomise block after block from the head down, and compare each map with the trained one's.

    A faithful map loses its likeness on the way; one that keeps it shows the image, not the
    network. The network that is given is not changed.

    Parameters
    ----------
    blocks : names of submodules, head first, e.g. ``("head", "cbam", "projections", "encoders")``.
    explain : network -> map (k, j, i) of the case and the target class of the trained network.
    domain : where maps are compared (:func:`map_likeness`).

    Raises
    ------
    OptionError : no block, or one that the network does not have.
    InputError : as :func:`map_likeness`.
    """
    names = dict(network.named_modules())
    unknown = [block for block in blocks if block not in names]
    if unknown or not blocks:
        raise OptionError(
            f"Of the blocks {list(blocks)} the network lacks {unknown}.",
            f"Name some of {', '.join(name for name, _ in network.named_children())}.",
        )
    trained = explain(network)
    forgetting = copy.deepcopy(network)
    steps = []
    for number, block in enumerate(blocks):
        randomise(forgetting.get_submodule(block), seed + number)
        steps.append(CascadeStep(block, *map_likeness(trained, explain(forgetting), domain)))
    return tuple(steps)
