"""DICOM objects by pydicom: opened, and their frames decoded, within bounds.

For what GDCM does not give: enhanced CT, SEG, RTSTRUCT and PET headers. Nothing in a file is
believed before it is compared with the file's size, and pydicom's own messages, which may quote a
patient's name, are kept off terminal and log.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EnvironmentProblem, InputError, ReactKDError
from ..read_image import check_size, itk_reason, quiet_itk
from .codestream import pixel_problem
from .guard import DEFLATED, JPEG_FAMILY, RLE, inflated, meta_length, transfer_syntax

if TYPE_CHECKING:
    import pydicom

#: Transfer syntaxes (PS3.5 chapter 10, annex A) whose pixel data pydicom decodes with numpy alone.
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_MULTIFRAME_WORD = "1.2.840.10008.5.1.4.1.1.7.3"
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def transfer_syntax_problem(uid: str) -> str | None:
    """Why pixel data in a transfer syntax cannot be read; None where it can."""
    if uid in (*_NATIVE, DEFLATED, RLE, *JPEG_FAMILY):
        return None
    if uid in ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"):
        return "it is compressed as High-Throughput JPEG 2000, for which there is no decoder here"
    return f"its transfer syntax {uid or '(none)'} is not read (a video, a stream, or a rare one)"


class _QuietPydicom:
    """The switch is global: the first thread to enter turns it off, the last one restores it."""

    lock = threading.Lock()
    inside = 0
    level = logging.NOTSET


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keeps pydicom's warnings, which quote values, off terminal and log."""
    logger = logging.getLogger("pydicom")
    with _QuietPydicom.lock:
        if _QuietPydicom.inside == 0:
            _QuietPydicom.level = logger.level
            logger.setLevel(logging.CRITICAL + 1)
            warnings.filterwarnings("ignore", module=r"pydicom\b")
        _QuietPydicom.inside += 1
    try:
        yield
    finally:
        with _QuietPydicom.lock:
            _QuietPydicom.inside -= 1
            if _QuietPydicom.inside == 0:
                logger.setLevel(_QuietPydicom.level)


def import_pydicom() -> Any:
    """pydicom, imported late.

    Raises
    ------
    EnvironmentProblem : it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise EnvironmentProblem(
            "Enhanced CT, PET, SEG and RTSTRUCT in DICOM need pydicom, which is not installed.",
            "Install it: pip install 'reactkd[dicom]'.",
        ) from error
    return pydicom


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns whatever pydicom raises about a damaged file into InputError; ``what`` names it."""
    with quiet_pydicom():
        try:
            yield
        except ReactKDError:
            raise
        # pydicom converts values when they are looked at, and a damaged file may then raise nearly
        # anything: its own errors, struct.error, RecursionError, LookupError.
        except Exception as error:
            raise InputError(
                f"{path} cannot be read as {what}: {type(error).__name__}"
                f" {_first_line(error)}.".replace(" .", "."),
                "Copy or export the file again.",
            ) from error


def _first_line(error: Exception) -> str:
    """The beginning of an error's text, without line ends."""
    text = str(error).strip()
    return text.splitlines()[0][:120].rstrip(".") if text else ""


def open_dataset(path: Path, what: str, *, pixels: bool = True) -> pydicom.Dataset:
    """The dataset of a DICOM part 10 file; ``what`` names it in errors ("DICOM segmentation").

    Raises
    ------
    InputError : not there, no DICOM, damaged, deflated and larger than 512 MiB.
    EnvironmentProblem : without pydicom.
    """
    pydicom = import_pydicom()
    with reading(path, what):
        deflated = transfer_syntax(path) == DEFLATED
        return pydicom.dcmread(_inflated(path) if deflated else path, stop_before_pixels=not pixels)


def _inflated(path: Path) -> io.BytesIO:
    """The file with its dataset inflated, as explicit VR little endian, within a bound."""
    with open(path, "rb") as file:
        head = file.read(meta_length(path))
    content = io.BytesIO()
    content.write(head.replace(DEFLATED.encode(), b"1.2.840.10008.1.2.1\0\0\0", 1))
    for piece in inflated(path):
        content.write(piece)
    content.seek(0)
    return content


def functional_group(
    dataset: pydicom.Dataset, frame: pydicom.Dataset, name: str
) -> pydicom.Dataset | None:
    """A functional group's item (PS3.3 C.7.6.16): the frame's own, else the shared one, or None."""
    shared = dataset.get("SharedFunctionalGroupsSequence")
    for holder in (frame, shared[0] if shared else frame):
        group = holder.get(name)
        if group:
            return group[0]
    return None


def numbers(values: Any, count: int, what: str) -> np.ndarray:
    """``count`` finite numbers of an element, float64.

    Raises
    ------
    ValueError : fewer, more, or not finite.
    """
    several = isinstance(values, Sequence) and not isinstance(values, str)
    array = np.array([float(v) for v in (values if several else [values])])
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError(f"{what} {values} is not {count} numbers")
    return array


def stored_frames(dataset: pydicom.Dataset, path: Path) -> np.ndarray:
    """The stored values of all frames, (frame, row, column), integers without any rescale.

    Native, deflated and RLE pixel data by pydicom; JPEG, JPEG-LS and JPEG 2000 by GDCM.

    Raises
    ------
    InputError : a transfer syntax that is not read, colour, more voxels than are read or than the
        file can hold.
    """
    shape = (int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns))
    if min(shape) < 1 or int(dataset.SamplesPerPixel) != 1:
        raise ValueError(f"{shape} frames, rows, columns of {dataset.SamplesPerPixel} samples")
    check_size(path, shape[::-1])
    uid = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    problem = transfer_syntax_problem(uid)
    if problem is not None:
        raise InputError(f"{path}: {problem}.", "Export it uncompressed, or as JPEG 2000.")
    bits = int(dataset.BitsAllocated)
    if bits not in (1, 8, 16, 32):
        raise ValueError(f"{bits} bits are allocated for a pixel")
    if "PixelData" not in dataset:
        raise ValueError("it has no pixel data")
    length = len(dataset.PixelData)
    if uid in JPEG_FAMILY:
        return _decoded_by_gdcm(dataset, path, shape)
    # RLE repeats a byte at most 128 times by two bytes.
    if math.prod(shape) * bits > 8 * length * (64 if uid == RLE else 1):
        raise ValueError(f"{length} bytes of pixel data cannot be {shape} frames, rows, columns")
    return dataset.pixel_array.reshape(shape)


def _decoded_by_gdcm(dataset: pydicom.Dataset, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Frames of compressed pixel data: a copy of the pixels alone, without rescale, for GDCM."""
    import pydicom
    import SimpleITK as sitk

    plain = pydicom.Dataset()
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    plain.SOPClassUID = _CT_IMAGE if shape[0] == 1 else _MULTIFRAME_WORD
    plain.SOPInstanceUID = "1.2.3"
    plain.Modality = "OT"
    for name in ("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
                 "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):  # fmt: skip
        setattr(plain, name, dataset[name].value)
    plain.NumberOfFrames = shape[0]
    plain.PixelData = dataset.PixelData
    plain["PixelData"].VR = "OB"
    plain["PixelData"].is_undefined_length = True
    with tempfile.TemporaryDirectory(prefix="reactkd-") as folder:
        copy = Path(folder) / "frames.dcm"
        plain.save_as(copy, enforce_file_format=True)
        problem = pixel_problem(copy, transfer_syntax(copy), *shape[::-1])
        if problem is not None:
            raise ValueError(problem)
        try:
            with quiet_itk():
                image = sitk.ReadImage(str(copy), imageIO="GDCMImageIO")
        except RuntimeError as error:
            raise ValueError(itk_reason(error)) from error
    return sitk.GetArrayFromImage(image).reshape(shape)
