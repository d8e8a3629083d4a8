"""Filtered backprojection and the noise that it passes on."""

from __future__ import annotations

import numpy as np
import torch

from .beam import ParallelBeam, backproject


def fbp(sinogram: torch.Tensor, beam: ParallelBeam, kernel: str) -> torch.Tensor:
    """Slices (slices, rows, columns) in value / mm of line integrals (slices, views, bins).

    Linear. The ramp is the band-limited one sampled in space (Kak and Slaney, Principles of
    Computerized Tomographic Imaging, 3.3), which keeps the mean level right.
    """
    padded = 2 ** int(np.ceil(np.log2(2 * beam.bins)))
    ramp = torch.from_numpy(_ramp(padded, beam.bin_mm, kernel)).to(sinogram)
    filtered = torch.fft.irfft(torch.fft.rfft(sinogram, n=padded) * ramp, n=padded)
    per_pixel = np.pi / beam.views * beam.bin_mm / (beam.spacing_mm[0] * beam.spacing_mm[1])
    return per_pixel * backproject(filtered[..., : beam.bins], beam)


def variance_gain(beam: ParallelBeam, kernel: str) -> float:
    """Variance of the slice, 1/mm^2, for unit variance in every bin of every view.

    Counts the frequencies that both detector and pixels hold.
    """
    padded = 4096
    step = 1 / (padded * beam.bin_mm)
    power = 2 * step * np.cumsum(_ramp(padded, beam.bin_mm, kernel) ** 2)
    row_mm, column_mm = beam.spacing_mm
    pixel_nyquist = 0.5 / np.maximum(
        np.abs(np.cos(beam.angles)) * column_mm, np.abs(np.sin(beam.angles)) * row_mm
    )
    held = np.interp(pixel_nyquist, step * np.arange(len(power)), power)
    return float(np.pi**2 / beam.views * beam.bin_mm * held.mean())


def _ramp(padded: int, bin_mm: float, kernel: str) -> np.ndarray:
    """The filter at the ``rfft`` frequencies of ``padded`` bins, 1/mm."""
    n = np.fft.fftfreq(padded, 1 / padded)
    odd = n % 2 == 1
    response = np.zeros(padded)
    response[odd] = -1 / (np.pi * n[odd] * bin_mm) ** 2
    response[0] = 1 / (4 * bin_mm**2)
    ramp = np.fft.rfft(response).real * bin_mm
    if kernel == "hann":
        ramp *= 0.5 + 0.5 * np.cos(2 * np.pi * np.fft.rfftfreq(padded))
    return ramp
