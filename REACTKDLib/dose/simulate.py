"""A CT as it would look with fewer photons."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, OptionError
from ..geometry import Geometry
from ..types import Volume
from .counts import authors_noise, log_noise, log_variance, rounded, slice_rng, upsampled
from .image_noise import image_noise
from .model import DoseModel, check_positive

if TYPE_CHECKING:
    import torch

    from .beam import ParallelBeam

#: ``projection``: Beer-Lambert, Poisson and electronic noise, filtered backprojection.
#: ``image``: noise of the same texture and local size without a sinogram, for augmentation.
#: ``authors``: the REACT-KD code's Poisson noise on the line integrals, without Beer-Lambert.
METHODS = ("projection", "image", "authors")

#: Slices that go through the projector together: memory grows with it, speed little beyond it.
CHUNK = 50
#: More photons than this a ray would overflow the Poisson generator long before they mattered.
_MOST_PHOTONS = 1e12
_AIR_HU = -1000.0
#: Scanners fill what they did not measure with values below this.
_LOWEST_HU = -1024.0
#: Width of the slice in the authors' projector, whatever its true size.
_AUTHORS_WIDTH = 256.0
_WORKERS = 2


def simulate_low_dose(
    ct: Volume,
    photons: float,
    seed: int,
    model: DoseModel | None = None,
    device: str = "cpu",
    method: str = "projection",
) -> Volume:
    """``ct`` with the noise that ``photons`` per ray would bring, on the same grid.

    The noise comes on top of what the CT has, so the dose is the result's only where the CT's own
    noise is small beside it. Only the noise is reconstructed: edges and resolution stay the CT's.

    Slices are taken across the array axis nearest to superior-inferior, each with its own noise.
    Voxels below -1024 HU (padding), and those outside ``model.scan_diameter_mm``, stay as they are.

    Parameters
    ----------
    ct : HU; signed integers or floating point, (k, j, i).
    photons : photons that each ray would bring through air; ``DOSES`` names the paper's five.
    seed : not negative. Every slice draws from a generator of its own, on the CPU: other devices,
        thread counts and chunks give the same noise up to floating-point rounding.
    model : assumptions about the scanner; None takes the defaults of :class:`DoseModel`.
    device : ``cpu``, ``cuda`` or ``auto``.
    method : one of ``METHODS``.

    Returns
    -------
    Volume of the input's integer type (rounded, held to its range), or float32.

    Raises
    ------
    OptionError : an unknown method or device, photons or seed out of range.
    EnvironmentProblem : CUDA was asked for and torch has none.
    InputError : the CT is unsigned, not real, or not finite everywhere.
    """
    model = model or DoseModel()
    check_positive("photons", photons)
    if photons > _MOST_PHOTONS:
        raise OptionError(f"photons is {photons:g}.", f"Give at most {_MOST_PHOTONS:g}.")
    if method not in METHODS:
        raise OptionError(f"Unknown method {method!r}.", f"Choose one of {', '.join(METHODS)}.")
    if seed < 0:
        raise OptionError(f"The seed is {seed}.", "Give 0 or more.")
    _check_values(ct.array)
    import torch

    from ..backends import choose_device

    chosen = torch.device(choose_device(device))
    axis, spacing = _slices(ct)
    slices = np.moveaxis(ct.array, axis, 0)
    shape = (slices.shape[1], slices.shape[2])
    result = np.empty(slices.shape, _result_type(ct.array.dtype))
    make = {"projection": _projection, "image": _image, "authors": _authors}[method](
        shape, spacing, photons, seed, model, chosen
    )
    circle = _scan_circle(shape, spacing, model.scan_diameter_mm)
    for start in range(0, len(slices), CHUNK):
        before = slices[start : start + CHUNK].astype(np.float32)
        scanned = (before >= _LOWEST_HU) & circle
        after = make(np.where(scanned, before, np.float32(_AIR_HU)), start)
        after = np.where(scanned, after, before)
        if result.dtype.kind == "i":
            limits = np.iinfo(result.dtype)
            after = np.clip(np.rint(after), limits.min, limits.max)
        result[start : start + CHUNK] = after
    array = np.ascontiguousarray(np.moveaxis(result, 0, axis))
    return Volume(array, ct.geometry, f"{ct.name} {photons:g} photons".strip())


#: From a chunk of slices in HU (slices, rows, columns) and its first index to noisy slices in HU.
_Maker = Callable[[np.ndarray, int], np.ndarray]


def _projection(
    shape: tuple[int, int],
    spacing: tuple[float, float],
    photons: float,
    seed: int,
    model: DoseModel,
    device: torch.device,
) -> _Maker:
    from .beam import ParallelBeam
    from .fbp import fbp

    beam = ParallelBeam(shape, spacing, model.views, model.bin_mm or min(spacing))

    def make(hu: np.ndarray, first: int) -> np.ndarray:
        integrals, coarse = _line_integrals(_attenuation(hu, model), beam, model, device)

        def noise(index: int) -> np.ndarray:
            paths = _on_beam(integrals[index], coarse, beam)
            return log_noise(paths, photons, model, slice_rng(seed, first + index))

        sinogram = _threaded(noise, len(hu), device)
        added = fbp(sinogram, beam, model.kernel) * (1000 / model.mu_water_per_mm)
        return hu + added.cpu().numpy()

    return make


def _image(
    shape: tuple[int, int],
    spacing: tuple[float, float],
    photons: float,
    seed: int,
    model: DoseModel,
    device: torch.device,
) -> _Maker:
    import torch

    from .beam import ParallelBeam, backproject
    from .fbp import variance_gain

    beam = ParallelBeam(shape, spacing, model.views, model.bin_mm or min(spacing))
    to_hu = (1000 / model.mu_water_per_mm) ** 2 * variance_gain(beam, model.kernel)

    def make(hu: np.ndarray, first: int) -> np.ndarray:
        integrals, coarse = _line_integrals(_attenuation(hu, model), beam, model, device)
        variance = log_variance(integrals, photons, model)
        # A voxel's variance is the mean over the rays through it.
        area = coarse.spacing_mm[0] * coarse.spacing_mm[1]
        mean = backproject(torch.from_numpy(variance).to(device), coarse).cpu()
        mean *= coarse.bin_mm / area / coarse.views
        # Band-limited backprojection may undershoot; no voxel is quieter than the quietest ray.
        mean = mean.clamp(min=float(variance.min())) * to_hu
        sd = torch.nn.functional.interpolate(
            mean.sqrt()[:, None].float(), size=shape, mode="bilinear", align_corners=False
        )[:, 0].numpy()
        return hu + image_noise(hu.shape, spacing, sd, seed, beam.bin_mm, first)

    return make


def _authors(
    shape: tuple[int, int],
    spacing: tuple[float, float],
    photons: float,
    seed: int,
    model: DoseModel,
    device: torch.device,
) -> _Maker:
    from .beam import ParallelBeam
    from .fbp import fbp

    # Their slice has a fixed width, square pixels and as many views as its longer side has pixels.
    pixel = _AUTHORS_WIDTH / max(shape)
    beam = ParallelBeam(shape, (pixel, pixel), max(shape), pixel)

    def make(hu: np.ndarray, first: int) -> np.ndarray:
        low = hu.min(axis=(1, 2), keepdims=True)
        span = hu.max(axis=(1, 2), keepdims=True) - low
        grey = (hu - low) / np.where(span > 0, span, 1)
        integrals, coarse = _line_integrals(grey, beam, model, device)

        def noise(index: int) -> np.ndarray:
            paths = _on_beam(integrals[index], coarse, beam)
            return authors_noise(paths, photons, slice_rng(seed, first + index))

        added = fbp(_threaded(noise, len(hu), device), beam, "ramp").cpu().numpy()
        return np.clip(grey + added, 0, 1) * span + low

    return make


def _attenuation(hu: np.ndarray, model: DoseModel) -> np.ndarray:
    """Linear attenuation, 1/mm; nothing absorbs less than air."""
    return np.maximum(hu / 1000 + 1, 0) * np.float32(model.mu_water_per_mm)


def _line_integrals(
    values: np.ndarray, beam: ParallelBeam, model: DoseModel, device: torch.device
) -> tuple[np.ndarray, ParallelBeam]:
    """Line integrals (slices, views, bins) of the slices on a coarser beam, and that beam."""
    import torch

    from .beam import project

    coarse = beam.coarser(model.path_reduction)
    images = torch.from_numpy(values).to(device, torch.float64)
    small = torch.nn.functional.interpolate(images[:, None], size=coarse.shape, mode="area")[:, 0]
    return rounded(project(small, coarse).cpu().numpy()), coarse


def _on_beam(integrals: np.ndarray, coarse: ParallelBeam, beam: ParallelBeam) -> np.ndarray:
    """One slice's line integrals (views, bins) on the rays of ``beam``."""
    if coarse == beam:
        return integrals
    positions = beam.positions_mm / coarse.bin_mm + coarse.bins // 2
    return upsampled(integrals, beam.views, positions)


def _threaded(make: Callable[[int], np.ndarray], count: int, device: torch.device) -> torch.Tensor:
    """``make(0 .. count - 1)`` stacked, on the device."""
    import torch

    with ThreadPoolExecutor(_WORKERS) as pool:
        return torch.from_numpy(np.stack(list(pool.map(make, range(count))))).to(device)


def slice_axis(geometry: Geometry) -> int:
    """The array axis, of (k, j, i), nearest to superior-inferior."""
    towards_superior = np.abs(geometry.direction_matrix[2])
    # i, j, k to k, j, i: of equally near axes, the slowest.
    return int(np.argmax(np.round(towards_superior[::-1], 6)))


def _slices(ct: Volume) -> tuple[int, tuple[float, float]]:
    """The array axis nearest to superior-inferior; spacing of a slice's rows and columns, mm."""
    axis = slice_axis(ct.geometry)
    rows, columns = np.delete(ct.geometry.spacing_mm[::-1], axis)
    return axis, (float(rows), float(columns))


def _scan_circle(
    shape: tuple[int, int], spacing: tuple[float, float], diameter_mm: float | None
) -> np.ndarray:
    """True (rows, columns) where the scanner measures."""
    if diameter_mm is None:
        return np.ones(shape, bool)
    y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True))
    return np.hypot(y[:, None], x) <= diameter_mm / 2


def _check_values(array: np.ndarray) -> None:
    if array.dtype.kind not in "if":
        raise InputError(
            f"The CT's values are {array.dtype}, which cannot hold HU.",
            "Give signed integers or floating point in HU.",
        )
    if not np.all(np.isfinite(array)):
        raise InputError(
            f"The CT holds {int((~np.isfinite(array)).sum())} values that are not finite.",
            "Replace them, for instance by -1000 HU.",
        )


def _result_type(dtype: np.dtype) -> np.dtype:
    return np.dtype(dtype if dtype.kind == "i" else np.float32)
