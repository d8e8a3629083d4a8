"""The planes that the page shows: axial, coronal and sagittal through one point, in patient axes.

The CT may be oblique; the page never is: left of the picture is the patient's right or front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..geometry import Geometry, Vector, content_box, resample_array
from .source import CtSource

#: Around the regions, mm.
_MARGIN_MM = 35.0
_OUTSIDE_HU = -1024.0

#: Picture axes in LPS: to the right, downwards, and into the picture.
_AXES: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "axial": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "regions": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "coronal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
}


@dataclass(frozen=True, eq=False)
class Plane:
    """Arrays (rows, columns) of one plane: HU, attention, region labels; mm per pixel."""

    name: str
    hu: np.ndarray
    attention: np.ndarray
    labels: np.ndarray
    mm_per_pixel: float
    #: Where the plane lies, RAS mm along its normal.
    position_mm: float


def key_point(attention: np.ndarray, labels: np.ndarray, geometry: Geometry) -> Vector:
    """LPS mm of the greatest attention for the class; of the regions' middle where there is none.

    Arrays (k, j, i).
    """
    if attention.max() > 0:
        k, j, i = np.unravel_index(int(attention.argmax()), attention.shape)
        place = np.array([i, j, k], dtype=float)
    else:
        k, j, i = ((s.start + s.stop - 1) / 2 for s in content_box(labels))
        place = np.array([i, j, k])
    point = geometry.lps_from_ijk(place)
    return (float(point[0]), float(point[1]), float(point[2]))


def cut_planes(
    source: CtSource,
    attention: np.ndarray,
    labels: np.ndarray,
    sizes: Mapping[str, tuple[int, int]],
) -> list[Plane]:
    """The planes named in ``sizes`` (width, height in pixels), each filled as well as it can be.

    ``attention`` and ``labels`` (k, j, i) lie on the grid of the source.
    """
    geometry = source.geometry
    box = content_box(labels)
    inner = geometry.crop_to(box)
    middle = inner.corners_lps().mean(axis=0)
    half = np.abs(inner.corners_lps() - middle).max(axis=0) + _MARGIN_MM
    point = np.array(key_point(attention, labels, geometry))
    planes = []
    for name, (width, height) in sizes.items():
        right, down, normal = (np.array(axis, dtype=float) for axis in _AXES[name])
        step = 2 * max(np.abs(right) @ half / width, np.abs(down) @ half / height)
        centre = middle + normal * ((point - middle) @ normal)
        origin = centre - step * (right * (width - 1) + down * (height - 1)) / 2
        view = Geometry(
            size=(width, height, 1),
            spacing_mm=(step, step, 1.0),
            origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction_lps=tuple(np.stack([right, down, normal], axis=1).ravel().tolist()),
        )
        planes.append(
            Plane(
                name,
                resample_array(source.hu, geometry, view, outside=_OUTSIDE_HU)[0],
                resample_array(attention, geometry, view)[0],
                resample_array(labels, geometry, view, nearest=True)[0],
                float(step),
                float((point * (-1, -1, 1)) @ np.abs(normal)),
            )
        )
    return planes
