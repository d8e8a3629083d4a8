"""Tumours and cysts as fields: where they fit into the liver and what their signs look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import OptionError
from ..geometry import Vector
from .anatomy import Anatomy
from .fields import FAR_MM, Field, Lattice, ellipsoid, smooth_noise
from .parameters import CaseParameters, Lesion

#: Peritumoral signs fade out over this distance from the margin (mm).
RIM_MM = 10.0
_CAPSULE_MM = 4.0
_LARGEST_PITCH_MM = 1.6


@dataclass(frozen=True, eq=False)
class LesionFields:
    """One lesion in patient space.

    ``shape`` : signed distance (mm) of the lesion with its satellites, clipped to the liver.
    ``necrosis``, ``capsule``, ``peritumoral`` : weights in [0, 1]. ``mosaic`` : zero mean, unit
    standard deviation in the lesion. ``centre_ras`` is where the lesion came to lie.
    """

    parameters: Lesion
    centre_ras: Vector
    shape: Field
    necrosis: Field
    capsule: Field
    peritumoral: Field
    mosaic: Field


def place_lesions(parameters: CaseParameters, anatomy: Anatomy) -> list[Vector]:
    """Centres (RAS mm) of the lesions, then of the cysts, as near as possible to where wanted.

    A centre lies deep enough for most of the lesion to fit and away from the earlier ones.
    """
    points, depth = anatomy.liver_points, anatomy.liver_depth_mm
    low, high = points.min(axis=0), points.max(axis=0)
    wanted = [(lesion.position, float(np.mean(lesion.radii_mm))) for lesion in parameters.lesions]
    wanted += [(cyst.position, cyst.radius_mm) for cyst in parameters.cysts]
    placed: list[tuple[np.ndarray, float]] = []
    for position, radius in wanted:
        target = low + np.asarray(position, np.float32) * (high - low)
        cost = np.linalg.norm(points - target, axis=1)
        cost += 8 * np.maximum(0, min(0.85 * radius, float(depth.max())) - depth)
        for centre, other in placed:
            gap = np.linalg.norm(points - centre, axis=1) - radius - other
            cost += 10 * np.maximum(0, 6 - gap)
        placed.append((points[int(np.argmin(cost))], radius))
    return [(float(c[0]), float(c[1]), float(c[2])) for c, _ in placed]


def build_lesion(
    lesion: Lesion, centre: Vector, liver: Field, taken: list[Field], rng: np.random.Generator
) -> LesionFields:
    """Fields of ``lesion`` at ``centre``, kept inside ``liver`` and off what is ``taken``.

    Raises
    ------
    OptionError : nothing of the lesion is left.
    """
    signs = lesion.signs
    mean_radius = float(np.mean(lesion.radii_mm))
    reach = 1.35 * max(lesion.radii_mm) + 14 + (12 if signs.satellites else 0)
    low, high = np.subtract(centre, reach), np.add(centre, reach)
    at = Lattice.around(low, high, min(_LARGEST_PITCH_MM, max(1.0, mean_radius / 10)))
    centred = Lattice(at.geometry, at.x - centre[0], at.y - centre[1], at.z - centre[2])

    def noise(scale_mm: float) -> np.ndarray:
        return smooth_noise(low - 4, high + 4, scale_mm, rng).over(at.geometry)

    bulges = noise(1.4 * mean_radius)
    lobules = noise(max(9.0, 0.45 * mean_radius))
    swelling = (0.05 + 0.07 * signs.irregularity) * mean_radius
    spikes = min(5.0, 0.2 * mean_radius) * signs.irregularity
    shape = ellipsoid(centred, (0, 0, 0), lesion.radii_mm) + swelling * bulges + spikes * lobules
    main = shape
    for _ in range(signs.satellites):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        radius = rng.uniform(3.5, 6.0)
        away = float(np.linalg.norm(direction * lesion.radii_mm)) + radius + rng.uniform(3, 8)
        shape = np.minimum(shape, ellipsoid(centred, away * direction, (radius,) * 3))
    liver_here = liver.over(at.geometry)
    limit = liver_here + 1.5
    parenchyma = np.clip(0.5 - liver_here, 0, 1)
    for occupied in taken:
        limit = np.maximum(limit, 2 - occupied.over(at.geometry))
    shape, main = np.maximum(shape, limit), np.maximum(main, limit)

    depth = np.maximum(-main, 0) / mean_radius
    core = depth + 0.16 * noise(max(8.0, 0.5 * mean_radius))
    inside = main < 0
    if not inside.any():
        raise OptionError(
            f"A lesion of radii {lesion.radii_mm} mm finds no room at {lesion.position}.",
            "Move it, or make it or its neighbours smaller.",
        )
    necrosis = np.zeros_like(main)
    if signs.necrosis > 0:
        edge = np.quantile(core[inside], 1 - signs.necrosis)
        necrosis = np.clip(0.5 + (core - edge) / 0.14, 0, 1) * np.clip(-main / 2, 0, 1)
    capsule = np.clip(1.3 - np.abs(main + 0.3 * _CAPSULE_MM) / (0.5 * _CAPSULE_MM), 0, 1)
    # The capsule is seldom closed: a slow noise opens it here and there.
    capsule *= np.clip(1.2 + 0.6 * noise(1.2 * mean_radius + 6), 0, 1) * parenchyma
    wedge = np.clip(0.9 + 0.5 * noise(0.9 * mean_radius + 8), 0, 1)
    fading = np.clip(1.4 * (1 - main / RIM_MM), 0, 1)
    peritumoral = np.where(main > 0, fading, 0) * wedge * parenchyma
    # Nodules of about 1 cm with plateaus inside: a squashed noise, not a cloudy one.
    mosaic = np.tanh(1.8 * noise(float(np.clip(0.5 * mean_radius, 8.0, 15.0))))
    mosaic = (mosaic - mosaic[inside].mean()) / max(float(mosaic[inside].std()), 1e-3)

    def weight(values: np.ndarray) -> Field:
        return Field(values.astype(np.float32), at.geometry, outside=0.0)

    return LesionFields(
        lesion,
        centre,
        Field(shape, at.geometry, outside=FAR_MM),
        weight(necrosis),
        weight(capsule),
        weight(peritumoral),
        weight(mosaic),
    )


def build_cyst(centre: Vector, radius_mm: float, liver: Field) -> Field:
    """Signed distance of a round cyst clipped to the liver."""
    reach = radius_mm + 6
    at = Lattice.around(np.subtract(centre, reach), np.add(centre, reach), 1.0)
    ball = ellipsoid(at, centre, (radius_mm,) * 3)
    return Field(np.maximum(ball, liver.over(at.geometry) + 1), at.geometry)
