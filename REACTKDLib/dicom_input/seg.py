"""A DICOM segmentation (SEG) as one mask per segment (DICOM PS3.3, A.51, A.101 and C.8.20).

BINARY and FRACTIONAL segmentations of parallel frames, and LABELMAP ones. Frames without a voxel
may be left out of a SEG, so its slices are put together from the frames' positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..geometry import Geometry, bounding_box
from ..read_image import check_size, check_spacing
from .dataset import functional_group, numbers, open_dataset, reading, stored_frames
from .frames import frame_items, frame_plane

if TYPE_CHECKING:
    import pydicom

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_WHAT = "a DICOM segmentation"
#: Plain words for SNOMED CT codes (and their older SRT forms), whatever language the meaning is in.
_WORDS_OF_CODES = {
    **dict.fromkeys(("10200004", "T-62000"), "liver"),
    **dict.fromkeys(("108369006", "M-8FFFF", "372087000", "86049000", "M-80003"), "tumor"),
    **dict.fromkeys(("14799000", "M-80006", "128462008", "DF-00436"), "metastasis"),
    **dict.fromkeys(("4147007", "M-03000"), "mass"),
    **dict.fromkeys(("52988006", "M-01100"), "lesion"),
}
_TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")

#: A frame may lie this part of a slice step away from its slice, or be shifted in plane by it.
_PLACE_TOLERANCE = 0.1
_SAME = 1e-3


@dataclass(frozen=True, eq=False)
class DicomStructure:
    """A segment of a SEG, or a region of an RTSTRUCT.

    ``number`` : as in the file. ``name`` : its label, "" if it has none. ``meaning`` : what its
    coded terminology calls it, "" if nothing. ``mask`` : uint8 (k, j, i), 1 inside, on
    ``geometry``, a part of ``frame``, the grid of the file.
    """

    number: int
    name: str
    meaning: str
    mask: np.ndarray
    geometry: Geometry
    frame: Geometry


def read_seg(path: Path) -> list[DicomStructure]:
    """The segments of a SEG file.

    The grid is that of the frames: slices from the first to the last frame, k along the normal of
    (row, column). A FRACTIONAL voxel belongs to a segment from half the maximum on.

    Raises
    ------
    InputError : no SEG, one that is damaged or of another type, no frames, segment numbers beyond
        255, frames that are not parallel, not of one lattice, or not evenly spaced.
    EnvironmentProblem : without pydicom.
    """
    dataset = open_dataset(path, _WHAT)
    with reading(path, _WHAT):
        segments = _segments(path, dataset)
        items = frame_items(dataset)
        kind = str(dataset.SegmentationType)
        if kind not in _TYPES:
            raise InputError(f"{path} is a segmentation of type {kind}.", "Convert it to BINARY.")
        planes = [frame_plane(dataset, item) for item in items]
        geometry, slices = _lattice(path, dataset, planes)
        stored = stored_frames(dataset, path)
        if kind == "LABELMAP":
            owners = [-1] * len(items)
        else:
            owners = [_owner(dataset, item) for item in items]
            unknown = set(owners) - set(segments)
            if unknown:
                raise InputError(
                    f"{path} has frames of an unknown segment {min(unknown)}.", "Export it again."
                )
        least = _least_value(dataset, kind)
        return [
            _structure(number, *names, geometry, [
                (slices[n], stored[n] == number if kind == "LABELMAP" else stored[n] >= least)
                for n, owner in enumerate(owners)
                if owner in (number, -1)
            ])
            for number, names in segments.items()
        ]  # fmt: skip


def _least_value(dataset: pydicom.Dataset, kind: str) -> int:
    if kind != "FRACTIONAL":
        return 1
    return max(1, (int(dataset.MaximumFractionalValue) + 1) // 2)


def _segments(path: Path, dataset: pydicom.Dataset) -> dict[int, tuple[str, str]]:
    """Label and coded meaning by segment number."""
    segments = {}
    for item in dataset.SegmentSequence:
        meaning = coded_meaning(item.get("SegmentedPropertyTypeCodeSequence"))
        segments[int(item.SegmentNumber)] = (str(item.get("SegmentLabel") or "").strip(), meaning)
    if not segments or len(segments) < len(dataset.SegmentSequence):
        raise ValueError("its segments have no numbers of their own")
    if dataset.SegmentationType == "LABELMAP":
        segments.pop(0, None)  # the background may be described
    if not all(0 < number < 256 for number in segments):
        raise InputError(
            f"{path} has the segment numbers {sorted(segments)}, not 1 to 255.",
            "Convert it with fewer segments.",
        )
    return segments


def coded_meaning(codes: Sequence[pydicom.Dataset] | None) -> str:
    """What the first of some codes means, in a plain word where the code is known here."""
    if not codes:
        return ""
    word = _WORDS_OF_CODES.get(str(codes[0].get("CodeValue") or ""))
    return word or str(codes[0].get("CodeMeaning") or "").strip()


def _owner(dataset: pydicom.Dataset, item: pydicom.Dataset) -> int:
    identity = functional_group(dataset, item, "SegmentIdentificationSequence")
    if identity is None:
        raise ValueError("a frame has no SegmentIdentificationSequence")
    return int(identity.ReferencedSegmentNumber)


def _structure(
    number: int,
    name: str,
    meaning: str,
    geometry: Geometry,
    planes: list[tuple[int, np.ndarray]],
) -> DicomStructure:
    """One segment, cut to the box around it: a hundred of them fit into memory."""
    filled = [(k, plane) for k, plane in planes if plane.any()]
    first = min((k for k, _ in filled), default=0)
    last = max((k for k, _ in filled), default=0)
    mask = np.zeros((last - first + 1, *geometry.array_shape[1:]), np.uint8)
    for k, plane in filled:
        mask[k - first] |= plane
    box = bounding_box(mask) or (slice(0, 1),) * 3
    whole = geometry.crop((0, 0, first), (*geometry.size[:2], len(mask)))
    return DicomStructure(number, name, meaning, mask[box].copy(), whole.crop_to(box), geometry)


def _lattice(
    path: Path, dataset: pydicom.Dataset, planes: list[Geometry]
) -> tuple[Geometry, list[int]]:
    """The grid of all frames, and the slice index of each."""
    cosines = np.array([p.direction_lps for p in planes])
    spacings = np.array([p.spacing_mm[:2] for p in planes])
    if np.ptp(cosines, axis=0).max() > _SAME or np.ptp(spacings, axis=0).max() > _SAME:
        raise InputError(
            f"{path} has frames of several orientations or pixel spacings.", "Export it again."
        )
    plane = planes[0]
    places = np.array([p.origin_lps for p in planes]) @ plane.direction_matrix
    depths = places[:, 2] - places[:, 2].min()
    step = _step(path, dataset, depths)
    slices = np.rint(depths / step)
    off = float(np.abs(depths - slices * step).max())
    shift = float(np.ptp(places[:, :2], axis=0).max())
    if off > _PLACE_TOLERANCE * step or shift > _PLACE_TOLERANCE * float(spacings.min()):
        raise InputError(
            f"{path} has frames that are no regular grid: {off:.2f} mm beside slices of"
            f" {step:.2f} mm, shifted by {shift:.2f} mm in plane.",
            "Load it in 3D Slicer and save it as .seg.nrrd.",
        )
    size = (*plane.size[:2], int(slices.max()) + 1)
    check_size(path, size)
    geometry = Geometry(
        size=size,
        spacing_mm=(*plane.spacing_mm[:2], step),
        origin_lps=planes[int(depths.argmin())].origin_lps,
        direction_lps=plane.direction_lps,
    )
    check_spacing(path, geometry)
    return geometry, [int(n) for n in slices]


def _step(path: Path, dataset: pydicom.Dataset, depths: np.ndarray) -> float:
    """Distance of slices, mm: the smallest between frames, or the declared one if it divides that.

    The latter matters where no two neighbouring slices have a frame.
    """
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    measures = functional_group(dataset, frame, "PixelMeasuresSequence")

    def declared_mm(name: str) -> float:
        value = None if measures is None else measures.get(name)
        return 0.0 if value is None else float(numbers(value, 1, name)[0])

    distinct = np.unique(np.round(depths, 3))
    if len(distinct) == 1:
        thickness = declared_mm("SpacingBetweenSlices") or declared_mm("SliceThickness")
        if thickness <= 0:
            raise InputError(f"{path} is one slice of unknown thickness.", "Export it again.")
        return thickness
    smallest = float(np.diff(distinct).min())
    declared = declared_mm("SpacingBetweenSlices") or smallest
    ratio = smallest / declared if declared > 0 else 0.0
    divides = round(ratio) >= 1 and abs(ratio - round(ratio)) < _PLACE_TOLERANCE
    # The whole span tells the step better than one gap, whose ends are rounded.
    span = float(distinct[-1])
    return span / max(1, round(span / (declared if divides else smallest)))
