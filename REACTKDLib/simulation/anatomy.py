"""The simulated upper abdomen as implicit shapes in patient space.

Shapes are written in the coordinates of a standard body (RAS mm, spine at x = 0, hilum of the liver
near the origin, dome near z = 80) and bent into each patient. Distances are first-order accurate,
which is all that edges and thin shells need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .fields import (
    FAR_MM,
    Bend,
    Field,
    Lattice,
    bounds_ras,
    ellipse,
    ellipsoid,
    plane,
    smooth_intersection,
    smooth_noise,
    smooth_union,
    tube,
    tubes,
)
from .parameters import CaseParameters
from .trunk import paraspinal_muscles, ribs_5_to_12, spine, trunk
from .vessels import hepatic_tree, mesenteric_vessels, portal_tree, portal_trunk

PITCH_MM = 3.0
_VESSEL_PITCH_MM = 2.0
#: Half width and half depth of the muscular wall of the standard body.
_WALL_MM = (150.0, 100.0)
_BACK_MM = 92.0
#: The point about which the liver grows to the wanted volume.
_LIVER_ANCHOR = np.array([70.0, 5.0, 25.0])
#: Box around every liver (standard body).
_LIVER_BOX = ((-130.0, -110.0, -150.0), (170.0, 125.0, 130.0))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Signed-distance fields of the patient's structures, in painting order, and liver details.

    ``fixed`` stay still when the patient breathes (trunk, bones); ``organs`` move.
    ``liver`` is the unpainted shape used for labels; ``liver_points`` are RAS mm of lattice points
    inside it and ``liver_depth_mm`` their distance from its surface and from the vena cava.
    """

    fixed: dict[str, Field]
    organs: dict[str, Field]
    liver: Field
    liver_points: np.ndarray
    liver_depth_mm: np.ndarray


def build_anatomy(parameters: CaseParameters) -> Anatomy:
    """All structures of a patient; random details follow ``parameters.anatomy_seed``."""
    seeds = np.random.SeedSequence(parameters.anatomy_seed).spawn(4)
    bend_rng, vessel_rng, bowel_rng, surface_rng = (np.random.default_rng(s) for s in seeds)
    size = parameters.body_size
    bend = Bend.random((size, size, 0.5 + 0.5 * size), 2.5, bend_rng)
    half_x = (_WALL_MM[0] + 12) * size + parameters.fat_mm * 1.3 + 10
    half_y = (_WALL_MM[1] + 8) * size + parameters.fat_mm * 1.3 + 10
    plain = Lattice.around((-half_x, -half_y, -165.0), (half_x, half_y, 145.0), PITCH_MM)
    at = plain.bent(bend)

    wall = trunk(at, _WALL_MM[0], _WALL_MM[1], _BACK_MM)
    body = trunk(
        at,
        _WALL_MM[0] + 1.1 * parameters.fat_mm,
        _WALL_MM[1] + 0.8 * parameters.fat_mm,
        _BACK_MM + 0.6 * parameters.fat_mm,
    )
    column = ellipse(at, (0, -76), (46, 34))
    cavity = smooth_intersection(trunk(at, 139, 89, 83), -column, 12)

    stomach = _stomach(at)
    kidney_right = _tilted(at, (61, -50, -78), (27, 24, 54), 0.22)
    kidney_left = _tilted(at, (-63, -52, -62), (27, 24, 55), -0.22)
    gallbladder = _gallbladder(at)
    obstacles = np.minimum(np.minimum(stomach, kidney_right), ellipse(at, (0, -30), (33, 30)))
    obstacles = np.minimum(obstacles, gallbladder + 2)
    liver = _fitted_liver(at, cavity, obstacles, parameters, plain, surface_rng)

    left_dome = smooth_union(
        ellipsoid(at, (-72, -5, -30), (80, 95, 80)), ellipsoid(at, (0, 40, 0), (70, 60, 55)), 20
    )
    heart = np.maximum(ellipsoid(at, (-22, 38, 106), (62, 46, 46)), 4 - liver)
    lungs = _lungs(at, cavity, liver, left_dome, heart)
    spleen = _tilted(
        at,
        (-106, -34, 14),
        (25 * parameters.spleen, 46 * parameters.spleen, 52 * parameters.spleen),
        0.25,
    )
    spleen = np.maximum(smooth_intersection(spleen, cavity + 2, 8), -stomach + 2)
    spleen = np.maximum(smooth_intersection(spleen, 4 - kidney_left, 8), 3 - liver)

    fixed = {
        "body": body,
        "wall": wall,
        "cavity": cavity,
        "paraspinal": paraspinal_muscles(at, wall),
    }
    fixed |= {"column": ellipse(at, (0, -32), (21, 16.5)), **spine(at), "ribs": ribs_5_to_12(at)}
    colon, colon_gas, bowel = _bowel(at, cavity, bowel_rng)
    organs = {
        "lungs": lungs,
        "heart": heart,
        "heart_chambers": np.maximum(heart + 10, ellipsoid(at, (-20, 38, 112), (50, 34, 40))),
        "bowel": np.maximum(bowel, 3 - np.minimum(liver, stomach)),
        "colon": np.maximum(colon, 3 - np.minimum(liver, stomach)),
        "colon_gas": np.maximum(colon_gas, 6 - np.minimum(liver, stomach)),
        "mesentery": tubes(at, mesenteric_vessels(bowel_rng)),
        "pancreas": tube(
            at,
            [(30, 14, -58), (10, 16, -42), (-15, 10, -30), (-50, -6, -14), (-82, -22, 4)],
            (13, 10, 9, 9, 7),
        ),
        "stomach": stomach,
        "stomach_content": stomach + 5,
        "stomach_gas": np.maximum(stomach + 6, plane(at, (0.0, -1.0, 0.05), -38.0)),
        "oesophagus": tube(at, [(-8, -4, 160), (-12, 2, 75), (-38, 6, 52)], (8, 8, 9)),
        "spleen": spleen,
    }
    for side, kidney, x in (("right", kidney_right, 52.0), ("left", kidney_left, -54.0)):
        z = -78.0 if side == "right" else -62.0
        organs[f"kidney_{side}"] = kidney
        organs[f"kidney_{side}_medulla"] = kidney + 8
        organs[f"kidney_{side}_sinus"] = ellipsoid(at, (x, -44, z), (12, 12, 24))
    organs["liver"] = liver
    organs["gallbladder"] = gallbladder
    aorta_y = -15.0 + 11.0 + 1.5
    organs["aorta"] = tube(
        at,
        [
            (-12, aorta_y, -170),
            (-12, aorta_y, -50),
            (-15, aorta_y - 3, 0),
            (-19, -12, 60),
            (-23, -20, 160),
        ],
        (8.5, 9.5, 10.5, 11, 11.5),
    )
    organs["ivc"] = tube(
        at,
        [(19, -3, -170), (20, -2, -60), (24, -1, 0), (27, 5, 45), (22, 12, 72), (14, 18, 100)],
        (10, 11, 11, 12, 13, 13),
    )

    organs["portal_trunk"] = tubes(at, portal_trunk())
    named = {name: at.near(values) for name, values in organs.items() if values.min() < 0}
    liver_field = named["liver"]
    finer = Lattice.around(*bounds_ras(liver_field.geometry), _VESSEL_PITCH_MM).bent(bend)
    under_capsule = liver_field.over(finer.geometry) + 2
    for name, segments in (
        ("portal_vein", portal_tree(vessel_rng)),
        ("hepatic_veins", hepatic_tree(vessel_rng)),
    ):
        named[name] = finer.near(np.maximum(tubes(finer, segments), under_capsule))
    inside = liver < -1
    points = np.stack(np.broadcast_arrays(plain.x, plain.y, plain.z), axis=-1)[inside]
    return Anatomy(
        fixed={name: at.near(values) for name, values in fixed.items()},
        organs=named,
        liver=liver_field,
        liver_points=points,
        liver_depth_mm=np.minimum(-liver, organs["ivc"] - 2)[inside],
    )


def _tilted(
    at: Lattice, centre: Sequence[float], radii: Sequence[float], slope: float
) -> np.ndarray:
    """Ellipsoid whose upper end leans to the spine (``slope`` is dx per dz)."""
    leaning = Lattice(at.geometry, at.x + np.float32(slope) * (at.z - centre[2]), at.y, at.z)
    return ellipsoid(leaning, centre, radii)


def _stomach(at: Lattice) -> np.ndarray:
    return tube(
        at,
        [(-72, -18, 42), (-74, 12, 22), (-62, 40, -5), (-30, 58, -32), (8, 50, -38), (28, 34, -40)],
        (33, 31, 26, 20, 14, 10),
    )


def _gallbladder(at: Lattice) -> np.ndarray:
    return tube(at, [(32, 24, -24), (42, 40, -42), (50, 56, -58)], (5, 12, 15))


def _liver_shape(
    at: Lattice, cavity: np.ndarray, obstacles: np.ndarray, left_lobe: float, grow: float
) -> np.ndarray:
    """The liver grown by ``grow`` about its anchor, inside ``cavity``, outside ``obstacles``."""
    x, y, z = (
        np.float32(c) + (a - np.float32(c)) * np.float32(1 / grow)
        for a, c in zip((at.x, at.y, at.z), _LIVER_ANCHOR, strict=True)
    )
    own = Lattice(at.geometry, x, y, z)
    right = ellipsoid(own, (80, 2, -8), (74, 90, 90))
    # The left lobe thins towards its tip: its upper and lower faces converge to the left.
    taper = np.clip(1 + (x - 20) * np.float32(0.0035), 0.45, 1.2)
    tapered = Lattice(at.geometry, x, y - 52, (z - 30) / taper)
    left = ellipsoid(tapered, (8, 0, 0), (96 * left_lobe, 38, 36 * (0.5 + 0.5 * left_lobe)))
    shape = smooth_union(right, left, 25)
    shape = smooth_union(shape, ellipsoid(own, (12, 12, 22), (17, 13, 26)), 8)
    shape = smooth_intersection(shape, plane(own, (-0.55, -0.2, -0.8), 12.0), 22)
    slanted = Lattice(at.geometry, x, y + np.float32(0.3) * x, z)
    cuts = [
        ellipsoid(own, (-3, 80, 2), (4.5, 34, 36)),  # fissure of the round ligament
        ellipsoid(slanted, (3, 27, 24), (22, 2, 22)),  # fissure of the venous ligament
        ellipsoid(own, (20, 18, -20), (21, 13, 14)),  # hilum
    ]
    for cut in cuts:
        shape = smooth_intersection(shape, -cut, 6)
    shape = smooth_intersection(shape * np.float32(grow), cavity + 2, 10)
    return smooth_intersection(shape, 3 - obstacles, 8)


def _fitted_liver(
    at: Lattice,
    cavity: np.ndarray,
    obstacles: np.ndarray,
    parameters: CaseParameters,
    plain: Lattice,
    rng: np.random.Generator,
) -> np.ndarray:
    """Full-lattice liver distance whose volume is ``parameters.liver_volume_ml``.

    Cirrhosis adds nodules to the surface.
    """
    box = at.box(*_LIVER_BOX)
    assert box is not None
    part = at.part(box)
    bumps: np.ndarray | float = 0.0
    if parameters.cirrhosis > 0:
        low, high = bounds_ras(part.geometry)
        nodules = smooth_noise(low - 8, high + 8, 16.0, rng).over(part.geometry)
        bumps = nodules * np.float32(1.6 * parameters.cirrhosis)

    def shape(lattice: Lattice, step: int) -> Callable[[float], np.ndarray]:
        thin = (slice(None, None, step),) * 3
        sampled = Lattice(lattice.geometry, *(a[thin] for a in (lattice.x, lattice.y, lattice.z)))
        inner, hard = cavity[box][thin], obstacles[box][thin]
        return lambda grow: _liver_shape(sampled, inner, hard, parameters.left_lobe, grow)

    coarse = shape(part, 2)
    cell_ml = (2 * PITCH_MM) ** 3 / 1000
    low_grow, high_grow = 0.6, 1.6
    for _ in range(8):
        grow = (low_grow + high_grow) / 2
        volume = np.count_nonzero(coarse(grow) < 0) * cell_ml
        low_grow, high_grow = (
            (grow, high_grow) if volume < parameters.liver_volume_ml else (low_grow, grow)
        )
    out = np.full(at.geometry.array_shape, FAR_MM, np.float32)
    out[box] = shape(part, 1)((low_grow + high_grow) / 2) + bumps
    return out


def _lungs(
    at: Lattice, cavity: np.ndarray, liver: np.ndarray, left_dome: np.ndarray, heart: np.ndarray
) -> np.ndarray:
    """Lung bases: in the chest, above the costophrenic recess, outside dome and mediastinum."""
    recess = plane(at, (0.0, 0.38, -1.0), -14.0)
    under = np.minimum(smooth_union(liver, left_dome, 10), heart)
    mediastinum = np.minimum(
        ellipse(at, (-4, 5), (26, 60)),
        np.maximum(ellipsoid(at, (-15, 40, 110), (72, 58, 70)), -at.z + 50),
    )
    lungs = smooth_intersection(cavity + 1, 4 - under, 6)
    return smooth_intersection(np.maximum(lungs, recess), 3 - mediastinum, 6)


def _bowel(
    at: Lattice, cavity: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colon, the gas in it, and small-bowel loops below the liver."""
    frame = [
        (98, 15, -165),
        (92, 30, -118),
        (60, 62, -105),
        (0, 70, -98),
        (-60, 60, -80),
        (-104, 5, -38),
        (-112, -10, -165),
    ]
    path = np.asarray(frame) + rng.normal(scale=5, size=(len(frame), 3))
    colon = tube(at, path, rng.uniform(15, 21, len(frame)))
    gas = np.maximum(colon + 3, plane(at, (0.1, -1.0, 0.0), -rng.uniform(20, 55)))
    loops = np.full(at.geometry.array_shape, FAR_MM, np.float32)
    for _ in range(80):
        start = np.array([rng.uniform(-105, 65), rng.uniform(-8, 70), rng.uniform(-165, -42)])
        end = start + rng.normal(scale=(28, 14, 10))
        loops = np.minimum(loops, tube(at, [start, end], rng.uniform(9, 14, 2)))
    return np.maximum(colon, cavity + 3), np.maximum(gas, cavity + 6), np.maximum(loops, cavity + 4)
