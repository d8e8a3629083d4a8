"""A DICOM folder as a volume, by SimpleITK and GDCM.

Slices are ordered by their positions, never by name or number, and every slice must lie where a
regular grid puts it: a missing slice or a tilted gantry is an error, because a resampled image
would look right and be wrong.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError
from .geometry import Geometry
from .read_image import check_size, check_spacing, itk_reason, quiet_itk, require_exists

if TYPE_CHECKING:
    import SimpleITK

MAX_FILES = 50_000

#: A slice may lie this part of a slice step away from its place (positions are often rounded).
_PLACE_TOLERANCE = 0.1
#: Two orientations are the same when their cosines agree to this.
_COSINE_TOLERANCE = 1e-3

_CT_IMAGE_STORAGE = b"1.2.840.10008.5.1.4.1.1.2"
_TAGS = {
    "uid": "0020|000e",
    "number": "0020|0011",
    "description": "0008|103e",
    "modality": "0008|0060",
    "image_type": "0008|0008",
    "position": "0020|0032",
    "orientation": "0020|0037",
}

_log = logging.getLogger("REACTKD")


@dataclass(frozen=True)
class DicomSlice:
    """One image file: its one-slice grid (third spacing 1 mm), frames and pixel type."""

    file: Path
    geometry: Geometry
    frames: int
    pixel_id: int
    placed: bool


@dataclass(frozen=True)
class DicomSeries:
    """The images that share a Series Instance UID. An anonymised file may have an empty one."""

    uid: str
    number: str
    description: str
    modality: str
    image_type: str
    slices: tuple[DicomSlice, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(s.file for s in self.slices)

    @property
    def is_ct_volume(self) -> bool:
        """A CT series of more than one slice that is no localiser."""
        return (
            self.modality == "CT"
            and sum(s.frames for s in self.slices) > 1
            and "LOCALIZER" not in self.image_type.upper()
        )

    def __str__(self) -> str:
        return (
            f'number {self.number or "-"}, "{self.description}", {self.modality or "no modality"},'
            f" {sum(s.frames for s in self.slices)} slices, UID {self.uid or '(empty)'}"
        )


def _dicom_files(folder: Path) -> list[Path]:
    """All DICOM part 10 files (by their preamble) in the tree below ``folder``."""
    files = []
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        if number >= MAX_FILES:
            raise InputError(
                f"{folder} has more than {MAX_FILES} files.", "Give the folder of one study."
            )
        if path.name.upper() == "DICOMDIR":
            continue
        try:
            with open(path, "rb") as file:
                if file.read(132)[128:] == b"DICM":
                    files.append(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error}).", "Check its rights.") from error
    return files


def _claims_ct(path: Path) -> bool:
    """True when the file meta header says CT Image Storage (it comes first, uncompressed)."""
    with open(path, "rb") as file:
        head = file.read(1024)
    match = re.search(rb"\x02\x00\x02\x00UI..([\d.]+)", head, re.DOTALL)
    return match is not None and match.group(1) == _CT_IMAGE_STORAGE


def _read_slice(path: Path) -> tuple[dict[str, str], DicomSlice] | None:
    """Tags and grid of one image file; None for a DICOM object that is no image.

    Raises
    ------
    InputError : a CT slice that cannot be read.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if _claims_ct(path):
            raise _damaged_slice(path, error) from error
        return None
    tags = {
        name: reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""
        for name, key in _TAGS.items()
    }
    size, spacing = reader.GetSize(), reader.GetSpacing()
    geometry = Geometry(
        size=(size[0], size[1], 1),
        spacing_mm=(spacing[0], spacing[1], 1.0),
        origin_lps=reader.GetOrigin(),
        direction_lps=reader.GetDirection(),
    )
    placed = bool(tags["position"] and tags["orientation"])
    return tags, DicomSlice(path, geometry, size[2], reader.GetPixelID(), placed)


def _damaged_slice(path: Path, error: Exception) -> InputError:
    return InputError(
        f"The DICOM file {path} is damaged or incomplete: {itk_reason(error)}.",
        "Copy or export the series again.",
    )


def list_series(folder: Path) -> tuple[DicomSeries, ...]:
    """The image series in the whole tree below ``folder``, by series number.

    Raises
    ------
    InputError : no such folder, too many files, a CT file that cannot be read.
    """
    folder = Path(folder)
    require_exists(folder, "DICOM folder")
    grouped: dict[str, list[tuple[dict[str, str], DicomSlice]]] = {}
    with quiet_itk():
        for path in _dicom_files(folder):
            image = _read_slice(path)
            if image is not None:
                grouped.setdefault(image[0]["uid"], []).append(image)
    series = [
        DicomSeries(
            uid=uid,
            number=images[0][0]["number"],
            description=images[0][0]["description"],
            modality=images[0][0]["modality"],
            image_type=images[0][0]["image_type"],
            slices=tuple(image for _, image in images),
        )
        for uid, images in grouped.items()
    ]
    return tuple(sorted(series, key=lambda s: (s.number.zfill(12), s.uid)))


def choose_series(folder: Path, series_uid: str | None = None) -> DicomSeries:
    """The CT series of a folder: the one with ``series_uid``, or the only CT volume in it.

    The choice is logged (series number and description, nothing about the patient).

    Raises
    ------
    InputError : no DICOM images, no such UID, no CT volume, several CT volumes and no UID.
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
    else:
        chosen = [s for s in series if s.is_ct_volume]
        if not chosen:
            raise InputError(
                f"{folder} has no CT series of several slices.", f"It has: {listing}."
            )
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
    what = f"The series {series.number or '-'} \"{series.description}\" in {folder}"
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
    scalar_ids = {sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32}
    float_ids = {sitk.sitkFloat32, sitk.sitkFloat64, sitk.sitkUInt32}
    if not pixel_ids <= scalar_ids | float_ids:
        raise InputError(
            f"The series {series} has {_pixel_names(sitk, pixel_ids)} pixels, not grey values.",
            "Give the original CT images.",
        )
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(f) for f in files])
    # The type of the first slice would decide for all: a rescale slope may differ by slice.
    reader.SetOutputPixelType(
        sitk.sitkInt16 if pixel_ids == {sitk.sitkInt16} else sitk.sitkFloat32
    )
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"The series {series} in {folder} cannot be read: {itk_reason(error)}.",
            "Copy or export the series again.",
        ) from error
    return sitk.GetArrayFromImage(image), geometry


def _pixel_names(sitk: SimpleITK, pixel_ids: set[int]) -> str:
    return ", ".join(sorted(sitk.GetPixelIDValueAsString(i) for i in pixel_ids))
