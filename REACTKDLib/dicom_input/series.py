"""A DICOM series as a volume: in which order, on which grid, with which values.

Slices are ordered by their positions, never by name or number, and every slice must lie where a
regular grid puts it. Slices that are there twice are dropped if they are the same; a gantry tilt is
sheared away. Missing slices and mixed spacings are errors, because an image that bridges or cuts
them would look right and be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..read_image import check_size, check_spacing, itk_reason, quiet_itk
from ..shear import MAX_TILT_DEGREES, sheared_geometry, unshear
from .files import DicomSeries, DicomSlice, damaged_slice
from .frames import Frame, read_frames

#: A slice may lie this part of a slice step away from its place (positions are often rounded).
_PLACE_TOLERANCE = 0.1
#: Two orientations are the same when their cosines agree to this.
_COSINE_TOLERANCE = 1e-3
#: Two slices at one place, mm.
_SAME_PLACE_MM = 1e-3


@dataclass(frozen=True)
class SeriesGrid:
    """Where the slices of a series lie.

    ``geometry`` : the rectangular grid of the volume. ``slices`` : in slice order (k = 0 first).
    ``shear`` : in-plane step (i, j) in mm from slice to slice, of a tilted gantry; else zeros.
    ``notices`` : what was done to the series, sentences for the reader of a result.
    """

    geometry: Geometry
    slices: tuple[DicomSlice, ...]
    shear: tuple[float, float] = (0.0, 0.0)
    notices: tuple[str, ...] = ()


def series_grid(folder: Path, series: DicomSeries) -> SeriesGrid:
    """The regular grid of a series and its slices in order.

    Raises
    ------
    InputError : one slice, multi-frame files that are no enhanced CT, slices without position, of
        different size, spacing or orientation, different slices at the same position, missing
        slices, a slice step that varies, slices shifted irregularly or by a tilt beyond
        ``MAX_TILT_DEGREES``.
    """
    what = f'The series {series.number or "-"} "{series.description}" in {folder}'
    slices = series.slices
    if any(s.frames > 1 for s in slices):
        raise InputError(
            f"{what} has {max(s.frames for s in slices)} frames in one file that is no enhanced CT:"
            " its frames have no positions.",
            "Give the original CT images.",
        )
    unplaced = [s.name for s in slices if not s.placed]
    if unplaced:
        raise InputError(
            f"{what} has {len(unplaced)} slices without position or orientation"
            f" (first {unplaced[0]}).",
            "Export the original CT images.",
        )
    reference = slices[0].geometry
    for name, values in (
        ("sizes", [s.geometry.size for s in slices]),
        ("pixel spacings", [s.geometry.spacing_mm for s in slices]),
        ("orientations", [s.geometry.direction_lps for s in slices]),
    ):
        if not np.allclose(values, values[0], rtol=0, atol=_COSINE_TOLERANCE):
            distinct = sorted(set(values))
            raise InputError(
                f"{what} mixes slices of {len(distinct)} {name}: {distinct[0]}, {distinct[1]}.",
                "Export the axial images alone, without localisers.",
            )
    check_spacing(folder, reference)
    slices, notices = _without_duplicates(what, slices)
    if len(slices) < 2:
        raise InputError(f"{what} has one slice.", "Give a volume of several slices.")
    offsets = _offsets_mm(reference, slices)
    order = np.argsort(offsets[:, 2], kind="stable")
    slices = tuple(slices[n] for n in order)
    offsets = offsets[order] - offsets[order[0]]
    _check_depths(what, offsets[:, 2], [s.name for s in slices])
    step = float(offsets[-1, 2]) / (len(slices) - 1)
    straight = Geometry(
        size=(*reference.size[:2], len(slices)),
        spacing_mm=(*reference.spacing_mm[:2], step),
        origin_lps=slices[0].geometry.origin_lps,
        direction_lps=reference.direction_lps,
    )
    allowed = max(_PLACE_TOLERANCE * step, _PLACE_TOLERANCE)
    if np.abs(offsets[:, :2]).max() <= allowed:
        return SeriesGrid(straight, slices, notices=notices)
    shear = _tilt(what, offsets, allowed, step)
    tilt = math.degrees(math.atan(math.hypot(*shear) / step))
    notices = (
        *notices,
        f"The CT was taken with a tilted gantry ({tilt:.1f} degrees). It was resampled to a"
        " rectangular grid, linearly within each slice.",
    )
    return SeriesGrid(sheared_geometry(straight, shear), slices, shear, notices)


def _offsets_mm(reference: Geometry, slices: Sequence[DicomSlice]) -> np.ndarray:
    """In the frame of ``reference``: in-plane shift (i, j) and depth along the normal, mm."""
    offsets = reference.ijk_from_lps(np.array([s.geometry.origin_lps for s in slices]))
    return offsets * np.asarray(reference.spacing_mm)


def _without_duplicates(
    what: str, slices: tuple[DicomSlice, ...]
) -> tuple[tuple[DicomSlice, ...], tuple[str, ...]]:
    """The slices, those left out that another one at the same place equals voxel by voxel.

    Raises
    ------
    InputError : two different slices at one place.
    """
    offsets = _offsets_mm(slices[0].geometry, slices)
    order = np.argsort(offsets[:, 2], kind="stable")
    kept = [int(order[0])]
    dropped = 0
    for n in map(int, order[1:]):
        if np.abs(offsets[n] - offsets[kept[-1]]).max() > _SAME_PLACE_MM:
            kept.append(n)
            continue
        one, other = slices[kept[-1]], slices[n]
        if not np.array_equal(_slice_values(one), _slice_values(other)):
            raise InputError(
                f"{what} has two slices at the same position that differ: {one.name} and"
                f" {other.name}.",
                "It may mix several phases; export one phase alone.",
            )
        dropped += 1
    if not dropped:
        return slices, ()
    text = f"{dropped} slices of the CT are there twice, voxel by voxel; each was taken once."
    return tuple(slices[n] for n in sorted(kept)), (text,)


def _slice_values(one: DicomSlice) -> np.ndarray:
    if one.frame is not None:
        return read_frames(one.file, (one.frame,))[0]
    check_size(one.file, one.geometry.size)
    return _read_files([one.file], {one.pixel_id})[0]


def _tilt(what: str, offsets: np.ndarray, allowed: float, step: float) -> tuple[float, float]:
    """In-plane step (i, j), mm, from slice to slice.

    Raises
    ------
    InputError : slices that are not shifted evenly, or by too much.
    """
    shear = offsets[-1, :2] / (len(offsets) - 1)
    irregular = float(np.abs(offsets[:, :2] - np.outer(np.arange(len(offsets)), shear)).max())
    tilt = math.degrees(math.atan(float(np.hypot(*shear)) / step))
    if irregular > allowed or tilt > MAX_TILT_DEGREES:
        shift = float(np.abs(offsets[:, :2]).max())
        how = (
            f"a tilt of {tilt:.0f} degrees, above the {MAX_TILT_DEGREES} of a CT gantry"
            if irregular <= allowed
            else f"not evenly: up to {irregular:.2f} mm beside a gantry tilt"
        )
        raise InputError(
            f"{what} has slices shifted by up to {shift:.2f} mm in plane over its"
            f" {offsets[-1, 2]:.1f} mm, {how}.",
            "Export the original CT images.",
        )
    # What is within the tolerance of a straight series is rounding of the positions.
    i, j = np.where(np.abs(offsets[-1, :2]) <= allowed, 0.0, shear).tolist()
    return i, j


def _check_depths(what: str, depths: np.ndarray, names: Sequence[str]) -> None:
    """Raises InputError unless the sorted slice positions (mm) are evenly spaced."""
    steps = np.diff(depths)
    typical = float(np.median(steps))
    closest = int(np.argmin(steps))
    if steps[closest] < max(_PLACE_TOLERANCE * typical, _SAME_PLACE_MM):
        raise InputError(
            f"{what} has two slices at the same position: {names[closest]} and"
            f" {names[closest + 1]}.",
            "It may mix several phases; export one phase alone.",
        )
    even = np.linspace(depths[0], depths[-1], len(depths))
    if np.abs(depths - even).max() <= _PLACE_TOLERANCE * typical:
        return
    worst = int(np.argmax(np.abs(steps - typical)))
    place = (
        f"{steps[worst]:.2f} mm between {names[worst]} and {names[worst + 1]}"
        f" ({depths[worst] - depths[0]:.2f} and {depths[worst + 1] - depths[0]:.2f} mm from the"
        f" first), {typical:.2f} mm elsewhere"
    )
    gaps = steps / typical
    if np.abs(gaps - np.rint(gaps)).max() < _PLACE_TOLERANCE and (gaps > 1.5).sum() < len(gaps) / 4:
        missing = int(np.rint(gaps).sum()) - len(gaps)
        raise InputError(
            f"{what} has slices that are not evenly spaced: {place}.",
            f"{missing} slices seem to be missing: copy or export the whole series again.",
        )
    raise InputError(
        f"{what} has slices that are not evenly spaced: {place}: its spacing is mixed, or slices"
        " are missing.",
        "Export the series again, or a reconstruction of one spacing; no part of it is left out"
        " here, because that part may hold the organ.",
    )


def read_series(folder: Path, series: DicomSeries) -> tuple[np.ndarray, SeriesGrid]:
    """Voxels (k, j, i) with the modality rescale applied (HU for CT), and the grid.

    Raises
    ------
    InputError : as :func:`series_grid`; colour images; a slice that cannot be decoded; a volume
        that is too large.
    """
    import SimpleITK as sitk

    grid = series_grid(folder, series)
    check_size(folder, grid.geometry.size)
    check_spacing(folder, grid.geometry)
    pixel_ids = {s.pixel_id for s in grid.slices}
    if not pixel_ids <= {*_integer_ids(), sitk.sitkUInt32, sitk.sitkFloat32, sitk.sitkFloat64}:
        names = ", ".join(sorted(sitk.GetPixelIDValueAsString(i) for i in pixel_ids))
        raise InputError(
            f"The series {series} has pixels of type {names}, not grey values.",
            "Give the original CT images.",
        )
    if grid.slices[0].frame is None:
        array = _read_files([s.file for s in grid.slices], pixel_ids)
    else:
        array = _read_enhanced(grid.slices)
    return unshear(array, grid.geometry, grid.shear), grid


def _integer_ids() -> set[int]:
    import SimpleITK as sitk

    return {sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32}


def _read_files(files: Sequence[Path], pixel_ids: set[int]) -> np.ndarray:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(f) for f in files])
    # Left alone, the first slice's type decides for all, and rescale slopes may differ by slice.
    if pixel_ids == {sitk.sitkInt16}:
        reader.SetOutputPixelType(sitk.sitkInt16)
    else:
        integer = pixel_ids <= _integer_ids()
        reader.SetOutputPixelType(sitk.sitkInt32 if integer else sitk.sitkFloat32)
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        raise damaged_slice(_first_unreadable(files), itk_reason(error)) from error
    return sitk.GetArrayFromImage(image)


def _read_enhanced(slices: Sequence[DicomSlice]) -> np.ndarray:
    """Values of slices that are frames, file by file."""
    by_file: dict[Path, list[tuple[int, Frame]]] = {}
    for k, one in enumerate(slices):
        if one.frame is not None:
            by_file.setdefault(one.file, []).append((k, one.frame))
    planes: dict[int, np.ndarray] = {}
    for path, placed in by_file.items():
        values = read_frames(path, tuple(frame for _, frame in placed))
        planes.update(zip((k for k, _ in placed), values, strict=True))
    return np.stack([planes[k] for k in range(len(slices))])


def _first_unreadable(files: Sequence[Path]) -> Path:
    """The file at which a series breaks; the last one when each can be read alone."""
    import SimpleITK as sitk

    for path in files:
        try:
            sitk.ReadImage(str(path), imageIO="GDCMImageIO")
        except RuntimeError:
            return path
    return files[-1]
