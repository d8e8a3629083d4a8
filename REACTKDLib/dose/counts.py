"""Photons at the detector: expected numbers, readings, and the noise of their logarithm.

numpy draws on the CPU, one generator for each slice, whatever the device: a slice's noise depends
on the seed, the slice's index and its line integrals alone.
"""

from __future__ import annotations

import numpy as np

from .model import DoseModel

#: Steps of the line integrals that set the expected counts. Coarse beside the rounding of a device
#: or a thread count, fine beside any noise: a draw that took one more step would change all later.
_STEP = 2.0**-16


def slice_rng(seed: int, index: int) -> np.random.Generator:
    """The random numbers of slice ``index``."""
    return np.random.default_rng([seed, index])


def rounded(integrals: np.ndarray) -> np.ndarray:
    """Line integrals, none negative, the same on every device and thread count; float64."""
    return np.maximum(np.rint(integrals.astype(float) / _STEP) * _STEP, 0)


def log_noise(
    integrals: np.ndarray, photons: float, model: DoseModel, rng: np.random.Generator
) -> np.ndarray:
    """What the noise adds to ``integrals`` (dimensionless, any shape), float32.

    Beer-Lambert, Poisson, electronic noise, logarithm. A reading below ``model.minimum_photons``
    counts as that: behind starved paths the integral is cut off near log(photons).
    """
    reading = rng.poisson(photons * np.exp(-integrals)).astype(np.float32)
    if model.electronic_sd_photons:
        reading += np.float32(model.electronic_sd_photons) * rng.standard_normal(
            integrals.shape, dtype=np.float32
        )
    np.maximum(reading, np.float32(model.minimum_photons), out=reading)
    return (np.log(photons) - np.log(reading, dtype=float) - integrals).astype(np.float32)


def authors_noise(integrals: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    """Poisson noise of the integrals themselves, without Beer-Lambert (REACT-KD code), float32."""
    return (rng.poisson(integrals * photons) / photons - integrals).astype(np.float32)


def log_variance(integrals: np.ndarray, photons: float, model: DoseModel) -> np.ndarray:
    """Variance of :func:`log_noise` by first-order propagation, below 1 by construction.

    Right above some ten photons a ray. Below, the cut-off bounds the noise, and so does this.
    """
    expected = np.maximum(photons * np.exp(-integrals), 1e-30)  # the square must not vanish
    variance = (expected + model.electronic_sd_photons**2) / expected**2
    return variance / (1 + variance)


def upsampled(integrals: np.ndarray, views: int, positions: np.ndarray) -> np.ndarray:
    """Line integrals of a coarse beam at ``views`` views and at bin indices ``positions``.

    Linear in angle and position; after 180 degrees comes the first view, mirrored. Element-wise
    numpy, so that the result has the same bits everywhere.
    """
    around = np.concatenate([integrals, integrals[:1, ::-1]])
    view = np.arange(views) * (len(integrals) / views)
    rows = _lerp(around, view)
    return np.ascontiguousarray(_lerp(rows.T, positions).T)


def _lerp(table: np.ndarray, at: np.ndarray) -> np.ndarray:
    """``table`` at fractional indices ``at`` of its first axis; held constant beyond its ends."""
    at = np.clip(at, 0, len(table) - 1)
    below = np.minimum(at.astype(int), len(table) - 2)
    part = (at - below)[:, None]
    return table[below] * (1 - part) + table[below + 1] * part
