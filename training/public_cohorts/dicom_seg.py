"""A DICOM segmentation (SEG) as a labelmap (DICOM PS3.3, A.51 and C.8.20).

Only what public cohorts use: BINARY and FRACTIONAL segmentations of parallel frames. Frames without
a voxel may be left out of a SEG, so its slices are put together from the frames' positions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.read_image import check_size, check_spacing
from REACTKDLib.roles import RoleRule, names_other_structure, role_of_name
from REACTKDLib.types import Segment, Segmentation

if TYPE_CHECKING:
    import pydicom

#: Roles in the public liver cohorts, by the segments' labels or, where these say nothing, types.
SEG_RULES = (
    RoleRule("liver", False, ("liver", "hepar", "hepatic parenchyma")),
    RoleRule(
        "lesion",
        False,
        ("lesion", "tumor", "tumour", "mass", "neoplasm", "HCC", "hepatocellular carcinoma",
         "metastasis", "metastases"),
    ),
)  # fmt: skip

#: A frame may lie this part of a slice step away from its slice, or be shifted in plane by it.
_PLACE_TOLERANCE = 0.1
_SAME = 1e-3


def read_dicom_seg(path: Path, rules: tuple[RoleRule, ...] = SEG_RULES) -> Segmentation:
    """The segments of a SEG file as labels; a label is the segment's number.

    The grid is that of the frames; slices from the first to the last frame, k along the normal
    of (row, column). Voxels of several segments go to the later role, those of a role before
    others. A FRACTIONAL voxel belongs to a segment from half the maximum on.

    Raises
    ------
    InputError : no SEG, one that is damaged or of another type, no frames, segment numbers beyond
        255, frames that are not parallel, not of one lattice, or not evenly spaced.
    """
    import pydicom

    try:
        dataset = pydicom.dcmread(path)
        segments = _segments(dataset, rules)
        frames = _frames(dataset)
        if int(dataset.NumberOfFrames) != len(frames):
            raise ValueError(f"{len(frames)} frames are described, of {dataset.NumberOfFrames}")
        pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        kind = str(dataset.SegmentationType)
        maximum = 1 if kind == "BINARY" else int(dataset.MaximumFractionalValue)
    # pydicom raises its own errors, and Python's, for what a damaged file lacks.
    except (pydicom.errors.InvalidDicomError, OSError, AttributeError, KeyError, IndexError,
            TypeError, ValueError, RuntimeError) as error:  # fmt: skip
        raise InputError(
            f"{path} cannot be read as a DICOM segmentation: {error!r}.",
            "Copy or export the file again.",
        ) from error
    if kind not in ("BINARY", "FRACTIONAL"):
        raise InputError(f"{path} is a segmentation of type {kind}.", "Convert it to BINARY.")
    if not all(0 < s.label < 256 for s in segments):
        raise InputError(
            f"{path} has the segment numbers {[s.label for s in segments]}, not 1 to 255.",
            "Convert it with fewer segments.",
        )
    geometry, slices = _lattice(path, dataset, frames)
    order = [None, *(rule.name for rule in rules)]
    rank = {s.label: order.index(s.role) for s in segments}
    labels = np.zeros(geometry.array_shape, np.uint8)
    for n in sorted(range(len(frames)), key=lambda n: rank.get(frames[n][0], -1)):
        number = frames[n][0]
        if number not in rank:
            raise InputError(
                f"{path} has frames of an unknown segment {number}.", "Export it again."
            )
        labels[slices[n]][2 * pixels[n].astype(np.int64) >= maximum] = number
    return Segmentation(labels, geometry, segments)


def _segments(dataset: pydicom.Dataset, rules: tuple[RoleRule, ...]) -> tuple[Segment, ...]:
    found = []
    for item in dataset.SegmentSequence:
        name = str(item.get("SegmentLabel", "")).strip()
        role = role_of_name(name, rules)
        if role is None and not names_other_structure(name, rules):
            types = item.get("SegmentedPropertyTypeCodeSequence", ())
            role = next((role_of_name(str(t.get("CodeMeaning", "")), rules) for t in types), None)
        found.append(Segment(int(item.SegmentNumber), name, role))
    return tuple(found)


def _group(dataset: pydicom.Dataset, frame: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """A functional group's item: the frame's own, else the shared one."""
    shared = dataset.get("SharedFunctionalGroupsSequence")
    for holder in (frame, shared[0] if shared else frame):
        if holder.get(name):
            return holder[name].value[0]
    raise AttributeError(f"a frame has no {name}")


_Frame = tuple[int, np.ndarray, np.ndarray, np.ndarray]


def _frames(dataset: pydicom.Dataset) -> list[_Frame]:
    """Segment number, position (LPS mm), six cosines and (row, column) spacing of every frame."""

    def numbers(values: Any, count: int) -> np.ndarray:
        array = np.array([float(v) for v in values])
        if array.shape != (count,) or not np.isfinite(array).all():
            raise ValueError(f"{values} are not {count} numbers")
        return array

    frames = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        identity = _group(dataset, frame, "SegmentIdentificationSequence")
        position = _group(dataset, frame, "PlanePositionSequence").ImagePositionPatient
        orientation = _group(dataset, frame, "PlaneOrientationSequence").ImageOrientationPatient
        spacing = _group(dataset, frame, "PixelMeasuresSequence").PixelSpacing
        frames.append(
            (
                int(identity.ReferencedSegmentNumber),
                numbers(position, 3),
                numbers(orientation, 6),
                numbers(spacing, 2),
            )
        )
    if not frames:
        raise ValueError("it has no frames")
    return frames


def _lattice(
    path: Path, dataset: pydicom.Dataset, frames: list[_Frame]
) -> tuple[Geometry, list[int]]:
    """The grid of all frames, and the slice index of each."""
    positions, cosines, spacings = (np.array([f[n] for f in frames]) for n in (1, 2, 3))
    if np.ptp(cosines, axis=0).max() > _SAME or np.ptp(spacings, axis=0).max() > _SAME:
        raise InputError(
            f"{path} has frames of several orientations or pixel spacings.", "Export it again."
        )
    along_i, along_j = cosines[0][:3], cosines[0][3:]
    axes = np.stack([along_i, along_j, np.cross(along_i, along_j)], axis=1)
    places = positions @ axes
    depths = places[:, 2] - places[:, 2].min()
    step = _step(path, dataset, depths)
    slices = np.rint(depths / step).astype(int)
    off = float(np.abs(depths - slices * step).max())
    shift = float(np.ptp(places[:, :2], axis=0).max())
    if off > _PLACE_TOLERANCE * step or shift > _PLACE_TOLERANCE * float(spacings.min()):
        raise InputError(
            f"{path} has frames that are no regular grid: {off:.2f} mm beside slices of"
            f" {step:.2f} mm, shifted by {shift:.2f} mm in plane.",
            "Load it in 3D Slicer and save it as .seg.nrrd.",
        )
    origin = positions[int(depths.argmin())]
    geometry = Geometry(
        size=(int(dataset.Columns), int(dataset.Rows), int(slices.max()) + 1),
        spacing_mm=(float(spacings[0][1]), float(spacings[0][0]), step),
        origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction_lps=tuple(float(v) for v in axes.ravel()),
    )
    check_size(path, geometry.size)
    check_spacing(path, geometry)
    return geometry, [int(n) for n in slices]


def _step(path: Path, dataset: pydicom.Dataset, depths: np.ndarray) -> float:
    """Distance of slices, mm: the smallest between frames, or the declared one if it divides that.

    The latter matters where no two neighbouring slices have a frame.
    """
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    measures = _group(dataset, frame, "PixelMeasuresSequence")
    distinct = np.unique(np.round(depths, 3))
    if len(distinct) == 1:
        thickness = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness", 0))
        if thickness <= 0:
            raise InputError(f"{path} is one slice of unknown thickness.", "Export it again.")
        return thickness
    smallest = float(np.diff(distinct).min())
    declared = float(measures.get("SpacingBetweenSlices") or smallest)
    ratio = smallest / declared if declared > 0 else 0.0
    divides = round(ratio) >= 1 and abs(ratio - round(ratio)) < _PLACE_TOLERANCE
    # The whole span tells the step better than one gap, whose ends are rounded.
    span = float(distinct[-1])
    return span / max(1, round(span / (declared if divides else smallest)))
