"""Enhanced CT (PS3.3 A.38): the frames of a multi-frame file as slices of a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from .dataset import functional_group, numbers, open_dataset, reading, stored_frames

if TYPE_CHECKING:
    import pydicom

_WHAT = "an enhanced CT"
#: Enhanced CT Image Storage, and Legacy Converted Enhanced CT Image Storage.
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")


@dataclass(frozen=True)
class Frame:
    """One frame of a multi-frame file: where it is, and value = stored * slope + intercept."""

    number: int
    geometry: Geometry
    slope: float
    intercept: float
    acquired: str


def plane_geometry(
    columns: int, rows: int, spacing: np.ndarray, position: np.ndarray, cosines: np.ndarray
) -> Geometry:
    """The grid of one slice (third spacing 1 mm) from DICOM's (row, column) spacing, mm."""
    axes = np.stack([cosines[:3], cosines[3:], np.cross(cosines[:3], cosines[3:])], axis=1)
    return Geometry(
        size=(columns, rows, 1),
        spacing_mm=(float(spacing[1]), float(spacing[0]), 1.0),
        origin_lps=(float(position[0]), float(position[1]), float(position[2])),
        direction_lps=tuple(float(v) for v in axes.ravel()),
    )


def frame_plane(dataset: pydicom.Dataset, frame: pydicom.Dataset) -> Geometry:
    """The grid of a frame, by its functional groups.

    Raises
    ------
    ValueError : it does not say where it lies.
    """
    values = []
    for group, name, count in (
        ("PixelMeasuresSequence", "PixelSpacing", 2),
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
    ):
        item = functional_group(dataset, frame, group)
        if item is None or name not in item:
            raise ValueError(f"a frame has no {group}")
        values.append(numbers(item[name].value, count, name))
    return plane_geometry(int(dataset.Columns), int(dataset.Rows), *values)


def frame_items(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    """The per-frame functional groups, one for each frame.

    Raises
    ------
    ValueError : none, or not as many as there are frames.
    """
    items = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    if not items or len(items) != int(dataset.get("NumberOfFrames") or 1):
        raise ValueError(f"{len(items)} frames are described, of {dataset.get('NumberOfFrames')}")
    return items


def list_frames(path: Path) -> tuple[Mapping[str, str], tuple[Frame, ...]]:
    """What an enhanced CT says of itself (DICOM keyword to text), and its frames.

    Raises
    ------
    InputError : damaged, frames without position, orientation, pixel spacing or rescale.
    EnvironmentProblem : without pydicom.
    """
    dataset = open_dataset(path, _WHAT, pixels=False)
    with reading(path, _WHAT):
        frames = []
        for number, item in enumerate(frame_items(dataset)):
            rescale = functional_group(dataset, item, "PixelValueTransformationSequence")
            if rescale is None:
                raise ValueError("a frame has no rescale to HU")
            content = functional_group(dataset, item, "FrameContentSequence")
            frames.append(
                Frame(
                    number,
                    frame_plane(dataset, item),
                    float(numbers(rescale.RescaleSlope, 1, "RescaleSlope")[0]),
                    float(numbers(rescale.RescaleIntercept, 1, "RescaleIntercept")[0]),
                    str((content or item).get("FrameAcquisitionDateTime", "") or ""),
                )
            )
        return _tags(dataset, item), tuple(frames)


def _tags(dataset: pydicom.Dataset, frame: pydicom.Dataset) -> dict[str, str]:
    """The root's elements, and what a classic CT has there and an enhanced one in groups."""

    def of_group(name: str, keyword: str) -> str:
        group = functional_group(dataset, frame, name)
        return "" if group is None else str(group.get(keyword) or "")

    tags = {}
    for element in dataset:
        if element.VR != "SQ" and element.keyword and element.keyword != "PixelData":
            value = element.value
            several = not isinstance(value, str) and hasattr(value, "__iter__")
            tags[element.keyword] = "\\".join(map(str, value)) if several else str(value or "")
    frame_type = functional_group(dataset, frame, "CTImageFrameTypeSequence")
    if frame_type is not None:
        tags["ImageType"] = "\\".join(frame_type.get("FrameType") or ())
    tags["RescaleType"] = of_group("PixelValueTransformationSequence", "RescaleType")
    tags["SliceThickness"] = of_group("PixelMeasuresSequence", "SliceThickness")
    tags["ConvolutionKernel"] = of_group("CTReconstructionSequence", "ConvolutionKernel")
    contrast = dataset.get("ContrastBolusAgentSequence")
    if contrast:
        tags["ContrastBolusAgent"] = str(contrast[0].get("CodeMeaning", "") or "contrast agent")
    return tags


def read_frames(path: Path, frames: tuple[Frame, ...]) -> list[np.ndarray]:
    """The values (HU) of some frames of a file, (row, column) each.

    Raises
    ------
    InputError : the pixel data cannot be decoded.
    """
    dataset = open_dataset(path, _WHAT)
    with reading(path, _WHAT):
        stored = stored_frames(dataset, path)
        return [_rescaled(stored[f.number], f) for f in frames]


def _rescaled(stored: np.ndarray, frame: Frame) -> np.ndarray:
    if not (frame.slope.is_integer() and frame.intercept.is_integer()):
        return stored.astype(np.float32) * np.float32(frame.slope) + np.float32(frame.intercept)
    limit = np.iinfo(np.int32).max
    values = stored.astype(np.int64) * int(frame.slope) + int(frame.intercept)
    if np.abs(values).max() > limit:
        raise InputError(f"A frame has values beyond {limit}.", "Export the series again.")
    return values.astype(np.int32)
