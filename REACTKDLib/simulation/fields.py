"""Implicit shapes: signed distances (mm, negative inside) on a lattice in patient space.

A field is exact at lattice points and trilinear between them, so a shape is one continuous
function of RAS position whatever grid it is later drawn on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import Geometry, Vector, resample_array
from .parameters import centred_geometry

#: Distance that stands for "far outside" (mm). Fields are cropped where they exceed it.
FAR_MM = 24.0

Slices = tuple[slice, slice, slice]

#: A cone with round ends: start, end (mm), radius at the start and at the end (mm).
Segment = tuple[np.ndarray, np.ndarray, float, float]


@dataclass(frozen=True, eq=False)
class Field:
    """A scalar field on its own small lattice; ``outside`` holds beyond it."""

    values: np.ndarray
    geometry: Geometry
    outside: float = FAR_MM

    def on(self, target: Geometry) -> tuple[Slices, Geometry, np.ndarray] | None:
        """Field values at the voxel centres of ``target`` near the field.

        Returns the (k, j, i) slices of ``target`` that the field's lattice touches, that part of
        the grid, and the values there (float32), or None where they do not meet.
        """
        box = box_of(self.geometry.corners_lps(), target)
        if box is None:
            return None
        slices, part = box
        return slices, part, resample_array(self.values, self.geometry, part, outside=self.outside)

    def over(self, target: Geometry) -> np.ndarray:
        """Field values at all voxel centres of ``target``, float32 (k, j, i)."""
        return resample_array(self.values, self.geometry, target, outside=self.outside)


def box_of(points_lps: np.ndarray, target: Geometry) -> tuple[Slices, Geometry] | None:
    """The part of ``target`` that spans ``points_lps``: its (k, j, i) slices and its grid."""
    ijk = target.ijk_from_lps(points_lps)
    low = [max(math.floor(v), 0) for v in ijk.min(axis=0)]
    high = [min(math.ceil(v) + 1, n) for v, n in zip(ijk.max(axis=0), target.size, strict=True)]
    i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
    if any(s.stop <= s.start for s in (i, j, k)):
        return None
    size = (i.stop - i.start, j.stop - j.start, k.stop - k.start)
    return (k, j, i), target.crop((i.start, j.start, k.start), size)


@dataclass(frozen=True)
class Bend:
    """From patient to standard body: division by ``scale``, then a gentle displacement.

    ``waves`` holds, per axis, plane waves (wave vector in rad/mm, phase in rad) of 1 times
    ``amplitude_mm`` each.
    """

    scale: Vector
    amplitude_mm: float
    waves: tuple[tuple[tuple[Vector, float], ...], ...]

    @classmethod
    def random(cls, scale: Vector, amplitude_mm: float, rng: np.random.Generator) -> Bend:
        """Two waves of 180 to 400 mm per axis."""

        def wave() -> tuple[Vector, float]:
            vector = rng.normal(size=3)
            vector *= 2 * np.pi / rng.uniform(180, 400) / np.linalg.norm(vector)
            return (float(vector[0]), float(vector[1]), float(vector[2])), float(
                rng.uniform(0, 6.28)
            )

        return cls(scale, amplitude_mm, tuple((wave(), wave()) for _ in range(3)))


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points at which shapes are computed: RAS coordinates as broadcastable float32 arrays.

    ``x``, ``y``, ``z`` may be bent (see :meth:`bent`): then shapes are written in the coordinates
    of the standard body and come out deformed and scaled in the patient.
    """

    geometry: Geometry
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    @classmethod
    def around(cls, low: ArrayLike, high: ArrayLike, pitch_mm: float) -> Lattice:
        """Lattice from corner ``low`` to corner ``high`` (RAS mm)."""
        extent = np.subtract(high, low)
        centre = np.add(low, high) / 2
        size = np.ceil(extent / pitch_mm).astype(int) + 1
        geometry = centred_geometry(
            size, (pitch_mm,) * 3, (float(centre[0]), float(centre[1]), float(centre[2]))
        )
        x, y, z = coordinates(geometry)
        return cls(geometry, x, y, z)

    def bent(self, bend: Bend) -> Lattice:
        """The same points in the coordinates of the standard body."""
        axes = [
            a / np.float32(s) for a, s in zip((self.x, self.y, self.z), bend.scale, strict=True)
        ]
        out = []
        for axis, waves in zip(axes, bend.waves, strict=True):
            shift = np.zeros((1, 1, 1), np.float32)
            for wave, phase in waves:
                # A plane wave is a product of one-dimensional exponentials: no sine per point.
                fx, fy, fz = (
                    np.exp(1j * k * a.astype(float)).astype(np.complex64)
                    for k, a in zip(wave, axes, strict=True)
                )
                shift = shift + (np.complex64(np.exp(1j * phase)) * (fx * fy) * fz).real
            out.append(axis + np.float32(bend.amplitude_mm) * shift)
        return Lattice(self.geometry, out[0], out[1], out[2])

    def part(self, slices: Slices) -> Lattice:
        """The lattice within (k, j, i) ``slices``."""
        start = (slices[2].start, slices[1].start, slices[0].start)
        size = [s.stop - s.start for s in reversed(slices)]
        x, y, z = (
            array[
                tuple(s if n > 1 else slice(None) for s, n in zip(slices, array.shape, strict=True))
            ]
            for array in (self.x, self.y, self.z)
        )
        return Lattice(self.geometry.crop(start, (size[0], size[1], size[2])), x, y, z)

    @cached_property
    def _bounds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per array axis the smallest and greatest coordinate of each plane."""
        bounds = []
        for axis, array in enumerate((self.z, self.y, self.x)):
            others = tuple(a for a in range(3) if a != axis)
            bounds.append((array.min(axis=others), array.max(axis=others)))
        return bounds

    def box(self, low: ArrayLike, high: ArrayLike) -> Slices | None:
        """(k, j, i) slices that hold every point with coordinates from ``low`` to ``high``."""
        slices = []
        ends = zip(np.asarray(low)[::-1], np.asarray(high)[::-1], self._bounds, strict=True)
        for lowest, highest, (least, greatest) in ends:
            hit = np.flatnonzero((greatest >= lowest) & (least <= highest))
            if hit.size == 0:
                return None
            slices.append(slice(int(hit[0]), int(hit[-1]) + 1))
        return slices[0], slices[1], slices[2]

    def near(self, values: np.ndarray, limit_mm: float = FAR_MM / 2) -> Field:
        """Field of ``values`` cropped to the box in which they are below ``limit_mm``."""
        inside = values < limit_mm
        slices = []
        for axis in range(3):
            hit = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
            first, last = (int(hit[0]), int(hit[-1])) if hit.size else (0, 0)
            slices.append(slice(max(first - 1, 0), min(last + 2, values.shape[axis])))
        box = (slices[0], slices[1], slices[2])
        return Field(np.ascontiguousarray(values[box], np.float32), self.part(box).geometry)


def coordinates(geometry: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RAS x, y, z (float32) of the voxel centres of ``geometry``, broadcastable to (k, j, i)."""
    origin = geometry.ras_from_ijk(np.zeros(3))
    steps = []
    for axis, n in enumerate(geometry.size):
        ijk = np.zeros((n, 3))
        ijk[:, axis] = np.arange(n)
        across = [1, 1, 1, 3]
        across[2 - axis] = n
        steps.append((geometry.ras_from_ijk(ijk) - origin).reshape(across))
    out = []
    for component in range(3):
        total = np.full((1, 1, 1), origin[component])
        for step in steps:
            # An axis that does not move this coordinate must not blow up its array.
            if np.any(step[..., component]):
                total = total + step[..., component]
        out.append(total.astype(np.float32))
    return out[0], out[1], out[2]


def bounds_ras(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest RAS mm of the voxel centres of a grid along the patient's axes."""
    last = np.asarray(geometry.size) - 1
    low, high = np.sort(geometry.ras_from_ijk(np.array([last * 0, last])), axis=0)
    return low, high


def ellipsoid(at: Lattice, centre: ArrayLike, radii: ArrayLike) -> np.ndarray:
    """Approximate signed distance to an ellipsoid (first order in the distance)."""
    cx, cy, cz = np.asarray(centre, np.float32)
    a, b, c = np.asarray(radii, np.float32) ** -2
    xx, yy, zz = (at.x - cx) ** 2, (at.y - cy) ** 2, (at.z - cz) ** 2
    level = np.sqrt(xx * a + yy * b + zz * c)
    slope = np.sqrt(xx * (a * a) + yy * (b * b) + zz * (c * c))
    # The floor keeps the centre, where level and slope vanish, finite and deep inside.
    return level * (level - 1) / np.maximum(slope, np.float32(0.3) * np.sqrt(min(a, b, c)))


def ellipse(at: Lattice, centre: ArrayLike, radii: ArrayLike) -> np.ndarray:
    """Approximate signed distance to an upright elliptic cylinder; ``centre`` is (x, y)."""
    cx, cy = np.asarray(centre, np.float32)
    a, b = np.asarray(radii, np.float32) ** -2
    xx, yy = (at.x - cx) ** 2, (at.y - cy) ** 2
    level = np.sqrt(xx * a + yy * b)
    slope = np.sqrt(xx * (a * a) + yy * (b * b))
    return level * (level - 1) / np.maximum(slope, np.float32(0.3) * np.sqrt(min(a, b)))


def plane(at: Lattice, normal: ArrayLike, offset: float) -> np.ndarray:
    """Signed distance to the half space ``normal . p < offset``; ``normal`` is normalised here."""
    length = np.linalg.norm(normal)
    nx, ny, nz = (np.asarray(normal) / length).astype(np.float32)
    return at.x * nx + at.y * ny + at.z * nz - np.float32(offset / length)


def tube(at: Lattice, points: ArrayLike, radii: ArrayLike) -> np.ndarray:
    """Signed distance to a chain of cones with round ends, full lattice shape."""
    nodes, thickness = np.asarray(points, float), [float(r) for r in np.asarray(radii)]
    chain = zip(nodes[:-1], nodes[1:], thickness[:-1], thickness[1:], strict=True)
    return tubes(at, list(chain))


def tubes(at: Lattice, segments: Sequence[Segment]) -> np.ndarray:
    """Signed distance to cones with round ends; each is computed only near itself."""
    out = np.full(at.geometry.array_shape, FAR_MM, np.float32)
    for start, end, r0, r1 in segments:
        reach = max(r0, r1) + FAR_MM / 2
        box = at.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        if box is None:
            continue
        part = at.part(box)
        x0, y0, z0 = start.astype(np.float32)
        dx, dy, dz = part.x - x0, part.y - y0, part.z - z0
        axis = (end - start).astype(np.float32)
        length2 = np.float32(max(float(axis @ axis), 1e-6))
        along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / length2, 0, 1)
        dx, dy, dz = dx - along * axis[0], dy - along * axis[1], dz - along * axis[2]
        radius = np.float32(r0) + along * np.float32(r1 - r0)
        np.minimum(out[box], np.sqrt(dx * dx + dy * dy + dz * dz) - radius, out=out[box])
    return out


def smooth_union(a: np.ndarray, b: np.ndarray, blend_mm: float) -> np.ndarray:
    """Union of two shapes whose seam is rounded over ``blend_mm`` (polynomial smooth minimum)."""
    overlap = np.maximum(np.float32(blend_mm) - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap * np.float32(0.25 / blend_mm)


def smooth_intersection(a: np.ndarray, b: np.ndarray, blend_mm: float) -> np.ndarray:
    """Intersection of two shapes with a rounded edge."""
    return -smooth_union(-a, -b, blend_mm)


def smooth_noise(
    low: ArrayLike, high: ArrayLike, scale_mm: float, rng: np.random.Generator
) -> Field:
    """Random field of zero mean and unit variance from corner ``low`` to ``high`` (RAS mm).

    ``scale_mm`` is about the diameter of its blobs. Lattice pitch is a quarter of it, so that
    linear interpolation stays close to a smooth function.
    """
    from scipy.ndimage import gaussian_filter

    lattice = Lattice.around(low, high, scale_mm / 4)
    white = rng.standard_normal(lattice.geometry.array_shape, dtype=np.float32)
    values = gaussian_filter(white, 1.4, mode="wrap")
    return Field((values - values.mean()) / values.std(), lattice.geometry, outside=0.0)
