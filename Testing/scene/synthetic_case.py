"""A hand-made case with known answers: a liver-like ellipsoid with two lesions in a simple body.

Everything is defined by formulas in RAS mm and sampled on an oblique, anisotropic, asymmetric CT
grid, so that a wrong axis, sign or matrix shows.
"""

from __future__ import annotations

import numpy as np

from REACTKDLib.geometry import Geometry
from REACTKDLib.types import (
    CaseResult,
    ClassInfo,
    Edge,
    Notice,
    Region,
    RegionGraph,
    RegionShare,
    Volume,
)

LIVER_CENTRE = np.array([45.0, 12.0, 20.0])  # RAS mm
LIVER_RADII = np.array([95.0, 75.0, 62.0])
LESIONS = {  # centre RAS mm, radius mm
    "lesion-1": (np.array([72.0, -2.0, 28.0]), 19.0),
    "lesion-2": (np.array([8.0, 42.0, 8.0]), 11.0),
}
ATTENTION_PEAK_RAS = LESIONS["lesion-1"][0]
SHARES = {
    "lesion-1": 1.35,
    "lesion-2": 0.42,
    "rim-1": 0.31,
    "rim-2": -0.12,
    "parenchyma-right-upper": 0.08,
    "parenchyma-right-lower": -0.46,
    "parenchyma-left-upper": 0.05,
    "parenchyma-left-lower": -0.21,
}
NAMES = {
    "lesion-1": "Lesion 1",
    "lesion-2": "Lesion 2",
    "rim-1": "Rim of lesion 1",
    "rim-2": "Rim of lesion 2",
    "parenchyma-right-upper": "Right upper",
    "parenchyma-right-lower": "Right lower",
    "parenchyma-left-upper": "Left upper",
    "parenchyma-left-lower": "Left lower",
}


def oblique_geometry(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    """A grid rotated about all three axes, centred near the body's centre."""
    a, b, c = np.deg2rad([7.0, -5.0, 11.0])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    direction = rz @ ry @ rx
    half = direction @ (np.asarray(spacing) * (np.asarray(size) - 1) / 2)
    centre_lps = np.array([-12.0, 3.0, 10.0])
    origin = centre_lps - half
    return Geometry(
        size=size,
        spacing_mm=spacing,
        origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction_lps=tuple(float(v) for v in direction.ravel()),
    )


def _voxel_centres_ras(geometry: Geometry) -> np.ndarray:
    """RAS mm of every voxel centre, shape (k, j, i, 3)."""
    k, j, i = np.indices(geometry.array_shape)
    return geometry.ras_from_ijk(np.stack([i, j, k], axis=-1))


def _ellipsoid(ras: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Normalised squared distance: below 1 inside."""
    return (((ras - centre) / radii) ** 2).sum(axis=-1)


def make_ct(geometry: Geometry, seed: int = 3) -> Volume:
    """A body with fat, spine, ribs-free soft tissue, liver and lesions, HU with noise."""
    ras = _voxel_centres_ras(geometry)
    body = _ellipsoid(ras, np.array([12.0, 0.0, 0.0]), np.array([165.0, 115.0, 1e4]))
    hu = np.full(geometry.array_shape, -1000.0)
    hu[body < 1.0] = -100.0
    hu[body < 0.82] = 45.0
    hu[_ellipsoid(ras, np.array([12.0, -72.0, 0.0]), np.array([21.0, 17.0, 1e4])) < 1] = 320.0
    hu[_ellipsoid(ras, np.array([-14.0, -38.0, 0.0]), np.array([11.0, 11.0, 1e4])) < 1] = 160.0
    liver = _ellipsoid(ras, LIVER_CENTRE, LIVER_RADII)
    hu[liver < 1] = 105.0
    for centre, radius in LESIONS.values():
        hu[np.linalg.norm(ras - centre, axis=-1) < radius] = 62.0
    hu += np.random.default_rng(seed).normal(0, 9, hu.shape)
    return Volume(np.clip(hu, -1024, 1500).astype(np.int16), geometry, "CT")


def make_region_labels(geometry: Geometry) -> tuple[Volume, dict[str, int]]:
    """Region labelmap and label by region id; rims are shells of 10 mm inside the liver."""
    ras = _voxel_centres_ras(geometry)
    labels = np.zeros(geometry.array_shape, dtype=np.uint8)
    label_of = {region_id: number for number, region_id in enumerate(SHARES, start=1)}
    liver = _ellipsoid(ras, LIVER_CENTRE, LIVER_RADII) < 1
    right = ras[..., 0] > LIVER_CENTRE[0]
    upper = ras[..., 2] > LIVER_CENTRE[2]
    for side, side_mask in (("right", right), ("left", ~right)):
        for height, height_mask in (("upper", upper), ("lower", ~upper)):
            labels[liver & side_mask & height_mask] = label_of[f"parenchyma-{side}-{height}"]
    for number, (centre, radius) in enumerate(LESIONS.values(), start=1):
        distance = np.linalg.norm(ras - centre, axis=-1)
        labels[liver & (distance < radius + 10)] = label_of[f"rim-{number}"]
        labels[distance < radius] = label_of[f"lesion-{number}"]
    return Volume(labels, geometry, "Regions"), label_of


def make_attention(geometry: Geometry) -> Volume:
    """A positive blob with its peak at the centre of lesion 1, a weaker one, and a negative one."""
    ras = _voxel_centres_ras(geometry)

    def blob(centre: np.ndarray, width: float) -> np.ndarray:
        return np.exp(-((ras - centre) ** 2).sum(axis=-1) / (2 * width**2))

    liver = _ellipsoid(ras, LIVER_CENTRE, LIVER_RADII) < 1.15
    density = (
        40 * blob(ATTENTION_PEAK_RAS, 17)
        + 19 * blob(LESIONS["lesion-2"][0], 13)
        - 12 * blob(np.array([85.0, 10.0, -25.0]), 20)
    )
    return Volume((density * liver).astype(np.float32), geometry, "Attention")


def make_case(
    size: tuple[int, int, int] = (96, 82, 52),
    spacing: tuple[float, float, float] = (3.7, 3.1, 4.3),
    case_id: str = "synthetic",
    names: dict[str, str] | None = None,
) -> tuple[Volume, CaseResult]:
    """CT and case result on one oblique grid."""
    geometry = oblique_geometry(size, spacing)
    ct = make_ct(geometry)
    region_labels, label_of = make_region_labels(geometry)
    attention = make_attention(geometry)
    centres = _voxel_centres_ras(geometry)
    regions, shares = [], []
    for region_id, share in SHARES.items():
        mask = region_labels.array == label_of[region_id]
        hu = ct.array[mask].astype(float)
        volume = float(mask.sum() * geometry.voxel_volume_ml)
        centre = centres[mask].mean(axis=0)
        kind = region_id.split("-")[0]
        regions.append(
            Region(
                id=region_id,
                name=(names or NAMES)[region_id],
                kind=kind,
                label=label_of[region_id],
                volume_ml=volume,
                centroid_ras=(float(centre[0]), float(centre[1]), float(centre[2])),
                mean_hu=float(hu.mean()),
                sd_hu=float(hu.std()),
                longest_diameter_mm=2 * LESIONS[region_id][1] if kind == "lesion" else None,
            )
        )
        thirds = {"well": -share / 3, "moderate": 2 * share / 3, "poor": -share / 3}
        shares.append(RegionShare(region_id, share, share / volume, thirds, 0.5 + share / 4))
    return ct, CaseResult(
        case_id=case_id,
        task_title="HCC grade",
        classes=(
            ClassInfo("well", "Well differentiated"),
            ClassInfo("moderate", "Moderately differentiated"),
            ClassInfo("poor", "Poorly differentiated"),
        ),
        probabilities={"well": 0.12, "moderate": 0.71, "poor": 0.17},
        logits={"well": -0.5, "moderate": 1.28, "poor": -0.15},
        bias={"well": 0.0, "moderate": 0.1, "poor": -0.1},
        target="moderate",
        scheme="anatomical",
        regions=tuple(regions),
        shares=tuple(shares),
        outside_share=-0.03,
        outside_logit_shares={"well": 0.01, "moderate": -0.02, "poor": 0.01},
        contrast=sum(SHARES.values()) - 0.03 + 0.2,
        reference_contrast=0.2,
        graph=_make_graph(tuple(regions)),
        attention=attention,
        region_labels=region_labels,
        modalities=("ct",),
        simulated_model=True,
        notices=(Notice("reference_distance", "warning", "This CT is unlike the training set."),),
    )


def _make_graph(regions: tuple[Region, ...]) -> RegionGraph:
    touching = {
        ("lesion-1", "rim-1"),
        ("lesion-2", "rim-2"),
        ("rim-1", "parenchyma-right-upper"),
        ("rim-1", "parenchyma-right-lower"),
        ("rim-2", "parenchyma-left-lower"),
        ("parenchyma-right-upper", "parenchyma-left-upper"),
        ("parenchyma-right-upper", "parenchyma-right-lower"),
        ("parenchyma-left-upper", "parenchyma-left-lower"),
        ("parenchyma-right-lower", "parenchyma-left-lower"),
    }
    features = np.random.default_rng(11).normal(size=(len(regions), 16)).astype(np.float32)
    features[0] = features[1] + 0.2 * features[0]  # the two lesions look alike
    edges = []
    for a, first in enumerate(regions):
        for b in range(a + 1, len(regions)):
            second = regions[b]
            ids = (first.id, second.id)
            contact = 350.0 if ids in touching or ids[::-1] in touching else 0.0
            cosine = features[a] @ features[b]
            cosine /= np.linalg.norm(features[a]) * np.linalg.norm(features[b])
            distance = np.linalg.norm(np.subtract(first.centroid_ras, second.centroid_ras))
            edges.append(Edge(first.id, second.id, float(cosine), contact, float(distance)))
    return RegionGraph(tuple(r.id for r in regions), features, tuple(edges))
