"""A segmentation in DICOM: a SEG or an RTSTRUCT, and which images it was drawn on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..geometry import Geometry
from ..read_image import is_image_name, require_exists
from .contours import RTSTRUCT_CLASS, read_contours
from .dataset import open_dataset, reading
from .files import DicomSeries, dicom_files
from .guard import media_storage_class
from .seg import SEG_CLASSES, DicomStructure, read_seg

_CLASSES = (*SEG_CLASSES, RTSTRUCT_CLASS)


@dataclass(frozen=True)
class DrawnOn:
    """What a segmentation says it was drawn on: series UIDs and frames of reference."""

    series: frozenset[str]
    frames_of_reference: frozenset[str]


def is_dicom_segmentation(path: Path) -> bool:
    """Whether ``path`` is a folder, or a DICOM file by its preamble, and no image file by name."""
    if path.is_dir():
        return True
    if is_image_name(path) or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def segmentation_file(path: Path) -> Path:
    """The SEG or RTSTRUCT at ``path``: itself, or the only one in a folder.

    Raises
    ------
    InputError : none, or several; another kind of DICOM object.
    """
    require_exists(path, "Segmentation")
    if path.is_dir():
        found = [p for p in dicom_files(path) if media_storage_class(p) in _CLASSES]
        if len(found) != 1:
            names = ", ".join(p.name for p in found[:5])
            raise InputError(
                f"{path} has {len(found)} DICOM segmentations (SEG or RTSTRUCT) {names}".rstrip()
                + ".",
                "Give the file itself.",
            )
        return found[0]
    if media_storage_class(path) not in _CLASSES:
        raise InputError(
            f"{path} is a DICOM file, but no SEG and no RTSTRUCT.",
            "Give a segmentation: SEG, RTSTRUCT, labelmap or .seg.nrrd.",
        )
    return path


def read_dicom_structures(
    path: Path, ct_grid: Callable[[], Geometry] | None
) -> list[DicomStructure]:
    """Segments of a SEG, or regions of an RTSTRUCT on the grid that ``ct_grid`` gives.

    Raises
    ------
    InputError : as :func:`segmentation_file`, :func:`REACTKDLib.dicom_input.seg.read_seg` and
        :func:`REACTKDLib.dicom_input.contours.read_contours`; an RTSTRUCT without ``ct_grid``.
    EnvironmentProblem : without pydicom.
    """
    file = segmentation_file(path)
    if media_storage_class(file) != RTSTRUCT_CLASS:
        return read_seg(file)
    if ct_grid is None:
        raise InputError(f"{path} is an RTSTRUCT and needs its CT.", "Give the CT too.")
    return read_contours(file, ct_grid())


def drawn_on(path: Path) -> DrawnOn:
    """What a SEG or RTSTRUCT refers to; empty sets where it does not say.

    Raises
    ------
    InputError : as :func:`segmentation_file`; damaged.
    EnvironmentProblem : without pydicom.
    """
    file = segmentation_file(path)
    dataset = open_dataset(file, "a DICOM segmentation", pixels=False)
    series, frames = set(), set()
    with reading(file, "a DICOM segmentation"):
        if dataset.get("FrameOfReferenceUID"):
            frames.add(str(dataset.FrameOfReferenceUID))
        found = list(dataset.get("ReferencedSeriesSequence") or ())
        for reference in dataset.get("ReferencedFrameOfReferenceSequence") or ():
            if reference.get("FrameOfReferenceUID"):
                frames.add(str(reference.FrameOfReferenceUID))
            for study in reference.get("RTReferencedStudySequence") or ():
                found += study.get("RTReferencedSeriesSequence") or ()
        series = {str(item.SeriesInstanceUID) for item in found if item.get("SeriesInstanceUID")}
    return DrawnOn(frozenset(series), frozenset(frames))


def check_drawn_on(path: Path, source: DrawnOn, ct: DicomSeries) -> str | None:
    """A sentence if the segmentation was drawn on other images of the same frame of reference.

    Raises
    ------
    InputError : another frame of reference: positions would mean something else.
    """
    frame = ct.tags["FrameOfReferenceUID"]
    if frame and source.frames_of_reference and frame not in source.frames_of_reference:
        raise InputError(
            f"{path} was drawn in another frame of reference than the CT series {ct}.",
            "Give the CT that it was drawn on (--series), or register the two and save the"
            " segmentation as .seg.nrrd.",
        )
    if source.series and ct.uid not in source.series:
        return "The segmentation was drawn on another series than the CT, in the same coordinates."
    return None
