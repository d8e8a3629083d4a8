"""Parallel-beam projection and its exact adjoint, by the Fourier slice theorem.

A view's 1-D spectrum is a line through the slice's 2-D spectrum. Along one image axis the line is
reached by an FFT, along the other by a matrix product for each frequency; a second product takes
the spectrum to the detector bins. Nothing is interpolated: the slice is band-limited at its pixels'
Nyquist frequency and the views at the detector's. All slices go through the products together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch


@dataclass(frozen=True)
class ParallelBeam:
    """Rays through a slice. View v looks along angle ``v * pi / views``, bin positions in mm.

    A ray at angle a and position s holds the points s = x cos(a) - y sin(a), x along the columns
    (i), y along the rows (j, downwards), both in mm from the slice's centre: scikit-image's
    convention. The bins, an odd number with s = 0 in the middle, cover the slice's diagonal.

    Parameters
    ----------
    shape : rows, columns of the slice.
    spacing_mm : distance between rows, between columns.
    views : number of views over 180 degrees.
    bin_mm : distance between bins.
    """

    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    views: int
    bin_mm: float

    @cached_property
    def extent_mm(self) -> tuple[float, float]:
        """Height and width of the slice."""
        return self.shape[0] * self.spacing_mm[0], self.shape[1] * self.spacing_mm[1]

    @property
    def bins(self) -> int:
        """Detector bins of a view."""
        return 2 * math.ceil(math.hypot(*self.extent_mm) / 2 / self.bin_mm) + 1

    @property
    def angles(self) -> np.ndarray:
        """Angle of each view, radians."""
        return np.arange(self.views) * np.pi / self.views

    @property
    def positions_mm(self) -> np.ndarray:
        """Position s of each bin, mm."""
        return (np.arange(self.bins) - self.bins // 2) * self.bin_mm

    def coarser(self, factor: int) -> ParallelBeam:
        """The same slice in pixels about ``factor`` times larger, views and bins alike."""
        shape = (math.ceil(self.shape[0] / factor), math.ceil(self.shape[1] / factor))
        spacing = (self.extent_mm[0] / shape[0], self.extent_mm[1] / shape[1])
        return ParallelBeam(
            shape, spacing, math.ceil(self.views / factor), max(min(spacing), self.bin_mm)
        )


def project(images: torch.Tensor, beam: ParallelBeam) -> torch.Tensor:
    """Line integrals, (slices, views, bins) in value x mm, of ``images`` (slices, rows, columns).

    Bins beyond the slice's shadow are 0. float32 or float64, on the images' device.
    """
    sinogram = images.new_zeros(beam.views, beam.bins, len(images))
    for sweep in _sweeps(beam, images):
        planes = images.transpose(1, 2) if sweep.along_rows else images
        spectra = torch.fft.rfft(planes, n=sweep.padded, dim=2)[..., : sweep.frequencies]
        spectra = spectra.permute(2, 1, 0).contiguous()
        lines = spectra.new_empty(sweep.frequencies, len(sweep.views), len(images))
        for k, turn in enumerate(sweep.turns()):
            torch.mm(turn, spectra[k], out=lines[k])
        lines[1:] *= 2  # the negative frequencies are the conjugates
        for v, lit, low, basis in sweep.bases():
            wave = torch.stack([lines[:low, v].real, -lines[:low, v].imag], dim=1)
            torch.mm(basis, wave.flatten(0, 1), out=sinogram[sweep.views[v], lit])
    return sinogram.permute(2, 0, 1)


def backproject(sinogram: torch.Tensor, beam: ParallelBeam) -> torch.Tensor:
    """The adjoint of :func:`project`: (slices, rows, columns) of (slices, views, bins)."""
    columns = sinogram.permute(1, 2, 0).contiguous()
    images = sinogram.new_zeros(len(sinogram), *beam.shape)
    for sweep in _sweeps(beam, sinogram):
        lines = torch.zeros(
            (sweep.frequencies, len(sweep.views), len(sinogram)),
            dtype=sweep.complex_dtype,
            device=sinogram.device,
        )
        for v, lit, low, basis in sweep.bases():
            wave = (basis.T @ columns[sweep.views[v], lit]).unflatten(0, (-1, 2))
            lines[:low, v] = torch.complex(wave[:, 0], -wave[:, 1])
        spectra = lines.new_empty(sweep.frequencies, sweep.across, len(sinogram))
        for k, turn in enumerate(sweep.turns()):
            torch.mm(turn.mH, lines[k], out=spectra[k])
        planes = torch.fft.irfft(spectra.permute(2, 1, 0), n=sweep.padded, norm="forward", dim=2)
        planes = planes[..., : sweep.along]
        images += planes.transpose(1, 2) if sweep.along_rows else planes
    return images


@dataclass(frozen=True, eq=False)
class _Sweep:
    """The views that are nearer to one image axis: FFT along it, matrix products across it.

    A ray crosses the FFT axis a at ``a = carrier * s - slope * b`` where b is the other axis.
    """

    beam: ParallelBeam
    along_rows: bool  #: the FFT runs down the rows (y) rather than over the columns (x)
    views: np.ndarray
    like: torch.Tensor

    @property
    def _axis(self) -> int:
        return 0 if self.along_rows else 1

    @property
    def along(self) -> int:
        return self.beam.shape[self._axis]

    @property
    def across(self) -> int:
        return self.beam.shape[1 - self._axis]

    @property
    def step_mm(self) -> tuple[float, float]:
        """Pixel spacing along and across."""
        return self.beam.spacing_mm[self._axis], self.beam.spacing_mm[1 - self._axis]

    @property
    def padded(self) -> int:
        """FFT length, even; a plane sheared by up to 45 degrees does not wrap onto itself."""
        return 2 * math.ceil(sum(self.beam.extent_mm) / self.step_mm[0] / 2) + 4

    @property
    def frequency_step(self) -> float:
        return 1 / (self.padded * self.step_mm[0])

    @property
    def frequencies(self) -> int:
        """Frequencies below the pixels' and the detector's Nyquist frequency."""
        highest = min(0.5 / self.step_mm[0], 0.5 / self.beam.bin_mm)
        return min(math.ceil(highest / self.frequency_step), self.padded // 2)

    @cached_property
    def slope_and_carrier(self) -> tuple[np.ndarray, np.ndarray]:
        cosine, sine = np.cos(self.beam.angles[self.views]), np.sin(self.beam.angles[self.views])
        if self.along_rows:
            return -cosine / sine, -1 / sine
        return -sine / cosine, 1 / cosine

    @property
    def complex_dtype(self) -> torch.dtype:
        return torch.complex128 if self.like.dtype == torch.float64 else torch.complex64

    def _tensor(self, values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(values, device=self.like.device).to(dtype)

    def turns(self) -> Iterator[torch.Tensor]:
        """For each frequency, the phases (views, across) of a unit wave along the rays."""
        b = (np.arange(self.across) - (self.across - 1) / 2) * self.step_mm[1]
        shift = self.slope_and_carrier[0][:, None] * b
        one = self._tensor(np.exp(-2j * np.pi * self.frequency_step * shift), self.complex_dtype)
        turn = torch.ones_like(one)
        for _ in range(self.frequencies):
            yield turn
            turn = turn * one

    def bases(self) -> Iterator[tuple[int, slice, int, torch.Tensor]]:
        """For each view, the real matrix from its low frequencies to the bins that see the slice.

        Yields the view's number in this sweep, the bins, how many frequencies, and the matrix
        (bins, 2 x frequencies), cosine and sine alternating along its second axis.
        """
        beam = self.beam
        frequency = np.arange(self.frequencies) * self.frequency_step
        start = np.exp(2j * np.pi * frequency * (self.along - 1) / 2 * self.step_mm[0])
        area = beam.spacing_mm[0] * beam.spacing_mm[1]
        cosine, sine = np.abs(np.cos(beam.angles)), np.abs(np.sin(beam.angles))
        shadow = (beam.extent_mm[1] * cosine + beam.extent_mm[0] * sine) / 2 + max(self.step_mm)
        for v, (slope, carrier) in enumerate(zip(*self.slope_and_carrier, strict=True)):
            lit = np.flatnonzero(np.abs(beam.positions_mm) <= shadow[self.views[v]])
            s = beam.positions_mm[lit]
            seen = (frequency * abs(carrier) < 0.5 / beam.bin_mm) & (
                frequency * abs(slope) < 0.5 / self.step_mm[1]
            )
            low = int(seen.sum())
            weight = start[:low] * (area * self.frequency_step * abs(carrier))
            wave = 2j * np.pi * carrier * frequency[:low]
            # exp(a + b) = exp(a) exp(b): 2 sqrt(bins) exponentials a frequency instead of bins.
            stride = math.isqrt(len(s)) + 1
            coarse = self._tensor(weight * np.exp(s[::stride, None] * wave), self.complex_dtype)
            fine = self._tensor(
                np.exp((np.arange(stride) * beam.bin_mm)[:, None] * wave), self.complex_dtype
            )
            basis = (coarse[:, None] * fine).flatten(0, 1)[: len(s)]
            yield v, slice(lit[0], lit[-1] + 1), low, torch.view_as_real(basis).flatten(1)


def _sweeps(beam: ParallelBeam, like: torch.Tensor) -> Iterator[_Sweep]:
    flat = np.abs(np.cos(beam.angles)) >= np.abs(np.sin(beam.angles))
    for along_rows, chosen in ((False, flat), (True, ~flat)):
        if chosen.any():
            yield _Sweep(beam, along_rows, np.flatnonzero(chosen), like)
