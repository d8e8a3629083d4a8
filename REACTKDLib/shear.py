"""A stack of slices shifted evenly against each other, as a rectangular volume.

A CT taken with a tilted gantry has parallel slices whose planes are not perpendicular to the
table: each begins a step further along its rows or columns. Every voxel centre of the rectangular
grid lies exactly in the plane of one slice, so that only values within that slice are interpolated.
"""

from __future__ import annotations

import math

import numpy as np

from .geometry import Geometry

#: CT gantries tilt by up to 30 degrees; more is no tilt but another error.
MAX_TILT_DEGREES = 31.0


def sheared_geometry(straight: Geometry, shear: tuple[float, float]) -> Geometry:
    """The rectangular grid that holds every slice.

    Parameters
    ----------
    straight : the grid on which all slices would lie above the first.
    shear : what each slice is shifted against the one before it along (i, j), mm.
    """
    start, size = [0, 0, 0], list(straight.size)
    for axis, step in enumerate(shear):
        shift = step * (straight.size[2] - 1) / straight.spacing_mm[axis]
        start[axis] = math.floor(min(shift, 0.0))
        size[axis] += math.ceil(max(shift, 0.0)) - start[axis]
    return straight.crop((start[0], start[1], start[2]), (size[0], size[1], size[2]))


def unshear(array: np.ndarray, geometry: Geometry, shear: tuple[float, float]) -> np.ndarray:
    """The slices of ``array`` (k, j, i) on ``geometry``, a :func:`sheared_geometry`.

    Linear within the slice; integers are rounded. Around the slices lies the array's smallest value
    (air in a CT).
    """
    if shear == (0.0, 0.0):
        return array
    outside = array.min()
    result = np.full(geometry.array_shape, outside, array.dtype)
    count = len(array)
    for k, plane in enumerate(array):
        values = plane.astype(np.float32)
        for axis, step in ((1, shear[0]), (0, shear[1])):
            spacing = geometry.spacing_mm[1 - axis]
            start = math.floor(min(step * (count - 1) / spacing, 0.0))
            size = geometry.array_shape[1 + axis]
            values = _shifted(values, axis, step * k / spacing - start, size, float(outside))
        result[k] = np.rint(values) if array.dtype.kind in "iu" else values
    return result


def _shifted(plane: np.ndarray, axis: int, by: float, size: int, outside: float) -> np.ndarray:
    """``plane`` moved ``by`` pixels (>= 0) along ``axis`` into ``size`` pixels, linearly."""
    whole = math.floor(by + 1e-6)
    part = max(by - whole, 0.0)
    moved = np.moveaxis(plane, axis, 0)
    padded = np.full((size + 1, *moved.shape[1:]), outside, np.float32)
    padded[whole + 1 : whole + 1 + len(moved)] = moved
    # Pixel n of the result lies between pixels n - whole - 1 and n - whole of the plane.
    return np.moveaxis((1 - part) * padded[1:] + part * padded[:-1], 0, axis)
