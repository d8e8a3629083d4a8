"""One image file: checked voxels on a checked grid.

SimpleITK reads the header (it owns the conventions of each format and gives LPS), ``read_header``
the voxels. Nothing here knows what the image shows.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from .errors import InputError
from .geometry import Geometry
from .read_header import (
    VoxelLayout,
    damaged,
    meta_layout,
    nifti_layout,
    nrrd_layout,
    read_voxels,
)

if TYPE_CHECKING:
    import SimpleITK

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")

MAX_VOXELS = 2_000_000_000

#: Voxel spacings outside this range (mm) are header errors in clinical CT and PET.
SPACING_RANGE_MM = (0.05, 25.0)

_FORMATS: dict[str, tuple[str, Callable[[Path], VoxelLayout]]] = {
    ".nii.gz": ("NiftiImageIO", nifti_layout),
    ".nii": ("NiftiImageIO", nifti_layout),
    ".nrrd": ("NrrdImageIO", nrrd_layout),
    ".nhdr": ("NrrdImageIO", nrrd_layout),
    ".mha": ("MetaImageIO", meta_layout),
    ".mhd": ("MetaImageIO", meta_layout),
}

#: How the names of image files end, small letters.
SUFFIXES = tuple(_FORMATS)


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image as stored.

    ``array`` : (k, j, i), or (k, j, i, component) with more than one component; type as stored,
        float32 where the header scales it. ``metadata`` : NRRD key/value pairs.
    """

    array: np.ndarray
    geometry: Geometry
    metadata: Mapping[str, str]


#: One header at a time: two threads in ITK's search for a reader were seen to abort the process.
#: Headers take milliseconds; voxels are read beside each other.
ITK_HEADERS = threading.Lock()


class _QuietItk:
    """ITK's switch is global: the first thread to enter turns it off, the last one restores it."""

    lock = threading.Lock()
    inside = 0
    shown = True


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Keeps ITK's warnings off the terminal; what matters in them is checked and raised here."""
    import SimpleITK as sitk

    with _QuietItk.lock:
        if _QuietItk.inside == 0:
            _QuietItk.shown = sitk.ProcessObject.GetGlobalWarningDisplay()
            sitk.ProcessObject.SetGlobalWarningDisplay(False)
        _QuietItk.inside += 1
    try:
        yield
    finally:
        with _QuietItk.lock:
            _QuietItk.inside -= 1
            if _QuietItk.inside == 0:
                sitk.ProcessObject.SetGlobalWarningDisplay(_QuietItk.shown)


def within_memory(read: Callable[_Arguments, _Value]) -> Callable[_Arguments, _Value]:
    """``read``, whose first argument is what it reads; too little memory becomes an InputError."""

    @functools.wraps(read)
    def reading(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Value:
        try:
            return read(*arguments, **options)
        except MemoryError as error:
            raise InputError(
                f"There is not enough memory to read {arguments[0]}.",
                "Close other programs, or crop or resample the image.",
            ) from error

    return reading


def itk_reason(error: Exception) -> str:
    """The telling line of a SimpleITK exception, without source paths and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^.*?ERROR: (\w+\(0x[0-9a-f]+\): )?", "", lines[-1]).rstrip(".")


def image_suffix(path: Path) -> str:
    """The image suffix of a file name, lower case.

    Raises
    ------
    InputError : a suffix that no reader is for.
    """
    name = path.name.lower()
    for suffix in _FORMATS:
        if name.endswith(suffix):
            return suffix
    raise InputError(
        f"{path} has no known image suffix ({', '.join(_FORMATS)}).",
        "Convert it to one of these; for DICOM give the folder of the series.",
    )


def is_image_name(path: Path) -> bool:
    """Whether a file name has the suffix of an image format."""
    return path.name.lower().endswith(tuple(_FORMATS))


def require_exists(path: Path, what: str) -> None:
    """Raises InputError when there is nothing at ``path``."""
    if not path.exists():
        raise InputError(f"{what} {path} does not exist.", "Check the path.")


def _layout(path: Path, what: str) -> VoxelLayout:
    require_exists(path, what)
    suffix = image_suffix(path)
    if not path.is_file():
        raise InputError(f"{what} {path} is not a file.", "Give the image file itself.")
    try:
        return _FORMATS[suffix][1](path)
    except (OSError, ValueError) as error:
        raise damaged(path, f"its header cannot be read ({error})") from error


def files_of(path: Path, what: str) -> tuple[Path, ...]:
    """The files that an image consists of: itself, and a detached voxel file.

    Raises
    ------
    InputError : as :func:`read_image`.
    """
    layout = _layout(path, what)
    return (path,) if layout.file == path else (path, layout.file)


def check_size(path: Path, size: tuple[int, ...], max_voxels: int = MAX_VOXELS) -> None:
    """Raises InputError when a grid of ``size`` is too large to hold in memory."""
    count = int(np.prod([int(n) for n in size], dtype=object))
    if count > max_voxels:
        raise InputError(
            f"{path} claims {' x '.join(map(str, size))} = {count} voxels; at most"
            f" {max_voxels} are read.",
            "Check the header, or crop or resample the image.",
        )


def check_spacing(path: Path, geometry: Geometry) -> None:
    """Raises InputError for a spacing outside ``SPACING_RANGE_MM``."""
    low, high = SPACING_RANGE_MM
    if not all(low <= s <= high for s in geometry.spacing_mm):
        spacing = " x ".join(f"{s:g}" for s in geometry.spacing_mm)
        raise InputError(
            f"{path}: the voxel spacing {spacing} mm is not between {low} and {high} mm.",
            "Repair the image header (is it in mm?), or export the image again.",
        )


def _read_header(path: Path, what: str) -> SimpleITK.ImageFileReader:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(_FORMATS[image_suffix(path)][0])
    reader.SetFileName(str(path))
    try:
        with quiet_itk(), ITK_HEADERS:
            reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise InputError(
                f"{path}: the image axes are not orthonormal.",
                "Resample the image to a rectangular grid (gantry tilt and shear are not"
                " supported), for instance with Slicer's Resample modules.",
            ) from error
        raise damaged(path, f"its header cannot be read ({itk_reason(error)})") from error
    if reader.GetDimension() != 3:
        raise InputError(
            f"{what} {path} is {reader.GetDimension()}-D, of size {reader.GetSize()}, not 3-D.",
            "Give one 3-D volume: extract one time point or channel, or stack the slices.",
        )
    return reader


def read_geometry(path: Path, what: str, *, max_voxels: int = MAX_VOXELS) -> Geometry:
    """The grid in an image file's header, no voxel read; ``what`` names it in errors.

    Raises
    ------
    InputError : as :func:`read_image`, but for damage of the voxels.
    """
    _layout(path, what)
    return _checked_geometry(path, _read_header(path, what), max_voxels)


def _checked_geometry(path: Path, header: SimpleITK.ImageFileReader, max_voxels: int) -> Geometry:
    size = header.GetSize()
    check_size(path, size, max_voxels)
    geometry = Geometry(
        size=size,
        spacing_mm=header.GetSpacing(),
        origin_lps=header.GetOrigin(),
        direction_lps=header.GetDirection(),
    )
    check_spacing(path, geometry)
    return geometry


def read_image(path: Path, what: str, *, max_voxels: int = MAX_VOXELS) -> ImageFile:
    """Reads one image file; ``what`` names it in errors ("CT", "Segmentation").

    Raises
    ------
    InputError : missing file, unknown suffix, damaged or incomplete content, an unsupported
        variant, not 3-D, more than ``max_voxels`` (checked before voxels are read), a spacing
        outside ``SPACING_RANGE_MM``, axes that are not orthonormal.
    """
    path = Path(path)
    layout = _layout(path, what)
    header = _read_header(path, what)
    geometry = _checked_geometry(path, header, max_voxels)

    components = header.GetNumberOfComponents()
    try:
        values = read_voxels(layout, int(np.prod(geometry.size)) * components)
    except OSError as error:
        raise damaged(layout.file, f"it cannot be read ({error})") from error
    if (layout.slope, layout.intercept) != (1.0, 0.0):
        values = values.astype(np.float32)
        values *= np.float32(layout.slope)
        values += np.float32(layout.intercept)
    shape = geometry.array_shape if components == 1 else (*geometry.array_shape, components)
    return ImageFile(values.reshape(shape), geometry, layout.metadata)
