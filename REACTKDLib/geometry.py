"""The one owner of coordinate systems and axis order.

Conventions
-----------
- Files, SimpleITK and DICOM use LPS millimetres; Slicer and every number shown to a person use RAS
  millimetres. ``lps`` and ``ras`` stand in the names.
- Arrays are ``(k, j, i)``: slowest axis first, as ``SimpleITK.GetArrayFromImage`` gives them.
  Sizes, spacings and indices written as tuples are ``(i, j, k)``.
- The origin is the centre of voxel (0, 0, 0).

No other module flips an axis or multiplies by a direction matrix.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .errors import InputError

if TYPE_CHECKING:
    import SimpleITK

#: RAS = LPS_TO_RAS * LPS, element by element (and the reverse).
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])

IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

Vector = tuple[float, float, float]
Index = tuple[int, int, int]

_ORTHONORMAL_TOLERANCE = 1e-3

#: Moves sample points off the exact middle between voxels, where nearest neighbour would depend on
#: the direction in which the image happens to be stored. mm, along L, P, S.
_TIE_BREAK_MM = np.array([0.00137, 0.00171, 0.00193])


@dataclass(frozen=True)
class Geometry:
    """A regular grid in patient space.

    Parameters
    ----------
    size : voxels along (i, j, k).
    spacing_mm : distance between voxel centres along (i, j, k), mm.
    origin_lps : centre of voxel (0, 0, 0), LPS mm.
    direction_lps : 9 cosines, row-major as in SimpleITK; column a is the unit vector of axis a.

    Raises
    ------
    InputError : a size below 1, a spacing that is not positive and finite, a direction matrix that
        is not orthonormal, an origin that is not finite.
    """

    size: Index
    spacing_mm: Vector
    origin_lps: Vector
    direction_lps: tuple[float, ...] = IDENTITY_DIRECTION

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.size):
            raise InputError(f"The image size {self.size} has an empty axis.", "Export it again.")
        if not all(math.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise InputError(
                f"The voxel spacing {self.spacing_mm} mm is not positive.",
                "Repair the image header, or export the image again.",
            )
        if not all(math.isfinite(o) for o in self.origin_lps):
            raise InputError(
                f"The image origin {self.origin_lps} mm is not finite.", "Repair the image header."
            )
        matrix = self.direction_matrix
        if not np.allclose(matrix.T @ matrix, np.eye(3), atol=_ORTHONORMAL_TOLERANCE):
            rows = [[round(float(v), 4) for v in row] for row in matrix]
            raise InputError(
                f"The image axes are not orthonormal: direction matrix {rows}.",
                "Resample the image to a rectangular grid (gantry tilt and shear are not"
                " supported), for instance with Slicer's Resample modules.",
            )

    @property
    def direction_matrix(self) -> np.ndarray:
        """3x3 matrix whose columns are the unit vectors of axes i, j, k in LPS."""
        return np.asarray(self.direction_lps, dtype=float).reshape(3, 3)

    @property
    def array_shape(self) -> Index:
        """Shape of the matching array, (k, j, i)."""
        return (self.size[2], self.size[1], self.size[0])

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, ml."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def ijk_to_lps_matrix(self) -> np.ndarray:
        """4x4 affine from (i, j, k, 1) to LPS mm."""
        affine = np.eye(4)
        affine[:3, :3] = self.direction_matrix * np.asarray(self.spacing_mm)
        affine[:3, 3] = self.origin_lps
        return affine

    @property
    def kji_to_lps_matrix(self) -> np.ndarray:
        """4x4 affine from array indices (k, j, i, 1) to LPS mm."""
        return self.ijk_to_lps_matrix[:, [2, 1, 0, 3]]

    @property
    def ijk_to_ras_matrix(self) -> np.ndarray:
        """4x4 affine from (i, j, k, 1) to RAS mm, as ``vtkMRMLVolumeNode.GetIJKToRASMatrix``."""
        return np.diag([*LPS_TO_RAS, 1.0]) @ self.ijk_to_lps_matrix

    def lps_from_ijk(self, ijk: np.ndarray) -> np.ndarray:
        """LPS mm of continuous (i, j, k) indices, shape (..., 3)."""
        affine = self.ijk_to_lps_matrix
        return np.asarray(ijk, dtype=float) @ affine[:3, :3].T + affine[:3, 3]

    def ras_from_ijk(self, ijk: np.ndarray) -> np.ndarray:
        """RAS mm of continuous (i, j, k) indices, shape (..., 3)."""
        return self.lps_from_ijk(ijk) * LPS_TO_RAS

    def ras_offsets(self, kji: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[np.ndarray]:
        """R, A and S, mm from voxel (0, 0, 0), of the voxels with the indices ``kji`` (n,) each.

        As :meth:`ras_from_ijk` but for the origin, axis by axis: quick for millions of voxels.
        """
        k, j, i = kji
        return [
            np.asarray(sum(step * n for step, n in zip(row, (i, j, k), strict=True) if step))
            for row in self.ijk_to_ras_matrix[:3, :3].tolist()
        ]

    def ijk_from_lps(self, lps: np.ndarray) -> np.ndarray:
        """Continuous (i, j, k) indices of LPS mm points, shape (..., 3)."""
        offset = np.asarray(lps, dtype=float) - np.asarray(self.origin_lps)
        return (offset @ self.direction_matrix) / np.asarray(self.spacing_mm)

    def ijk_from_ras(self, ras: np.ndarray) -> np.ndarray:
        """Continuous (i, j, k) indices of RAS mm points, shape (..., 3)."""
        return self.ijk_from_lps(np.asarray(ras, dtype=float) * LPS_TO_RAS)

    def crop(self, start: Index, size: Index) -> Geometry:
        """The same lattice from voxel ``start`` (i, j, k), ``size`` voxels long."""
        origin = self.lps_from_ijk(np.asarray(start))
        return Geometry(
            size=size,
            spacing_mm=self.spacing_mm,
            origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction_lps=self.direction_lps,
        )

    def crop_to(self, box: tuple[slice, slice, slice]) -> Geometry:
        """The same lattice inside ``box``, slices (k, j, i) of an array on this grid."""
        k, j, i = box
        return self.crop(
            (i.start, j.start, k.start), (i.stop - i.start, j.stop - j.start, k.stop - k.start)
        )

    def corners_lps(self) -> np.ndarray:
        """The 8 outer corners of the grid (voxel edges, not centres), shape (8, 3), LPS mm."""
        ends = [(-0.5, n - 0.5) for n in self.size]
        return self.lps_from_ijk(np.array(list(itertools.product(*ends))))

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """True when both grids have the same voxels (corners within ``tolerance_mm``)."""
        return self.size == other.size and bool(
            np.allclose(self.corners_lps(), other.corners_lps(), atol=tolerance_mm)
        )


def bounding_box(array: np.ndarray) -> tuple[slice, slice, slice] | None:
    """Slices (k, j, i) of the box around the nonzero voxels; None where all are zero."""
    if not array.any():
        return None

    def span(filled: ArrayLike) -> slice:
        places = np.flatnonzero(filled)
        return slice(int(places[0]), int(places[-1]) + 1)

    k = span(array.any(axis=(1, 2)))
    j = span(array[k].any(axis=(0, 2)))
    i = span(array[k, j].any(axis=(0, 1)))
    return (k, j, i)


def content_box(array: np.ndarray) -> tuple[slice, slice, slice]:
    """As :func:`bounding_box`, but the whole array where all voxels are zero."""
    k, j, i = array.shape
    return bounding_box(array) or (slice(0, k), slice(0, j), slice(0, i))


def array_on_same_voxels(
    array: np.ndarray, source: Geometry, target: Geometry
) -> np.ndarray | None:
    """``array`` (k, j, i) of ``source`` in the axis order and directions of ``target``, a view.

    None where the two grids do not have the same voxels (centres within a twentieth of a voxel).
    """
    step = np.linalg.inv(target.ijk_to_lps_matrix) @ source.ijk_to_lps_matrix
    axes = np.abs(step[:3, :3]).argmax(axis=1)  # of the target's axes: which of the source's
    if sorted(axes) != [0, 1, 2]:
        return None
    turned = np.transpose(array, [2 - int(axes[a]) for a in (2, 1, 0)])
    backwards = tuple(2 - a for a in range(3) if step[a, axes[a]] < 0)
    turned = np.flip(turned, backwards)
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in source.size])), dtype=float)
    found = target.ijk_from_lps(source.lps_from_ijk(corners))
    expected = corners[:, axes]
    for a in range(3):
        if step[a, axes[a]] < 0:
            expected[:, a] = source.size[axes[a]] - 1 - expected[:, a]
    if turned.shape != target.array_shape or not np.allclose(found, expected, rtol=0, atol=0.05):
        return None
    return turned


def geometry_from_ijk_to_ras(matrix: np.ndarray, size: Index) -> Geometry:
    """Geometry of a grid given its 4x4 IJK-to-RAS affine (Slicer's form).

    Raises
    ------
    InputError : as :class:`Geometry`, and for a singular matrix.
    """
    lps = np.diag([*LPS_TO_RAS, 1.0]) @ np.asarray(matrix, dtype=float)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    if not np.all(spacing > 0):
        raise InputError(
            f"The voxel spacing {tuple(spacing)} mm is not positive.", "Repair the volume."
        )
    direction = lps[:3, :3] / spacing
    return Geometry(
        size=size,
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin_lps=(float(lps[0, 3]), float(lps[1, 3]), float(lps[2, 3])),
        direction_lps=tuple(float(v) for v in direction.ravel()),
    )


def geometry_from_image(image: SimpleITK.Image) -> Geometry:
    """Geometry of a 3-D SimpleITK image (LPS)."""
    return Geometry(
        size=image.GetSize(),
        spacing_mm=image.GetSpacing(),
        origin_lps=image.GetOrigin(),
        direction_lps=image.GetDirection(),
    )


def image_from_array(array: np.ndarray, geometry: Geometry) -> SimpleITK.Image:
    """SimpleITK image of a (k, j, i) array on ``geometry``; the array is copied."""
    import SimpleITK as sitk

    if array.shape != geometry.array_shape:
        raise InputError(
            f"An array of shape {array.shape} does not fit a grid of shape {geometry.array_shape}.",
            "Arrays are (k, j, i).",
        )
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection(geometry.direction_lps)
    return image


def resample_array(
    array: np.ndarray,
    source: Geometry,
    target: Geometry,
    *,
    nearest: bool = False,
    outside: float = 0.0,
) -> np.ndarray:
    """Values of ``array`` (on ``source``) at the voxel centres of ``target``, shape (k, j, i).

    Linear interpolation gives float32; ``nearest`` keeps the array's type (labels),
    and a point midway between voxels goes the same way however the array is stored.
    ``outside`` fills points beyond the source's outermost voxel edges.
    """
    import SimpleITK as sitk

    origin = np.asarray(target.origin_lps) + (_TIE_BREAK_MM if nearest else 0.0)

    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.size)
    resampler.SetOutputSpacing(target.spacing_mm)
    resampler.SetOutputOrigin(origin.tolist())
    resampler.SetOutputDirection(target.direction_lps)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    resampler.SetDefaultPixelValue(outside)
    if not nearest:
        resampler.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayFromImage(resampler.Execute(image_from_array(array, source)))
