"""Deletion and insertion: does the answer follow what the map calls important?

Deletion takes the most important parts away first, and the probability of the target should fall
early (small area); insertion starts from an image without any of them and brings them back, and the
probability should rise early (large area). What is taken away is filled with the value of nearby
parenchyma: zeros or air would be a finding of their own.
Source: Petsiuk et al., RISE, BMVC 2018; here in 3-D, for volumes of several modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt

from REACTKDLib.errors import InputError, OptionError

#: Volumes by modality, (k, j, i), all on one grid -> probabilities (classes,).
Predict = Callable[[Mapping[str, np.ndarray]], np.ndarray]
Mode = Literal["deletion", "insertion"]


@dataclass(frozen=True, eq=False)
class PerturbationCurve:
    """``probability`` of the target after each step (steps + 1,), ``fraction`` of the steps done,
    0 to 1; ``auc`` the area under it, 0 to 1."""

    mode: Mode
    fraction: np.ndarray
    probability: np.ndarray

    @property
    def auc(self) -> float:
        """Area by trapezoids: low is good for deletion, high for insertion."""
        return float(np.trapezoid(self.probability, self.fraction))


def nearby_value(
    volume: np.ndarray,
    lesions: np.ndarray,
    parenchyma: np.ndarray,
    spacing_mm: tuple[float, float, float],
    reach_mm: float = 15.0,
) -> float:
    """Median of a volume in the parenchyma around the lesions: what to fill a lesion with.

    Parameters
    ----------
    volume : (k, j, i), any unit; the value has the same.
    lesions, parenchyma : masks on its grid; their overlap counts as lesion.
    spacing_mm : of the grid along k, j, i.
    reach_mm : how far from a lesion parenchyma is nearby.

    Raises
    ------
    InputError : grids differ, no lesion, or no parenchyma within reach.
    """
    lesions, parenchyma = np.asarray(lesions, dtype=bool), np.asarray(parenchyma, dtype=bool)
    if not volume.shape == lesions.shape == parenchyma.shape or not lesions.any():
        raise InputError(
            f"Volume {volume.shape}, lesions {lesions.shape} ({int(lesions.sum())} voxels),"
            f" parenchyma {parenchyma.shape}.",
            "Give masks on the volume's grid, and a case with a lesion.",
        )
    near = distance_transform_edt(~lesions, sampling=spacing_mm) <= reach_mm
    nearby = near & parenchyma & ~lesions
    if not nearby.any():
        raise InputError(
            f"No parenchyma lies within {reach_mm:g} mm of a lesion.", "Reach further."
        )
    return float(np.median(volume[nearby].astype(np.float64)))


def voxel_steps(
    attention: np.ndarray, steps: int, domain: np.ndarray | None = None
) -> list[np.ndarray]:
    """Masks (k, j, i) of equal size, the most important voxels first; together the domain.

    Equal values keep the order of the array.

    Raises
    ------
    OptionError : fewer voxels than steps, or no step. InputError : the domain has another grid.
    """
    domain = np.ones(attention.shape, bool) if domain is None else np.asarray(domain, dtype=bool)
    if domain.shape != attention.shape:
        raise InputError(
            f"Map {attention.shape} and domain {domain.shape} differ.", "Use one grid."
        )
    inside = np.flatnonzero(domain)
    if not 1 <= steps <= len(inside):
        raise OptionError(
            f"{steps} steps over {len(inside)} voxels.", "Use 1 to that many; 20 is usual."
        )
    order = inside[np.argsort(-attention.ravel()[inside], kind="stable")]
    masks = []
    for part in np.array_split(order, steps):
        mask = np.zeros(attention.shape, dtype=bool)
        mask.flat[part] = True
        masks.append(mask)
    return masks


def region_steps(labels: np.ndarray, shares: Mapping[int, float]) -> list[np.ndarray]:
    """One mask (k, j, i) per region, the largest share first.

    Every region is one step, whatever its volume.

    Parameters
    ----------
    labels : region of each voxel.
    shares : label -> importance. Labels that it does not name are never touched.

    Raises
    ------
    InputError : no share, or a label without a voxel.
    """
    order = sorted(shares, key=lambda label: -shares[label])
    masks = [labels == label for label in order]
    empty = [label for label, mask in zip(order, masks, strict=True) if not mask.any()]
    if empty or not masks:
        raise InputError(f"Regions {empty} have no voxel.", "Give shares of regions of the image.")
    return masks


def perturbation_curve(
    predict: Predict,
    volumes: Mapping[str, np.ndarray],
    fill: Mapping[str, float],
    steps: Sequence[np.ndarray],
    target: int,
    mode: Mode = "deletion",
) -> PerturbationCurve:
    """Probability of the target while the steps are taken away, or brought back.

    Parameters
    ----------
    predict : called once for the start and once per step; the volumes are copies of its own.
    volumes : modality -> (k, j, i).
    fill : modality -> value in place of what is missing (:func:`nearby_value`).
    steps : masks in order of importance (:func:`voxel_steps`, :func:`region_steps`).
    target : index of the class.

    Raises
    ------
    InputError : a modality without fill, a mask on another grid.
    OptionError : no step, or another mode.
    """
    if mode not in ("deletion", "insertion") or not len(steps):
        raise OptionError(
            f"Mode {mode!r} with {len(steps)} steps.", "Choose deletion or insertion, with steps."
        )
    wrong = [n for n, v in volumes.items() if n not in fill or v.shape != steps[0].shape]
    if wrong:
        raise InputError(
            f"Modalities {wrong} have no fill value or another grid than the steps.",
            "Give a fill value per modality, and masks on the volumes' grid.",
        )
    probabilities = [
        float(np.asarray(predict(_filled(volumes, fill, missing)))[target])
        for missing in _missing(steps, mode)
    ]
    return PerturbationCurve(mode, np.linspace(0, 1, len(steps) + 1), np.array(probabilities))


def _missing(steps: Sequence[np.ndarray], mode: Mode) -> Iterator[np.ndarray]:
    """What is missing at the start and after each step."""
    missing = np.zeros_like(steps[0], dtype=bool)
    if mode == "insertion":
        missing = np.logical_or.reduce(steps)
    yield missing
    for step in steps:
        missing = missing & ~step if mode == "insertion" else missing | step
        yield missing


def _filled(
    volumes: Mapping[str, np.ndarray], fill: Mapping[str, float], missing: np.ndarray
) -> dict[str, np.ndarray]:
    return {
        name: np.where(missing, np.asarray(fill[name], dtype=volume.dtype), volume)
        for name, volume in volumes.items()
    }
