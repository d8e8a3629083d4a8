"""A DICOM series as a volume: which series, in which order, on which grid.

Slices are ordered by their positions, never by name or number, and every slice must lie where a
regular grid puts it: a missing slice or a tilted gantry is an error, because a resampled image
would look right and be wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import InputError
from .geometry import Geometry
from .read_dicom_files import DicomSeries, damaged_slice, list_series
from .read_image import check_size, check_spacing, itk_reason, quiet_itk

#: A slice may lie this part of a slice step away from its place (positions are often rounded).
_PLACE_TOLERANCE = 0.1
#: Two orientations are the same when their cosines agree to this.
_COSINE_TOLERANCE = 1e-3

_log = logging.getLogger("REACTKD")


def choose_series(folder: Path, series_uid: str | None = None) -> DicomSeries:
    """The CT series of a folder: the one with ``series_uid``, or the only CT volume in it.

    The choice is logged (series number and description, nothing about the patient).

    Raises
    ------
    InputError : no DICOM images, no such UID, a UID of another modality, no CT volume, several CT
        volumes and no UID.
    """
    series = list_series(folder)
    if not series:
        raise InputError(
            f"{folder} holds no DICOM images.", "Give the folder that the scanner or PACS exported."
        )
    listing = "; ".join(map(str, series))
    if series_uid is not None:
        chosen = [s for s in series if s.uid == series_uid]
        if not chosen:
            raise InputError(f"{folder} has no series {series_uid}.", f"It has: {listing}.")
        if chosen[0].modality not in ("CT", ""):
            raise InputError(f"The series {chosen[0]} is no CT.", f"{folder} has: {listing}.")
    else:
        chosen = [s for s in series if s.is_ct_volume]
        if not chosen:
            raise InputError(f"{folder} has no CT series of several slices.", f"It has: {listing}.")
        if len(chosen) > 1:
            raise InputError(
                f"{folder} has {len(chosen)} CT series: {'; '.join(map(str, chosen))}.",
                "Choose one by its series UID.",
            )
    _log.info(
        'DICOM: CT series number %s, "%s", %d slices, chosen among %d series',
        chosen[0].number or "-",
        chosen[0].description,
        len(chosen[0].slices),
        len(series),
    )
    return chosen[0]


def series_geometry(folder: Path, series: DicomSeries) -> tuple[Geometry, tuple[Path, ...]]:
    """The regular grid of a series and its files in slice order (k = 0 first).

    Raises
    ------
    InputError : one slice, multi-frame files, slices without position, of different size, spacing
        or orientation, at the same position, missing slices, a slice step that varies, slices
        shifted against each other (gantry tilt, shear).
    """
    what = f'The series {series.number or "-"} "{series.description}" in {folder}'
    slices = series.slices
    if any(s.frames > 1 for s in slices):
        raise InputError(
            f"{what} has {max(s.frames for s in slices)} frames in one file (enhanced DICOM),"
            " which is not read.",
            "Load it in 3D Slicer and save it as .nii.gz or .nrrd.",
        )
    if len(slices) < 2:
        raise InputError(f"{what} has one slice.", "Give a volume of several slices.")
    unplaced = [s.file.name for s in slices if not s.placed]
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
    # In the first slice's frame: in-plane shift in mm, and depth in mm along the slice normal.
    offsets = reference.ijk_from_lps(np.array([s.geometry.origin_lps for s in slices]))
    offsets = offsets * np.asarray(reference.spacing_mm)
    order = np.argsort(offsets[:, 2], kind="stable")
    _check_depths(what, offsets[order, 2], [slices[n].file.name for n in order])
    step = float(np.ptp(offsets[:, 2])) / (len(slices) - 1)
    shift = float(np.abs(offsets[:, :2] - offsets[order[0], :2]).max())
    if shift > max(_PLACE_TOLERANCE * step, _PLACE_TOLERANCE):
        raise InputError(
            f"{what} has slices shifted by up to {shift:.2f} mm in plane over its"
            f" {np.ptp(offsets[:, 2]):.1f} mm: gantry tilt or shear.",
            "Resample the series to a rectangular grid, for instance by loading it in 3D Slicer,"
            " which corrects the acquisition geometry, and save it as .nii.gz or .nrrd.",
        )
    geometry = Geometry(
        size=(*reference.size[:2], len(slices)),
        spacing_mm=(*reference.spacing_mm[:2], step),
        origin_lps=slices[order[0]].geometry.origin_lps,
        direction_lps=reference.direction_lps,
    )
    return geometry, tuple(slices[n].file for n in order)


def _check_depths(what: str, depths: np.ndarray, names: Sequence[str]) -> None:
    """Raises InputError unless the sorted slice positions (mm) are evenly spaced."""
    steps = np.diff(depths)
    typical = float(np.median(steps))
    closest = int(np.argmin(steps))
    if steps[closest] < max(_PLACE_TOLERANCE * typical, 1e-3):
        raise InputError(
            f"{what} has two slices at the same position: {names[closest]} and"
            f" {names[closest + 1]}.",
            "It may mix several phases; export one phase alone.",
        )
    even = np.linspace(depths[0], depths[-1], len(depths))
    if np.abs(depths - even).max() > _PLACE_TOLERANCE * typical:
        worst = int(np.argmax(np.abs(steps - typical)))
        raise InputError(
            f"{what} has slices that are not evenly spaced: {steps[worst]:.2f} mm between"
            f" {names[worst]} and {names[worst + 1]} ({depths[worst] - depths[0]:.2f} and"
            f" {depths[worst + 1] - depths[0]:.2f} mm from the first), {typical:.2f} mm elsewhere.",
            "Slices may be missing: copy or export the whole series again.",
        )


def read_series(folder: Path, series: DicomSeries) -> tuple[np.ndarray, Geometry]:
    """Voxels (k, j, i) with the modality rescale applied (HU for CT), and the grid.

    Raises
    ------
    InputError : as :func:`series_geometry`; colour images; a slice that cannot be decoded; a
        volume that is too large.
    """
    import SimpleITK as sitk

    geometry, files = series_geometry(folder, series)
    check_size(folder, geometry.size)
    check_spacing(folder, geometry)
    pixel_ids = {s.pixel_id for s in series.slices}
    integer = {sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32}
    if not pixel_ids <= integer | {sitk.sitkUInt32, sitk.sitkFloat32, sitk.sitkFloat64}:
        names = ", ".join(sorted(sitk.GetPixelIDValueAsString(i) for i in pixel_ids))
        raise InputError(
            f"The series {series} has pixels of type {names}, not grey values.",
            "Give the original CT images.",
        )
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(f) for f in files])
    # Left alone, the first slice's type decides for all, and rescale slopes may differ by slice.
    if pixel_ids == {sitk.sitkInt16}:
        reader.SetOutputPixelType(sitk.sitkInt16)
    else:
        reader.SetOutputPixelType(sitk.sitkInt32 if pixel_ids <= integer else sitk.sitkFloat32)
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        raise damaged_slice(_first_unreadable(files), itk_reason(error)) from error
    return sitk.GetArrayFromImage(image), geometry


def _first_unreadable(files: Sequence[Path]) -> Path:
    """The file at which a series breaks; the last one when each can be read alone."""
    import SimpleITK as sitk

    for path in files:
        try:
            sitk.ReadImage(str(path), imageIO="GDCMImageIO")
        except RuntimeError:
            return path
    return files[-1]
