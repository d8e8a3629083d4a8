"""Noise with the texture of filtered backprojection, without a projection: for augmentation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import OptionError
from .counts import slice_rng

_WORKERS = 2


def image_noise(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float],
    sd_hu: float | np.ndarray,
    seed: int,
    bin_mm: float | None = None,
    first: int = 0,
) -> np.ndarray:
    """Zero-mean noise in HU, float32 ``shape`` (slices, rows, columns), each slice by itself.

    Its power spectrum is the ramp times a Gaussian, which has the Hann kernel's fall-off at low
    frequencies. It repeats at the slice's borders, so opposite borders are correlated.

    Parameters
    ----------
    spacing_mm : distance between rows, between columns.
    sd_hu : standard deviation, HU; a number or anything that broadcasts to ``shape``.
    bin_mm : detector bin whose Nyquist frequency the kernel ends at; None is the smaller pixel
        side.
    first : index of the first slice: slices 5 to 9 get the same noise drawn with the rest or alone.

    Raises
    ------
    OptionError : a standard deviation that is negative or not finite.
    """
    if not np.all(np.isfinite(sd_hu) & (np.asarray(sd_hu) >= 0)):
        raise OptionError(f"The noise's standard deviation is {sd_hu} HU.", "Give 0 or more.")
    import scipy.fft

    amplitude = _amplitude(shape[1:], spacing_mm, bin_mm or min(spacing_mm))
    sd = np.broadcast_to(np.asarray(sd_hu, np.float32), shape)
    noise = np.empty(shape, np.float32)

    def fill(index: int) -> None:
        white = slice_rng(seed, first + index).standard_normal(shape[1:], dtype=np.float32)
        spectrum = scipy.fft.rfft2(white, overwrite_x=True)
        spectrum *= amplitude
        texture = scipy.fft.irfft2(spectrum, s=shape[1:], overwrite_x=True)
        np.multiply(texture, sd[index], out=noise[index])

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(fill, range(shape[0])))
    return noise


def _amplitude(
    shape: tuple[int, int], spacing_mm: tuple[float, float], bin_mm: float
) -> np.ndarray:
    """Square root of the power spectrum at the ``rfft2`` frequencies, for unit variance."""
    along_rows = np.fft.fftfreq(shape[0], spacing_mm[0])[:, None]
    along_columns = np.fft.fftfreq(shape[1], spacing_mm[1])
    frequency = np.hypot(along_rows, along_columns)
    nyquist = 0.5 / bin_mm
    # The Hann window squared, cos^4(pi f / 2 nyquist), begins as this Gaussian does.
    power = frequency * np.exp(-((np.pi * frequency / nyquist) ** 2) / 2)
    power /= power.mean()
    return np.sqrt(power[:, : shape[1] // 2 + 1]).astype(np.float32)
