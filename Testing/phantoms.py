"""Phantoms given by formulas in RAS mm, sampled on any grid: the truth is known without REACTKD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from REACTKDLib.geometry import Geometry, Vector, image_from_array
from REACTKDLib.types import Segment, Segmentation, Study, Volume

LIVER, LESION = Segment(1, "liver", "liver"), Segment(2, "lesion", "lesion")


def rotation(about_x: float, about_y: float, about_z: float) -> np.ndarray:
    """Rotation matrix about x, then y, then z; degrees."""
    x, y, z = np.radians([about_x, about_y, about_z])
    rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return rz @ ry @ rx


def grid_around(
    centre_ras: Vector,
    size: tuple[int, int, int],
    spacing_mm: Vector,
    angles: Vector = (0.0, 0.0, 0.0),
) -> Geometry:
    """A grid with its middle at ``centre_ras``, rotated by ``angles`` (degrees about x, y, z)."""
    direction = rotation(*angles)
    centre_lps = np.array(centre_ras) * (-1, -1, 1)
    origin = centre_lps - direction @ (np.array(spacing_mm) * (np.array(size) - 1) / 2)
    return Geometry(size, spacing_mm, tuple(origin.tolist()), tuple(direction.ravel().tolist()))


def voxel_centres_ras(geometry: Geometry) -> np.ndarray:
    """RAS mm of every voxel, (k, j, i, 3), from the definition of a grid alone."""
    k, j, i = np.indices(geometry.array_shape)
    steps = np.stack([i, j, k], axis=-1) * np.array(geometry.spacing_mm)
    lps = steps @ np.array(geometry.direction_lps).reshape(3, 3).T + np.array(geometry.origin_lps)
    return lps * (-1, -1, 1)


@dataclass(frozen=True)
class Ellipsoid:
    """Half axes along R, A, S, mm."""

    centre_ras: Vector
    radii_mm: Vector

    def level(self, ras: np.ndarray) -> np.ndarray:
        """1 on the surface, below it inside."""
        return np.linalg.norm((ras - np.array(self.centre_ras)) / np.array(self.radii_mm), axis=-1)

    @property
    def volume_ml(self) -> float:
        return 4 / 3 * np.pi * float(np.prod(self.radii_mm)) / 1000


@dataclass(frozen=True)
class Phantom:
    """A body with a liver and lesions; smooth, so that interpolation hardly changes it."""

    liver: Ellipsoid = Ellipsoid((14.0, -9.0, 21.0), (62.0, 50.0, 44.0))
    lesions: tuple[Ellipsoid, ...] = (
        Ellipsoid((36.0, -18.0, 30.0), (17.0, 15.0, 16.0)),
        Ellipsoid((-16.0, 8.0, 14.0), (11.0, 12.0, 10.0)),
    )
    lesion_hu: float = 45.0

    def hu(self, ras: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(ras, -1, 0)
        values = 105 + 14 * np.sin(x / 19) * np.cos(y / 23) + 10 * np.sin(z / 17 + x / 31)
        values -= 40 * _outside(self.liver, ras, 5.0)
        for lesion in self.lesions:
            values += (self.lesion_hu - 105) * (1 - _outside(lesion, ras, 4.0))
        body = Ellipsoid((10.0, -6.0, 20.0), (105.0, 88.0, 400.0))
        return values - 1100 * _outside(body, ras, 4.0)

    def suv(self, ras: np.ndarray) -> np.ndarray:
        hot = sum(1 - _outside(lesion, ras, 8.0) for lesion in self.lesions)
        return 2.2 + 0.2 * np.sin(ras[..., 1] / 21) + 3.0 * hot - 1.5 * _outside(self.liver, ras, 9)

    def labels(self, ras: np.ndarray) -> np.ndarray:
        labels = (self.liver.level(ras) <= 1).astype(np.uint8)
        for lesion in self.lesions:
            labels[lesion.level(ras) <= 1] = 2
        return labels

    def study(
        self,
        ct: Geometry,
        segmentation: Geometry | None = None,
        pet: Geometry | None = None,
        tracers: tuple[str, ...] = ("pet_fdg",),
    ) -> Study:
        """CT, segmentation (by default on the CT's grid) and PET, each on its grid."""
        where = segmentation or ct
        volumes = {"ct": Volume(sample(self.hu, ct), ct, "CT")}
        if pet is not None:
            volumes |= {name: Volume(sample(self.suv, pet), pet, name) for name in tracers}
        labels = self.labels(voxel_centres_ras(where))
        return Study(volumes, Segmentation(labels, where, (LIVER, LESION)), "phantom")


def _outside(shape: Ellipsoid, ras: np.ndarray, width_mm: float) -> np.ndarray:
    """0 inside, 1 outside, with a smooth edge of about ``width_mm``."""
    distance = (shape.level(ras) - 1) * min(shape.radii_mm)
    return 1 / (1 + np.exp(-np.clip(4 * distance / width_mm, -50, 50)))


def sample(field: Callable[[np.ndarray], np.ndarray], geometry: Geometry) -> np.ndarray:
    return field(voxel_centres_ras(geometry)).astype(np.float32)


#: Oblique, anisotropic, asymmetric; covers the phantom's liver.
CT_GRID = grid_around((12.0, -8.0, 19.0), (47, 41, 27), (3.9, 4.2, 5.6), (6.0, -9.0, 14.0))
PET_GRID = grid_around((15.0, -3.0, 24.0), (33, 31, 29), (6.0, 6.0, 5.0), (0.0, 0.0, -4.0))

PHANTOM = Phantom()


def write_study(study: Study, folder: Path) -> dict[str, Path]:
    """NIfTI files of a study, by modality and ``segmentation``."""
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    arrays = {name: (v.array, v.geometry) for name, v in study.volumes.items()}
    arrays["segmentation"] = (study.segmentation.labels, study.segmentation.geometry)
    for name, (array, geometry) in arrays.items():
        paths[name] = folder / f"{name}.nii.gz"
        sitk.WriteImage(image_from_array(array, geometry), str(paths[name]))
    return paths
