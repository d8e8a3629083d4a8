"""The region of interest on the grid that radiomics are computed on.

The grid is PyRadiomics' (version 3.0.1): its corner is the corner of the CT, it runs along the CT's
axes, and an axis on which the region is one slice thick is not resampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..geometry import (
    Geometry,
    array_on_same_voxels,
    bounding_box,
    image_from_array,
    resample_array,
)
from ..types import Segmentation, Volume
from .radiomics_settings import RadiomicsSettings

#: Around the region this much of the CT is read for resampling, voxels: a spline's coefficients
#: forget what is farther away (below 1e-9 of it).
_REACH = 16

#: A voxel of the mask midway between two of the CT's (often so, from 5 to 2 mm) takes the later one
#: and not whichever rounding noise says: what is read there moves by this part of a voxel.
_TIE_BREAK = 1e-6


def region_of_interest(
    segmentation: Segmentation, ct: Geometry, settings: RadiomicsSettings
) -> np.ndarray:
    """Voxels of the settings' roles, bool (k, j, i) on the CT's grid.

    Raises
    ------
    InputError : no segment has one of the roles, or none of their voxels lies in the CT.
    """
    wanted = [n for role in settings.roles for n in segmentation.labels_of(role)]
    inside = np.isin(segmentation.labels, wanted)
    mask = array_on_same_voxels(inside, segmentation.geometry, ct)
    if mask is None:
        mask = resample_array(inside.astype(np.uint8), segmentation.geometry, ct, nearest=True) > 0
    if not mask.any():
        raise InputError(
            f"The segmentation has no voxel of the roles {', '.join(settings.roles)} in the CT:"
            " radiomics need a region of interest.",
            "Segment it, or name other roles in the radiomics settings.",
        )
    return mask


@dataclass(frozen=True, eq=False)
class RadiomicsRegion:
    """``image`` float64 HU and ``mask`` bool, (k, j, i) on ``geometry``: the region, padded.

    ``box`` : slices (k, j, i) around the region itself.
    """

    image: np.ndarray
    mask: np.ndarray
    geometry: Geometry
    box: tuple[slice, slice, slice]


def resampled_region(ct: Volume, mask: np.ndarray, settings: RadiomicsSettings) -> RadiomicsRegion:
    """The padded region of interest on the settings' grid.

    ``mask`` : bool (k, j, i) on the CT's grid.

    Raises
    ------
    InputError : the mask has another shape, is empty, or vanishes on the grid; the CT is not
        finite near it.
    """
    if mask.shape != ct.array.shape:
        raise InputError(
            f"A mask of shape {mask.shape} does not fit a CT of shape {ct.array.shape}.",
            "Put the mask on the CT's grid; arrays are (k, j, i).",
        )
    box = bounding_box(mask)
    if box is None:
        raise InputError(
            "The region of interest of the radiomics is empty.",
            "Segment it, or name other roles in the radiomics settings.",
        )
    grid = _grid(ct.geometry, box, settings)
    near = _near(ct.geometry, box, grid, settings.padding + _REACH)
    part = ct.geometry.crop_to(near)
    image, inside = ct.array[near].astype(np.float64), mask[near]
    if not np.isfinite(image).all():
        raise InputError(
            f"The CT has {np.count_nonzero(~np.isfinite(image))} voxels near the region of interest"
            " that are no finite numbers: radiomics cannot be computed.",
            "Export the CT again.",
        )
    if part.same_grid(grid):
        resampled, found = image, inside
    else:
        resampled = _resample(image, part, grid, settings.interpolation)
        resampled = np.trunc(resampled) if settings.whole_hu else resampled
        found = _resample(inside.astype(np.uint8), part, grid, "nearest") > 0
    inner = bounding_box(found)
    if inner is None:
        raise InputError(
            f"The region of interest, {np.count_nonzero(mask)} voxels, vanishes at the radiomics'"
            f" spacing of {settings.spacing_mm} mm.",
            "Give a smaller spacing_mm in the radiomics settings.",
        )
    return RadiomicsRegion(resampled, found, grid, inner)


def _grid(ct: Geometry, box: tuple[slice, slice, slice], settings: RadiomicsSettings) -> Geometry:
    first = np.array([side.start for side in box[::-1]])
    stop = np.array([side.stop for side in box[::-1]])
    size, old = np.array(ct.size), np.array(ct.spacing_mm)
    new = old if settings.spacing_mm is None else np.array(settings.spacing_mm)
    new = np.where(stop - first == 1, old, new)
    if np.allclose(new, old):
        start = np.maximum(first - settings.padding, 0)
        end = np.minimum(stop + settings.padding, size)
        k, j, i = (slice(int(a), int(b)) for a, b in zip(start[::-1], end[::-1], strict=True))
        return ct.crop_to((k, j, i))
    ratio = old / new
    start = np.maximum(np.floor((first - 0.5) * ratio - settings.padding), 0)
    last = np.ceil((stop - 0.5) * ratio + settings.padding)
    last = np.minimum(last, np.ceil(size * ratio) - 1)
    voxels = (last - start + 1).astype(int)
    origin = ct.lps_from_ijk(0.5 * (new - old) / old + start / ratio)
    return Geometry(
        size=(int(voxels[0]), int(voxels[1]), int(voxels[2])),
        spacing_mm=(float(new[0]), float(new[1]), float(new[2])),
        origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction_lps=ct.direction_lps,
    )


def _near(
    ct: Geometry, box: tuple[slice, slice, slice], grid: Geometry, reach: int
) -> tuple[slice, slice, slice]:
    """Slices (k, j, i) of the CT's voxels that the grid needs; exactly the grid where it is a part
    of the CT's."""
    corners = ct.ijk_from_lps(grid.corners_lps())
    low, high = corners.min(axis=0), corners.max(axis=0)
    same = np.allclose(grid.spacing_mm, ct.spacing_mm)
    start = np.rint(low + 0.5) if same else np.floor(low) - reach
    stop = np.rint(high + 0.5) if same else np.ceil(high) + reach + 1
    start, stop = np.maximum(start, 0).astype(int), np.minimum(stop, ct.size).astype(int)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(start[::-1], stop[::-1], strict=True))
    return (k, j, i)


def _resample(array: np.ndarray, source: Geometry, grid: Geometry, how: str) -> np.ndarray:
    """Values of ``array`` on ``grid``; ties of nearest neighbour as in PyRadiomics' tables."""
    import SimpleITK as sitk

    interpolators = {
        "bspline": sitk.sitkBSpline,
        "linear": sitk.sitkLinear,
        "nearest": sitk.sitkNearestNeighbor,
    }
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing_mm)
    origin = np.array(grid.origin_lps)
    if how == "nearest":
        origin += grid.direction_matrix @ (_TIE_BREAK * np.array(grid.spacing_mm))
    resampler.SetOutputOrigin(origin.tolist())
    resampler.SetOutputDirection(grid.direction_lps)
    resampler.SetInterpolator(interpolators[how])
    # The last layer of padding may end beyond the CT: there it repeats the CT's last voxels.
    resampler.SetUseNearestNeighborExtrapolator(how != "nearest" or array.dtype != np.uint8)
    return sitk.GetArrayFromImage(resampler.Execute(image_from_array(array, source)))
