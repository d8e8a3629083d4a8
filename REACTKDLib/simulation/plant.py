"""Simulated lesions of known grade in a given CT: a real liver, a known truth.

The simulator paints its lesions onto the liver as it would look without noise, and what that
changes is added to the CT, which keeps its noise and texture. docs/planting.md has the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import InputError, OptionError
from ..geometry import Geometry, Vector, bounding_box, resample_array
from ..types import Segment, Segmentation, Study, Volume
from .case import LESION, LesionTruth, evidence_regions, lesion_masks
from .enhancement import sign_weights, tissue_hu
from .fields import Field, Lattice, Slices, box_of
from .imaging import Canvas, paint_lesions_ct
from .lesions import RIM_MM, LesionFields, build_lesion
from .parameters import CaseParameters, Lesion, grade_of

KIND = "simulated lesions in a real CT"

#: Lesions are drawn on voxels of at most ``_FINE_MM``, blurred by a standard deviation of
#: ``_PSF_MM`` (a soft kernel of body CT), then averaged over the CT's voxels, so over its slices.
_FINE_MM, _PSF_MM = 1.25, 0.6
#: Pitch of a lattice along the patient's axes: how the CT is stored does not place the lesions.
_PITCH_MM = 1.5
#: A centre lies this deep in free liver, as a share of the mean radius, and so much of the
#: ellipsoid must fit: a vessel or the liver's surface may cut off the rest.
_DEPTH, _LEAST_SHARE = 0.85, 0.75
#: Free liver between two lesions, mm.
_GAP_MM = 4.0
#: In the first blur (standard deviation, mm) vessels of 6 mm stand out by the least contrast (HU):
#: lesions keep off them. In the second, smaller ones do: lesions cover them.
_LARGE_MM, _LARGE_HU, _SMALL_MM = 2.5, 20.0, 1.0
#: Median HU that a liver can have, from severe steatosis without contrast to the portal phase.
_LIVER_HU = (-30.0, 250.0)


@dataclass(frozen=True)
class PlantedLesion(LesionTruth):
    """Where a planted lesion came to lie, and the parameters that it was made of."""

    parameters: Lesion


@dataclass(frozen=True, eq=False)
class PlantingTruth:
    """What is known of a CT with planted lesions.

    ``lesion_ids`` and ``rim_ids`` are uint8 masks on the CT grid, 0 or a lesion's id; the CT is
    changed nowhere else. The rim is the liver within ``RIM_MM`` of a lesion's margin. ``liver_hu``
    is the liver's median in the CT as given: contrasts are relative to it.
    """

    differentiation: float
    delay_s: float
    seed: int
    liver_hu: float
    lesions: tuple[PlantedLesion, ...]
    lesion_ids: Volume
    rim_ids: Volume

    @property
    def grade(self) -> str:
        """True grade."""
        return grade_of(self.differentiation)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the masks, ready for JSON."""
        plain = ("seed", "grade", "differentiation", "delay_s", "liver_hu")
        values = {name: getattr(self, name) for name in plain}
        lesions = [asdict(lesion) for lesion in self.lesions]
        return {"simulated": True, "kind": KIND, **values, "rim_mm": RIM_MM, "lesions": lesions}


@dataclass(frozen=True, eq=False)
class PlantedCase:
    """A CT with planted lesions, its segmentation and its truth."""

    ct: Volume
    segmentation: Segmentation
    truth: PlantingTruth

    def study(self, case_id: str = "simulated-lesions") -> Study:
        """The case as the pipeline reads it."""
        return Study({"ct": self.ct}, self.segmentation, case_id)


def plant_lesions(
    ct: Volume,
    segmentation: Segmentation,
    lesions: Sequence[Lesion],
    seed: int,
    *,
    differentiation: float,
    delay_s: float,
) -> PlantedCase:
    """Plant simulated lesions into the liver of a CT.

    Parameters
    ----------
    ct : HU (k, j, i), any orientation and spacing.
    segmentation : on the CT's grid, with a segment of role ``liver``. Its lesions are kept and
        avoided, as are large vessels and whatever else stands out of the liver.
    lesions : what to plant. ``Lesion.position`` is the wanted centre, in fractions of the liver's
        bounding box along R, A and S; the lesion goes to the nearest place with room for it.
    seed : drives the lesions' shapes and patterns.
    differentiation : true differentiation of the tumours, 0 (poor) to 1 (well). It names the grade;
        how the lesions look is in their signs.
    delay_s : time from contrast injection to this CT: 35 late arterial, 70 portal venous, 180
        delayed. It decides which signs show.

    Returns
    -------
    PlantedCase : CT of the same grid and type, clipped to its type's range, unchanged outside the
        lesions and their rims; segmentation in which the lesions take the first ``lesion`` label or
        a new one; truth.

    Raises
    ------
    InputError : grids that differ, no liver, or a liver that is not in HU.
    OptionError : no lesion, a value out of range, no room for a lesion, or no label left.
    """
    if not lesions:
        raise OptionError(f"There is no lesion to plant: {lesions!r}.", "Give at least one Lesion.")
    # The simulator's checks of differentiation, lesions and delay hold here too.
    wanted = CaseParameters(differentiation, differentiation, tuple(lesions), delay_s=delay_s)
    grid, liver = ct.geometry, _liver_mask(ct, segmentation)
    liver_hu = float(np.median(ct.array[liver]))
    fields = _place(wanted.lesions, _free_liver(ct, liver, liver_hu), seed)
    ids, rims = lesion_masks(fields, liver, grid)
    volumes_ml = (np.bincount(ids.ravel())[1:] * grid.voxel_volume_ml).tolist()
    if len(volumes_ml) < len(fields) or min(volumes_ml) == 0:
        raise OptionError(
            f"A lesion falls between voxels of {grid.spacing_mm} mm: volumes {volumes_ml} ml.",
            "Make it larger, or take a CT with thinner slices.",
        )
    hu = tissue_hu(wanted) | {"liver": liver_hu}
    box, change = _change(ct, liver, fields, hu, delay_s)
    zone = (ids[box] > 0) | (rims[box] > 0)
    array = ct.array.copy()
    values = array[box][zone] + change[zone]
    if np.issubdtype(array.dtype, np.integer):
        limits = np.iinfo(array.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    array[box][zone] = values.astype(array.dtype)
    planted = tuple(
        PlantedLesion(n, f.centre_ras, ml, evidence_regions(f), f.parameters)
        for n, (f, ml) in enumerate(zip(fields, volumes_ml, strict=True), 1)
    )
    masks = Volume(ids, grid, "simulated_lesion_ids"), Volume(rims, grid, "simulated_rim_ids")
    return PlantedCase(
        Volume(array, grid, f"simulated_lesions_in_{ct.name or 'ct'}"),
        _with_lesions(segmentation, ids > 0),
        PlantingTruth(differentiation, delay_s, seed, liver_hu, planted, *masks),
    )


def _liver_mask(ct: Volume, segmentation: Segmentation) -> np.ndarray:
    """Liver without its lesions, bool (k, j, i), once it has proved to be a liver in HU."""
    if not segmentation.geometry.same_grid(ct.geometry):
        raise InputError(
            f"The segmentation's grid {segmentation.geometry} is not the CT's {ct.geometry}.",
            "Resample the segmentation to the CT.",
        )
    liver = np.isin(segmentation.labels, segmentation.labels_of("liver"))
    if not liver.any():
        roles = [(s.label, s.name, s.role) for s in segmentation.segments]
        raise InputError(f"No liver among the segments {roles}.", "Segment it, role 'liver'.")
    median = float(np.median(ct.array[liver]))
    if not _LIVER_HU[0] <= median <= _LIVER_HU[1]:
        raise InputError(
            f"The median of the liver is {median:g}, which is no HU of a liver.",
            "Check that the CT is in HU and that the liver segment is the liver.",
        )
    return liver


def _free_liver(ct: Volume, liver: np.ndarray, liver_hu: float) -> Field:
    """Signed distance (mm, negative inside) of the liver without what stands out when blurred.

    That is a large vessel, a cyst, a lesion that nobody segmented, fat at the edge of the mask.
    """
    from scipy.ndimage import distance_transform_edt

    box = bounding_box(liver)
    assert box is not None
    part = ct.geometry.crop_to(box)
    k, j, i = liver[box].nonzero()
    axes = zip(part.ras_offsets((k, j, i)), part.ras_from_ijk(np.zeros(3)), strict=True)
    # In pitches; the shift keeps rounding errors, which storage order changes, from deciding.
    ends = [((a.min() + o) / _PITCH_MM + 0.0137, (a.max() + o) / _PITCH_MM) for a, o in axes]
    low = [_PITCH_MM * (math.floor(least) - 3) for least, _ in ends]
    high = [_PITCH_MM * (math.ceil(most + 0.0137) + 3) for _, most in ends]
    lattice = Lattice.around(low, high, _PITCH_MM).geometry
    inside = resample_array(liver[box].astype(np.float32), part, lattice) > 0.499
    hu = resample_array(ct.array[box].astype(np.float32), part, lattice)
    contrast, noise = _contrast(hu - np.float32(liver_hu), inside, _LARGE_MM, lattice.spacing_mm)
    free = inside & (np.abs(contrast) <= max(_LARGE_HU, 4 * noise))
    outer, inner = (distance_transform_edt(m, sampling=_PITCH_MM) for m in (~free, free))
    signed = np.where(free, 0.5 * _PITCH_MM - inner, outer - 0.5 * _PITCH_MM)
    return Field(signed.astype(np.float32), lattice)


def _contrast(
    hu: np.ndarray, inside: np.ndarray, sd_mm: float, spacing_mm: Vector
) -> tuple[np.ndarray, float]:
    """Blurred ``hu`` (k, j, i, against the liver's median) in the liver, and its noise (SD)."""
    from scipy.ndimage import gaussian_filter

    sigma = [sd_mm / s for s in reversed(spacing_mm)]
    # Blurred within the liver only: its surroundings must not make its edge stand out.
    total = gaussian_filter(np.where(inside, hu, 0), sigma)
    share = gaussian_filter(inside.astype(np.float32), sigma)
    contrast = np.where(inside, total / np.maximum(share, np.float32(1e-3)), 0)
    # For normal noise the standard deviation is 1.48 times the median of absolute values.
    return contrast, 1.4826 * float(np.median(np.abs(contrast[inside]))) if inside.any() else 0.0


def _place(lesions: Sequence[Lesion], liver: Field, seed: int) -> list[LesionFields]:
    """Fields of the lesions, each at the free place nearest to where it is wanted."""
    placed: list[LesionFields] = []
    for lesion, rng in zip(lesions, np.random.default_rng(seed).spawn(len(lesions)), strict=True):
        taken = [earlier.shape for earlier in placed]
        placed.append(build_lesion(lesion, _centre(lesion, liver, taken), liver, taken, rng))
    return placed


def _centre(lesion: Lesion, liver: Field, taken: Sequence[Field]) -> Vector:
    """RAS mm of the lattice point nearest to the wanted centre with room for the lesion."""
    from scipy.ndimage import distance_transform_edt

    free, share = liver.values < 0, 0.0
    points = liver.geometry.ras_from_ijk(np.argwhere(free)[:, ::-1])
    if len(points):
        low, high = points.min(axis=0), points.max(axis=0)
        target = low + np.asarray(lesion.position) * (high - low)
        left = free.copy()
        for shape in taken:
            left &= shape.over(liver.geometry) > _GAP_MM
        depth = (distance_transform_edt(left, sampling=_PITCH_MM) - 0.5 * _PITCH_MM)[free]
        deep = depth >= min(_DEPTH * float(np.mean(lesion.radii_mm)), float(depth.max()))
        cost = np.where(deep, np.linalg.norm(points - target, axis=1), np.inf)
        centre = points[int(np.argmin(cost))]
        fits = left[free] & ((((points - centre) / lesion.radii_mm) ** 2).sum(axis=1) < 1)
        share = (
            np.count_nonzero(fits) * _PITCH_MM**3 / (4 / 3 * math.pi * math.prod(lesion.radii_mm))
        )
    if share < _LEAST_SHARE:
        raise OptionError(
            f"A lesion of radii {lesion.radii_mm} mm finds no room in the liver: {share:.0%} fits.",
            "Make it smaller, plant fewer lesions, or take another CT.",
        )
    return (float(centre[0]), float(centre[1]), float(centre[2]))


def _change(
    ct: Volume, liver: np.ndarray, fields: list[LesionFields], hu: dict[str, float], delay_s: float
) -> tuple[Slices, np.ndarray]:
    """What the lesions add to the CT: (k, j, i) slices of it and HU there, float32."""
    from scipy.ndimage import gaussian_filter

    corners = [field.shape.geometry.corners_lps() for field in fields]
    drawn = box_of(np.concatenate(corners), ct.geometry)
    assert drawn is not None  # lesions lie in the liver, so in the CT
    box, part = drawn
    a, b, c = (math.ceil(s / _FINE_MM) for s in part.spacing_mm)
    (i, j, k), (x, y, z) = part.size, part.spacing_mm
    first = tuple(part.lps_from_ijk(np.array([(1 / n - 1) / 2 for n in (a, b, c)])).tolist())
    fine = Geometry((a * i, b * j, c * k), (x / a, y / b, z / c), first, part.direction_lps)
    # The liver before, without noise: its small vessels vanish under a lesion, as in the simulator.
    contrast = ct.array[box].astype(np.float32) - np.float32(hu["liver"])
    vessels, noise = _contrast(contrast, liver[box], _SMALL_MM, part.spacing_mm)
    vessels *= np.clip(np.abs(vessels) / max(noise, 1.0) - 2, 0, 1)
    before = np.float32(hu["liver"]) + vessels.repeat(c, 0).repeat(b, 1).repeat(a, 2)
    canvas = Canvas(fine, 0.0, _FINE_MM)
    canvas.image = before.copy()
    paint_lesions_ct(canvas, fields, hu, sign_weights(delay_s))
    change = gaussian_filter(canvas.image - before, [_PSF_MM / s for s in fine.spacing_mm[::-1]])
    return box, change.reshape(k, c, j, b, i, a).mean(axis=(1, 3, 5))


def _with_lesions(segmentation: Segmentation, lesions: np.ndarray) -> Segmentation:
    """``segmentation`` with the voxels of ``lesions`` (bool) labelled as lesion."""
    segments, known = segmentation.segments, segmentation.labels_of("lesion")
    if not known:
        used = {s.label for s in segments} | set(np.unique(segmentation.labels).tolist())
        known = tuple(n for n in range(1, 256) if n not in used)
        if not known:
            raise OptionError("All 255 labels are in use.", "Take out segments not needed.")
        segments = (*segments, Segment(known[0], LESION.name, LESION.role))
    labels = np.where(lesions, np.uint8(known[0]), segmentation.labels)
    return Segmentation(labels, segmentation.geometry, segments)
