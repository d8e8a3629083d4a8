"""The parts of the simulated trunk that stay still while breathing: wall, muscles, bones."""

from __future__ import annotations

import numpy as np

from .fields import (
    FAR_MM,
    Lattice,
    ellipse,
    plane,
    smooth_intersection,
    tube,
)

_VERTEBRA_PERIOD_MM = 34.0


def trunk(at: Lattice, half_width: float, half_depth: float, back: float) -> np.ndarray:
    """Oval cross-section with a flat back that narrows slightly towards the waist."""
    narrowing = 1 + np.float32(0.0004) * np.clip(at.z, -150, 100)
    narrow = Lattice(at.geometry, at.x / narrowing, at.y, at.z)
    return smooth_intersection(
        ellipse(narrow, (0, 0), (half_width, half_depth)), plane(at, (0, -1, 0), back), 30
    )


def paraspinal_muscles(at: Lattice, wall: np.ndarray) -> np.ndarray:
    """Erector spinae, psoas and the crura of the diaphragm."""
    muscles = np.minimum(ellipse(at, (35, -70), (27, 20)), ellipse(at, (-35, -70), (27, 20)))
    for side in (1, -1):
        psoas = tube(at, [(side * 34, -34, -50), (side * 42, -30, -170)], (5, 24))
        crus = tube(
            at, [(side * 12, 4, 70), (side * 18 - 3, -10, 0), (side * 12, -14, -60)], (4, 6, 4)
        )
        muscles = np.minimum(muscles, np.minimum(psoas, crus))
    return np.maximum(muscles, wall + 1)


def spine(at: Lattice) -> dict[str, np.ndarray]:
    """Vertebrae at a fixed period; the elliptic column between them is disc."""
    period = np.float32(_VERTEBRA_PERIOD_MM)
    height = at.z - period * np.round(at.z / period)

    def slab(shape: np.ndarray, middle: float, half: float) -> np.ndarray:
        return smooth_intersection(shape, np.abs(height - np.float32(middle)) - np.float32(half), 3)

    waist = Lattice(at.geometry, at.x / (0.92 + 0.0006 * height**2), at.y, at.z)
    vertebra = slab(ellipse(waist, (0, -32), (23, 17.5)), 0, 13)
    canal = ellipse(at, (0, -58), (11, 8.5))
    arch = np.maximum(slab(ellipse(at, (0, -58), (18, 14)), -3, 10), -canal)
    pedicles = [ellipse(at, (side * 14, -50), (4, 9)) for side in (1, -1)]
    arch = np.minimum(arch, slab(np.minimum(*pedicles), 5, 6))
    arch = np.minimum(arch, slab(ellipse(at, (0, -82), (3.5, 15)), -8, 9))
    transverse = np.minimum(ellipse(at, (27, -60), (15, 4.5)), ellipse(at, (-27, -60), (15, 4.5)))
    arch = np.minimum(arch, slab(transverse, 4, 5))
    return {"canal": canal, "vertebrae": np.minimum(vertebra, arch)}


def ribs_5_to_12(at: Lattice) -> np.ndarray:
    """Ribs 5 to 12: arcs in the wall that fall from the spine to the front."""
    ribs = np.full(at.geometry.array_shape, FAR_MM, np.float32)
    for number in range(5, 13):
        top = 38.0 + (10 - number) * 28.0
        end = {12: 1.1, 11: 1.6}.get(number, 2.55)
        angles = np.linspace(0.32, end, 10)
        fall = 78.0 * (angles - angles[0]) / 2.2 - 8.0 * np.sin(np.pi * (angles - 0.32) / 2.2)
        for side in (1, -1):
            points = np.column_stack(
                [
                    side * 143.5 * np.sin(angles),
                    -88.0 * np.cos(angles) * _flat_back(angles),
                    top - fall,
                ]
            )
            ribs = np.minimum(ribs, tube(at, points, np.full(len(angles), 4.6)))
    return ribs


def _flat_back(angles: np.ndarray) -> np.ndarray:
    """Factor that keeps the rib arcs inside the flat back of the trunk."""
    return np.where(np.cos(angles) > 0, 1 - 0.1 * np.cos(angles) ** 4, 1.02)
