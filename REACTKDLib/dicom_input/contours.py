"""An RTSTRUCT as one mask per region (DICOM PS3.3, A.19 and C.8.8.5, C.8.8.6).

Closed planar contours become voxels slice by slice: a voxel is inside where its centre lies inside
an odd number of a region's contours in that plane. Holes may therefore be inner contours (XOR) or
be joined to the outer one by a bridge that is walked both ways (keyhole).

Each region keeps the planes in which it was drawn. Planes that are slices of the CT give a mask on
the CT's grid. Other planes (between the slices, every second slice, oblique) give a mask on a grid
of their own, with a slice step that is the usual distance of the region's planes: a contour stands
for the tissue half a step to either side. Points and open contours have no volume and are passed
over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..read_image import check_size
from .dataset import numbers, open_dataset, reading
from .seg import DicomStructure, coded_meaning

if TYPE_CHECKING:
    import pydicom

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_WHAT = "an RTSTRUCT"
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
#: A plane may lie this part of a slice step away from its slice.
_PLACE_TOLERANCE = 0.1
#: A contour's points may lie this far off its plane (coordinates are often rounded), mm.
_FLAT_MM = 0.1
#: Voxels that a region may have even if that is more than four times the CT.
_LARGEST_OUTSIDE = 20_000_000


def read_contours(path: Path, ct: Geometry) -> list[DicomStructure]:
    """The regions of an RTSTRUCT that have closed contours, on the grid ``ct`` or their own.

    Raises
    ------
    InputError : no RTSTRUCT, a damaged one, no closed contours, contours that are not flat, not
        parallel or not evenly spaced, region numbers that repeat.
    EnvironmentProblem : without pydicom.
    """
    dataset = open_dataset(path, _WHAT)
    with reading(path, _WHAT):
        names = {int(r.ROINumber): str(r.get("ROIName") or "").strip()
                 for r in dataset.StructureSetROISequence}  # fmt: skip
        meanings = _meanings(dataset)
        contours: dict[int, list[np.ndarray]] = {}
        for item in dataset.get("ROIContourSequence") or ():
            found = contours.setdefault(int(item.ReferencedROINumber), [])
            found += [
                _points(contour)
                for contour in item.get("ContourSequence") or ()
                if str(contour.ContourGeometricType) in _CLOSED
            ]
        filled = {number: polygons for number, polygons in contours.items() if polygons}
        if not filled:
            raise InputError(
                f"{path} has no closed contours. Its regions are {sorted(names.values())}.",
                "Give an RTSTRUCT with drawn regions.",
            )
        # Numbers are labels where they can be.
        numbered = all(0 < number < 256 for number in filled)
        return [
            DicomStructure(
                number if numbered else place,
                names.get(number, ""),
                meanings.get(number, ""),
                *_rasterise(path, names.get(number, ""), polygons, ct),
            )
            for place, (number, polygons) in enumerate(filled.items(), start=1)
        ]


def _meanings(dataset: pydicom.Dataset) -> dict[int, str]:
    """Coded meaning by region number."""
    meanings = {}
    for item in dataset.get("RTROIObservationsSequence") or ():
        text = coded_meaning(item.get("RTROIIdentificationCodeSequence"))
        if text:
            meanings[int(item.ReferencedROINumber)] = text
    return meanings


def _points(contour: pydicom.Dataset) -> np.ndarray:
    """The points of a contour, LPS mm, (n, 3)."""
    data = contour.ContourData
    points = numbers(data, len(data), "ContourData").reshape(-1, 3)
    if len(points) < 3:
        raise ValueError(f"a closed contour has {len(points)} points")
    return points


def _rasterise(
    path: Path, name: str, polygons: Sequence[np.ndarray], ct: Geometry
) -> tuple[np.ndarray, Geometry, Geometry]:
    """Mask, its grid, and the lattice that this is a part of."""
    what = f'The region "{name}" of {path}'
    lattice = _contour_lattice(what, polygons, ct)
    places = [lattice.ijk_from_lps(points) for points in polygons]
    everything = np.concatenate(places)
    low = np.floor(everything.min(axis=0)).astype(int)
    low[2] = int(np.rint(everything[:, 2].min()))
    high = np.ceil(everything.max(axis=0)).astype(int)
    high[2] = int(np.rint(everything[:, 2].max()))
    size = (int(high[0] - low[0] + 1), int(high[1] - low[1] + 1), int(high[2] - low[2] + 1))
    check_size(path, size, max(4 * math.prod(ct.size), _LARGEST_OUTSIDE))
    grid = lattice.crop((int(low[0]), int(low[1]), int(low[2])), size)
    mask = np.zeros(grid.array_shape, np.uint8)
    by_slice: dict[int, list[np.ndarray]] = {}
    for points in places:
        by_slice.setdefault(int(np.rint(points[:, 2].mean())) - int(low[2]), []).append(
            points[:, :2] - low[:2]
        )
    for k, flat in by_slice.items():
        mask[k] = even_odd(flat, grid.array_shape[1:])
    return mask, grid, lattice


def even_odd(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels (j, i) whose centres lie inside an odd number of ``polygons`` ((n, 2) of (i, j)).

    Each edge toggles, in every row that it crosses, all pixels behind the crossing. A row at an
    edge's lower end belongs to it and one at its upper end does not, so that corners count once.
    """
    toggles = np.zeros((shape[0], shape[1] + 1), np.int32)
    for polygon in polygons:
        begin, end = polygon, np.roll(polygon, -1, axis=0)
        swap = begin[:, 1] > end[:, 1]
        low = np.where(swap[:, None], end, begin)
        high = np.where(swap[:, None], begin, end)
        first = np.clip(np.ceil(low[:, 1]), 0, shape[0]).astype(int)
        count = np.clip(np.ceil(high[:, 1]), 0, shape[0]).astype(int) - first
        edge = np.repeat(np.arange(len(low)), count)
        starts = np.cumsum(count) - count
        row = np.arange(len(edge)) - starts[edge] + first[edge]
        part = (row - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
        crossing = low[edge, 0] + part * (high[edge, 0] - low[edge, 0])
        column = np.clip(np.ceil(crossing), 0, shape[1]).astype(int)
        np.add.at(toggles, (row, column), 1)
    return (np.cumsum(toggles[:, :-1], axis=1) % 2).astype(np.uint8)


def _contour_lattice(what: str, polygons: Sequence[np.ndarray], ct: Geometry) -> Geometry:
    """The CT's grid if the planes are its slices, else one with a slice at every plane."""
    lattice = ct
    places = [ct.ijk_from_lps(points)[:, 2] * ct.spacing_mm[2] for points in polygons]
    parallel = max(float(np.ptp(p)) for p in places) <= 2 * _FLAT_MM
    if not parallel:
        lattice = _oblique(polygons, ct)
        places = [lattice.ijk_from_lps(p)[:, 2] * lattice.spacing_mm[2] for p in polygons]
        uneven = max(float(np.ptp(p)) for p in places)
        if uneven > 2 * _FLAT_MM:
            raise InputError(
                f"{what} has contours that are not flat, or not parallel: their points are up to"
                f" {uneven:.2f} mm off.",
                "Save it as .seg.nrrd from the program that drew it.",
            )
    depths = np.sort([float(p.mean()) for p in places])
    planes = depths[np.concatenate([[True], np.diff(depths) > 2 * _FLAT_MM])]
    step_of_ct = ct.spacing_mm[2]
    on_slices = np.abs(planes / step_of_ct - np.rint(planes / step_of_ct)).max()
    steps = np.diff(planes)
    usual = float(np.median(steps)) if len(steps) else step_of_ct
    if parallel and on_slices <= _PLACE_TOLERANCE and usual < 1.5 * step_of_ct:
        return ct
    if not len(steps):
        raise InputError(
            f"{what} has one plane, which is no slice of the CT: its thickness is unknown.",
            "Draw it on the CT, or on several planes.",
        )
    # The whole span tells the step better than one distance, whose ends are rounded.
    step = float(planes[-1] - planes[0]) / max(1, round(float(planes[-1] - planes[0]) / usual))
    index = (planes - planes[0]) / step
    if np.abs(index - np.rint(index)).max() > _PLACE_TOLERANCE:
        raise InputError(
            f"{what} has planes that are not evenly spaced: between {steps.min():.2f} and"
            f" {steps.max():.2f} mm.",
            "Save it as .seg.nrrd from the program that drew it.",
        )
    matrix = lattice.direction_matrix
    origin = np.asarray(lattice.origin_lps) + planes[0] * matrix[:, 2]
    return Geometry(
        size=(*lattice.size[:2], int(np.rint(index[-1])) + 1),
        spacing_mm=(*lattice.spacing_mm[:2], step),
        origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction_lps=lattice.direction_lps,
    )


def _oblique(polygons: Sequence[np.ndarray], ct: Geometry) -> Geometry:
    """A grid in the plane of the longest contour, its rows as near to the CT's as may be."""
    points = max(polygons, key=lambda p: float(np.ptp(p, axis=0).sum()))
    normal = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][2]
    axes = ct.direction_matrix
    nearest = int(np.argmax(np.abs(axes.T @ normal)))
    normal = normal * math.copysign(1.0, float(axes[:, nearest] @ normal))
    row = axes[:, (nearest + 1) % 3]
    row = row - (row @ normal) * normal
    row /= np.linalg.norm(row)
    direction = np.stack([row, np.cross(normal, row), normal], axis=1)
    finest = min(ct.spacing_mm)
    origin = points[0]
    return Geometry(
        size=(1, 1, 1),
        spacing_mm=(finest, finest, finest),
        origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction_lps=tuple(float(v) for v in direction.ravel()),
    )
