"""Features of the shape of a region of interest.

Definitions: PyRadiomics 3.0.1. The surface is that of marching cubes through the middles between
voxels; where its cases are ambiguous, tables differ, and with them area and volume, by parts of a
percent.
"""

from __future__ import annotations

import contextlib

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

#: Name of the 2-D diameter in the planes across each array axis (k, j, i).
_PLANES = ("Maximum2DDiameterSlice", "Maximum2DDiameterColumn", "Maximum2DDiameterRow")


def shape(mask: np.ndarray, spacing_kji: tuple[float, float, float]) -> dict[str, float]:
    """Features of ``mask``, bool (k, j, i), with at least one voxel; mm, mm2, mm3."""
    from skimage.measure import marching_cubes

    spacing = np.asarray(spacing_kji, dtype=float)
    # On the grid of half voxels, so that vertices in one plane have exactly the same coordinate.
    vertices, faces, _, _ = marching_cubes(
        (~np.pad(mask, 1)).astype(np.float32), 0.5, method="lorensen", allow_degenerate=False
    )
    half = np.rint(vertices * 2).astype(int)
    points = half * (spacing / 2)
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    area = float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)
    volume = abs(float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6))
    voxels = np.argwhere(mask) * spacing
    covariance = np.cov(voxels.T, bias=True) if len(voxels) > 1 else np.zeros((3, 3))
    least, minor, major = np.maximum(np.linalg.eigvalsh(covariance), 0)
    with np.errstate(invalid="ignore"):  # one voxel: 0 / 0 is NaN
        elongation, flatness = np.sqrt(minor / major), np.sqrt(least / major)
    values = {
        "Elongation": elongation,
        "Flatness": flatness,
        "LeastAxisLength": 4 * np.sqrt(least),
        "MajorAxisLength": 4 * np.sqrt(major),
        "Maximum3DDiameter": _diameter(points),
        "MeshVolume": volume,
        "MinorAxisLength": 4 * np.sqrt(minor),
        "Sphericity": (36 * np.pi * volume**2) ** (1 / 3) / area,
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "VoxelVolume": len(voxels) * float(np.prod(spacing)),
    }
    for axis, name in enumerate(_PLANES):
        values[name] = _largest_in_a_plane(half[:, axis], np.delete(points, axis, axis=1))
    return values


def _largest_in_a_plane(plane: np.ndarray, points: np.ndarray) -> float:
    """Largest diameter of the points (n, 2) that share a ``plane`` (n,)."""
    order = np.argsort(plane, kind="stable")
    starts = np.flatnonzero(np.diff(plane[order])) + 1
    return max(_diameter(points[part]) for part in np.split(order, starts))


def _diameter(points: np.ndarray) -> float:
    """Largest distance between two of the points (n, 2 or 3); 0 for one point."""
    if len(points) > 16:
        with contextlib.suppress(QhullError):  # all on a line or a plane: nothing to leave out
            points = points[ConvexHull(points).vertices]
    return float(pdist(points).max()) if len(points) > 1 else 0.0
