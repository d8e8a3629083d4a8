"""The regions that share the decision: lesions, their rims, and parts of the organ.

Schemes
-------
``anatomical`` : each lesion, a rim inside the organ around each, and eight parts of the remaining
    parenchyma, halved by volume along right-left, then superior-inferior, then anterior-posterior.
    The parts are compact, equally large and named by position; they are not Couinaud segments.
``paper`` : the organ without its lesions, and each lesion (REACT-KD's region graph generator).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .errors import InputError, OptionError
from .geometry import Geometry, bounding_box
from .model_package import ModelSpec, RegionSpec
from .roi import Roi, column_ends
from .types import NO_LESION, CaseResult, Notice, Region, Volume, read_only

SCHEMES = ("anatomical", "paper")

#: Lesions and rims must fit in a uint8 labelmap beside the parenchyma.
MAXIMUM_LESIONS = 100

#: The halvings in order: names of the halves (large RAS coordinate first), and the RAS axis.
_HALVINGS = ((("right", "left"), 0), (("superior", "inferior"), 2), (("anterior", "posterior"), 1))


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one case. ``labels`` uint8 (k, j, i) on ``geometry``, the crop of the CT."""

    labels: np.ndarray
    geometry: Geometry
    regions: tuple[Region, ...]
    contact_area_mm2: np.ndarray
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", read_only(self.labels))
        object.__setattr__(self, "contact_area_mm2", read_only(self.contact_area_mm2))


@dataclass(frozen=True)
class _Part:
    """A region before it is measured."""

    id: str
    name: str
    kind: str


def check_scheme(scheme: str) -> None:
    """Refuse a scheme that does not exist.

    Raises
    ------
    OptionError : not one of ``SCHEMES``.
    """
    if scheme not in SCHEMES:
        raise OptionError(
            f"Unknown region scheme {scheme!r}.", f"Choose one of {', '.join(SCHEMES)}."
        )


def make_regions(roi: Roi, ct: Volume, package: ModelSpec, scheme: str = "anatomical") -> Regions:
    """Divide the region of interest by ``scheme`` and measure every part on the CT.

    Raises
    ------
    OptionError : as :func:`check_scheme`.
    InputError : more than ``MAXIMUM_LESIONS`` lesions.
    """
    check_scheme(scheme)
    spec = package.regions
    roles = [rule.name for rule in package.role_rules]
    lesion_mask = roi.labels == roles.index(spec.lesion_role) + 1
    organ_mask = (
        roi.labels == roles.index(spec.organ_role) + 1 if spec.organ_role is not None else None
    )
    lesions, ignored = _lesions(lesion_mask, roi.geometry, spec)
    if organ_mask is not None:
        # A lesion too small for a region of its own stays a part of the organ.
        organ_mask = organ_mask | (lesion_mask & (lesions == 0))
    labels = lesions
    count = int(lesions.max())
    parts = [_Part(f"lesion-{n}", f"Lesion {n}", "lesion") for n in range(1, count + 1)]
    if scheme == "anatomical":
        labels = _add_rims(labels, organ_mask, roi.geometry, spec.rim_mm)
        parts += [_Part(f"rim-{n}", f"Rim of lesion {n}", "rim") for n in range(1, count + 1)]
        if organ_mask is not None:
            labels, parenchyma = _add_parenchyma(labels, organ_mask, roi.geometry, len(parts))
            parts += parenchyma
    elif organ_mask is not None:
        labels = np.where(organ_mask & (labels == 0), np.uint8(len(parts) + 1), labels)
        organ = spec.organ_role or ""
        parts.append(_Part(organ, f"{organ.capitalize()} without lesions", "organ"))
    return Regions(
        labels=labels,
        geometry=roi.geometry,
        regions=_measure(labels, parts, roi.geometry, ct.array[roi.slices]),
        contact_area_mm2=_contact_areas(labels, len(parts), roi.geometry),
        notices=_notices(count, ignored, spec),
    )


def same_regions(roi: Roi, ct: Volume, like: CaseResult) -> Regions:
    """The regions of an earlier result, measured on another CT of the same grid.

    Raises
    ------
    InputError : another grid.
    """
    if not like.region_labels.geometry.same_grid(ct.geometry):
        raise InputError(
            f"The regions of {like.case_id} are on a grid of {like.region_labels.geometry.size}"
            f" voxels, the CT on one of {ct.geometry.size}.",
            "Run the model on this CT first.",
        )
    labels = like.region_labels.array[roi.slices]
    count = max((region.label for region in like.regions), default=0)
    parts: list[_Part | None] = [None] * count
    for region in like.regions:
        parts[region.label - 1] = _Part(region.id, region.name, region.kind)
    return Regions(
        labels=labels,
        geometry=roi.geometry,
        regions=_measure(labels, parts, roi.geometry, ct.array[roi.slices]),
        contact_area_mm2=_contact_areas(labels, count, roi.geometry),
    )


def _notices(lesions: int, ignored: int, spec: RegionSpec) -> tuple[Notice, ...]:
    notices = []
    if lesions == 0:
        notices.append(
            Notice(
                NO_LESION,
                "warning",
                f"No {spec.lesion_role} was given: the answer rests on the rest of the image.",
            )
        )
    if ignored:
        notices.append(
            Notice(
                "small_lesions",
                "info",
                f"{ignored} {spec.lesion_role} parts below {spec.minimum_lesion_ml:g} ml have no"
                " region of their own.",
            )
        )
    return tuple(notices)


def _lesions(mask: np.ndarray, geometry: Geometry, spec: RegionSpec) -> tuple[np.ndarray, int]:
    """Lesions numbered by volume, largest first, uint8; and how many parts were too small."""
    import SimpleITK as sitk

    labels = np.zeros(mask.shape, dtype=np.uint8)
    box = bounding_box(mask)
    if box is None:
        return labels, 0
    components = sitk.GetArrayFromImage(
        sitk.ConnectedComponent(sitk.GetImageFromArray(mask[box].astype(np.uint8)), True)
    )
    counts = np.bincount(components.ravel())
    counts[0] = 0
    kept = np.flatnonzero(counts * geometry.voxel_volume_ml >= spec.minimum_lesion_ml)
    if len(kept) > MAXIMUM_LESIONS:
        raise InputError(
            f"The segmentation has {len(kept)} separate lesions; at most {MAXIMUM_LESIONS} are"
            " supported.",
            "Remove islands from the segmentation.",
        )
    offset = np.array([s.start for s in box])[::-1]

    def order(component: np.integer) -> tuple[float, ...]:
        # Equal volumes are ordered by position, so that storage order never matters.
        k, j, i = np.nonzero(components == component)
        centre = geometry.ras_from_ijk(np.array([i.mean(), j.mean(), k.mean()]) + offset)
        return (-int(counts[component]), *np.round(centre, 1))

    table = np.zeros(len(counts), dtype=np.uint8)
    for number, component in enumerate(sorted(kept, key=order), start=1):
        table[component] = number
    labels[box] = table[components]
    return labels, int((counts > 0).sum()) - len(kept)


def _add_rims(
    lesions: np.ndarray, organ: np.ndarray | None, geometry: Geometry, rim_mm: float
) -> np.ndarray:
    """Label count + n on organ voxels within ``rim_mm`` of lesion n, nearest lesion first."""
    import SimpleITK as sitk

    labels = lesions.copy()
    count = int(lesions.max())
    nearest = np.full(lesions.shape, np.inf, dtype=np.float32)
    reach = np.ceil(rim_mm / np.asarray(geometry.spacing_mm)[::-1]).astype(int) + 1
    for number, (k, j, i) in enumerate(ndimage.find_objects(lesions), start=1):
        box = tuple(
            slice(max(0, axis.start - margin), axis.stop + margin)
            for axis, margin in zip((k, j, i), reach.tolist(), strict=True)
        )
        crop = (lesions[box] == number).astype(np.uint8)
        image = sitk.GetImageFromArray(crop)
        image.SetSpacing(geometry.spacing_mm)
        distance = sitk.GetArrayFromImage(
            sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        )
        rim = (lesions[box] == 0) & (distance <= rim_mm) & (distance < nearest[box])
        if organ is not None:
            rim &= organ[box]
        labels[box][rim] = count + number
        nearest[box][rim] = distance[rim]
    return labels


def _add_parenchyma(
    labels: np.ndarray, organ: np.ndarray, geometry: Geometry, used: int
) -> tuple[np.ndarray, list[_Part]]:
    """Halve the rest of the organ three times by volume, along the patient's axes."""
    labels = labels.copy()
    parts: list[_Part] = []
    rest = organ & (labels == 0)
    box = bounding_box(rest)
    if box is None:
        return labels, parts
    rest = rest[box]
    k, j, i = np.nonzero(rest)
    numbers = np.zeros(len(i), np.uint8)
    ras = geometry.ras_offsets((k, j, i))

    def halve(members: np.ndarray, names: tuple[str, ...]) -> None:
        if len(members) == 0:
            return
        if len(names) == len(_HALVINGS):
            numbers[members] = used + len(parts) + 1
            parts.append(
                _Part(
                    "parenchyma-" + "-".join(names), "Parenchyma " + " ".join(names), "parenchyma"
                )
            )
            return
        (first, second), axis = _HALVINGS[len(names)]
        position = ras[axis][members]
        # A layer of voxels at the median must not be torn apart by rounding noise.
        upper = position > np.median(position) + 1e-3
        halve(members[upper], (*names, first))
        halve(members[~upper], (*names, second))

    halve(np.arange(len(i)), ())
    labels[box][rest] = numbers
    return labels, parts


def _measure(
    labels: np.ndarray, parts: Sequence[_Part | None], geometry: Geometry, hu: np.ndarray
) -> tuple[Region, ...]:
    regions = []
    boxes = ndimage.find_objects(labels, max_label=len(parts))
    for label, (part, box) in enumerate(zip(parts, boxes, strict=True), start=1):
        if part is None or box is None:  # a rim without room, an eighth of a few voxels
            continue
        mask, grid = labels[box] == label, geometry.crop_to(box)
        values = hu[box][mask].astype(np.float64)
        centroid = grid.ras_from_ijk(_centroid(mask))
        regions.append(
            Region(
                id=part.id,
                name=part.name,
                kind=part.kind,
                label=label,
                volume_ml=len(values) * grid.voxel_volume_ml,
                centroid_ras=(float(centroid[0]), float(centroid[1]), float(centroid[2])),
                mean_hu=float(values.mean()),
                sd_hu=float(values.std()),
                longest_diameter_mm=(
                    longest_diameter(mask, grid) if part.kind == "lesion" else None
                ),
            )
        )
    return tuple(regions)


def _centroid(mask: np.ndarray) -> np.ndarray:
    """Mean index (i, j, k) of the set voxels."""
    in_row = mask.sum(axis=2, dtype=np.uint32)  # (k, j)
    in_column = mask.sum(axis=0, dtype=np.uint32)  # (j, i)
    counts = (in_column.sum(axis=0), in_column.sum(axis=1), in_row.sum(axis=1))
    return np.array([np.average(np.arange(len(n)), weights=n) for n in counts])


def longest_diameter(mask: np.ndarray, geometry: Geometry) -> float:
    """Greatest distance between two points of a mask's surface in 3-D, mm.

    Voxels reach to the centres of their faces, so one voxel is as long as its longest side.
    """
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    faces = np.concatenate([np.eye(3), -np.eye(3)]) * 0.5
    ends = (column_ends(mask)[:, None, :] + faces).reshape(-1, 3)
    points = geometry.ras_from_ijk(ends)
    return float(pdist(points[ConvexHull(points).vertices]).max())


def _contact_areas(labels: np.ndarray, count: int, geometry: Geometry) -> np.ndarray:
    """Area of the common faces of labels a and b at [a - 1, b - 1], mm^2, symmetric."""
    area = np.zeros((count + 1) ** 2)
    spacing = geometry.spacing_mm[::-1]
    for axis in range(3):
        along = np.moveaxis(labels, axis, 0)
        low, high = along[:-1], along[1:]
        differ = low != high
        pairs = low[differ].astype(int) * (count + 1) + high[differ]
        face = np.prod([spacing[a] for a in range(3) if a != axis])
        area += np.bincount(pairs, minlength=(count + 1) ** 2) * face
    # Row and column 0 are the borders to the outside.
    matrix = area.reshape(count + 1, count + 1)[1:, 1:]
    return matrix + matrix.T
