"""Where in the study the model looks: the region of interest on the CT's and the model's grid.

The segmentation may stand on any grid; its labels come to the CT here, nearest neighbour, uint8,
and only inside the crop that the model's grid needs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .geometry import Geometry, Index, Vector, bounding_box, resample_array
from .model_package import GridSpec, ModelSpec
from .types import Notice, Segmentation, Study, read_only

#: Below this part of the segmentation inside the CT, the pair is refused; above it but not whole,
#: the result carries a notice.
MINIMUM_OVERLAP = 0.5
_COMPLETE_OVERLAP = 0.99
_SAMPLE = 20_000

_AXIS_NAMES = ("right-left", "anterior-posterior", "superior-inferior")


@dataclass(frozen=True, eq=False)
class Roi:
    """The region of interest of one study.

    ``crop_start`` : first voxel (i, j, k) of the crop on the CT's lattice.
    ``geometry`` : the crop, a part of the CT's lattice.
    ``labels`` : uint8 on the crop; value r + 1 is the r-th role of the model package, 0 nothing.
    ``model_geometry`` : the model's grid, axis-aligned in the patient (LPS).
    """

    crop_start: Index
    geometry: Geometry
    labels: np.ndarray
    model_geometry: Geometry
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", read_only(self.labels))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of the crop in an array on the CT's grid, (k, j, i)."""
        i, j, k = (
            slice(a, a + n) for a, n in zip(self.crop_start, self.geometry.size, strict=True)
        )
        return (k, j, i)


def locate_roi(study: Study, package: ModelSpec) -> Roi:
    """Find the region of interest of a study.

    The box of all voxels that have a role, widened by the package's margin, becomes the model's
    grid; the crop is the part of the CT that covers it.

    Raises
    ------
    InputError : a required role without voxels; a segmentation that does not overlap the CT, or
        only after a flip.
    """
    segmentation = _cropped(study.segmentation)
    role_labels = _role_labels(segmentation, [rule.name for rule in package.role_rules])
    present = [(role_labels == n).any() for n in range(1, len(package.role_rules) + 1)]
    for rule, there in zip(package.role_rules, present, strict=True):
        if rule.required and not there:
            raise InputError(
                f"The segmentation has no voxel of the role {rule.name!r}; its segments are"
                f" {_describe(study.segmentation)}.",
                f"Segment the {rule.name}, or say which segment it is.",
            )
    if not any(present):
        raise InputError(
            f"The segmentation has no voxel of any role; its segments are"
            f" {_describe(study.segmentation)}.",
            "Segment the structures that the model needs.",
        )
    caps = column_ends(role_labels)
    overlap = _check_overlap(
        role_labels,
        segmentation.geometry,
        study.ct.geometry,
        study.segmentation.geometry.origin_lps,
    )
    model_geometry = _model_grid(
        segmentation.geometry, caps, package.grid, package.network.total_stride
    )
    start, size = covering_crop(study.ct.geometry, model_geometry)
    geometry = study.ct.geometry.crop(start, size)
    notices = []
    if overlap < _COMPLETE_OVERLAP:
        notices.append(
            Notice(
                "segmentation_truncated",
                "warning",
                f"Only {overlap:.0%} of the segmentation lies inside the CT; the rest was ignored.",
            )
        )
    labels = resample_array(role_labels, segmentation.geometry, geometry, nearest=True)
    return Roi(start, geometry, labels, model_geometry, tuple(notices))


def _cropped(segmentation: Segmentation) -> Segmentation:
    """The segmentation cut to the box of its labels: all that follows costs only that box."""
    box = bounding_box(segmentation.labels)
    if box is None:
        raise InputError(
            "The segmentation is empty.", "Segment the structures that the model needs."
        )
    geometry = segmentation.geometry.crop_to(box)
    return Segmentation(segmentation.labels[box], geometry, segmentation.segments)


def _role_labels(segmentation: Segmentation, roles: list[str]) -> np.ndarray:
    """Labels that stand for roles: r + 1 for the r-th role, 0 for everything else; uint8."""
    table = np.zeros(256, dtype=np.uint8)
    for segment in segmentation.segments:
        if segment.role in roles:
            table[segment.label] = roles.index(segment.role) + 1
    return table[segmentation.labels]


def _describe(segmentation: Segmentation) -> str:
    return (
        ", ".join(f"{s.name or s.label} (role {s.role})" for s in segmentation.segments) or "none"
    )


def column_ends(mask: np.ndarray) -> np.ndarray:
    """Indices (i, j, k) of the first and last set voxel of every column along k, shape (n, 3).

    The extremes of any linear function over the set are among them, and so is its convex hull.
    """
    set_voxels = mask > 0
    filled = set_voxels.any(axis=0)
    j, i = np.nonzero(filled)
    first = set_voxels.argmax(axis=0)[j, i]
    last = mask.shape[0] - 1 - set_voxels[::-1].argmax(axis=0)[j, i]
    return np.concatenate([np.stack([i, j, first], axis=1), np.stack([i, j, last], axis=1)])


def _model_grid(
    geometry: Geometry, caps: np.ndarray, grid: GridSpec, stride_kji: tuple[int, int, int]
) -> Geometry:
    """The axis-aligned grid around the given voxels, centred on them.

    Its first and last voxels are centres of feature cells (whole strides and one voxel), so that
    no voxel inside belongs in part to a cell outside, and a larger grid changes nothing.
    """
    half_voxels = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    # The outer corners of the extreme voxels along each patient axis, enough for the exact box.
    centres = geometry.lps_from_ijk(caps)
    extreme = np.unique(np.concatenate([centres.argmin(axis=0), centres.argmax(axis=0)]))
    corners = geometry.lps_from_ijk((caps[extreme][:, None, :] + half_voxels).reshape(-1, 3))
    low, high = corners.min(axis=0) - grid.margin_mm, corners.max(axis=0) + grid.margin_mm
    size, origin = [], []
    for axis, stride in enumerate(reversed(stride_kji)):
        spacing = grid.spacing_mm[axis]
        # The small subtraction keeps rounding noise from adding a voxel.
        voxels = int(np.ceil((high[axis] - low[axis]) / spacing - 1e-6))
        voxels = -(-(voxels - 1) // stride) * stride + 1
        size.append(voxels)
        origin.append((low[axis] + high[axis]) / 2 - (voxels - 1) / 2 * spacing)
    return Geometry(
        size=(size[0], size[1], size[2]),
        spacing_mm=grid.spacing_mm,
        origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
    )


def covering_crop(lattice: Geometry, box: Geometry) -> tuple[Index, Index]:
    """Start and size (i, j, k) of the part of a lattice that covers another grid's box."""
    corners = lattice.ijk_from_lps(box.corners_lps())
    start = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, np.array(lattice.size) - 1)
    stop = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, start + 1, lattice.size)
    size = stop - start
    return (int(start[0]), int(start[1]), int(start[2])), (int(size[0]), int(size[1]), int(size[2]))


def _check_overlap(
    role_labels: np.ndarray, geometry: Geometry, ct: Geometry, origin_lps: Vector
) -> float:
    """Part of the segmentation's voxels inside the CT, 0..1; refuses too small a part.

    ``origin_lps`` : origin of the segmentation as stored, from which its axes run.
    """
    filled = np.flatnonzero(role_labels)
    sample = filled[:: max(1, len(filled) // _SAMPLE)]
    k, j, i = np.unravel_index(sample, role_labels.shape)
    voxels = np.stack([i, j, k], axis=1)

    def inside(points_lps: np.ndarray) -> float:
        index = ct.ijk_from_lps(points_lps)
        return float(np.all((index >= -0.5) & (index <= np.array(ct.size) - 0.5), axis=1).mean())

    points = geometry.lps_from_ijk(voxels)
    overlap = inside(points)
    if overlap >= MINIMUM_OVERLAP:
        return overlap
    for signs in itertools.product((1.0, -1.0), repeat=3):
        if signs == (1.0, 1.0, 1.0):
            continue
        # Two ways in which headers go wrong: coordinates of the other convention (LPS for RAS),
        # and an axis that runs backwards from the same origin.
        mirrored_axis = (points - origin_lps) * signs + origin_lps
        if max(inside(points * signs), inside(mirrored_axis)) > 0.9:
            axes = " and ".join(
                name for name, sign in zip(_AXIS_NAMES, signs, strict=True) if sign < 0
            )
            raise InputError(
                f"The segmentation's header contradicts the CT's: {overlap:.0%} of it lies inside"
                f" the CT, but it overlaps after a flip of the {axes} axis.",
                "Export the segmentation again from the program that made it, with this CT as the"
                " reference; REACTKD does not flip images on its own.",
            )
    raise InputError(
        f"Only {overlap:.0%} of the segmentation lies inside the CT.",
        "Check that CT and segmentation belong to the same patient and scan.",
    )
