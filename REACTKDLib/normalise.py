"""From volumes in HU and SUV to what the network reads, on the model's grid.

Source: REACT-KD preprocessing: clip to a window (CT, -160..240 HU) or to percentiles (PET), scale
to 0..1, z-score. Decisions of ours: statistics are taken over the region of interest, and voxels
outside it are set to 0, the mean, so that nothing outside the region can vote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .errors import InputError
from .geometry import Geometry, resample_array
from .model_package import ModalitySpec, ModelSpec
from .roi import Roi
from .types import Study, Volume, frozen_mapping, read_only

#: A model voxel counts as structure from this occupancy on; not one half, where rounding
#: noise would decide.
_STRUCTURE_OCCUPANCY = 0.47

_AIR_HU = -1000.0


@dataclass(frozen=True, eq=False)
class ModelInput:
    """What the network reads.

    ``volumes`` : modality -> float32 (k, j, i) on ``geometry``, z-scored, 0 outside the ROI.
    ``roi`` : float32 (k, j, i), 0..1, how much of each voxel belongs to the region of interest.
    """

    volumes: Mapping[str, np.ndarray]
    roi: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        volumes = {name: read_only(array) for name, array in self.volumes.items()}
        object.__setattr__(self, "volumes", frozen_mapping(volumes))
        object.__setattr__(self, "roi", read_only(self.roi))


def normalise(study: Study, roi: Roi, package: ModelSpec) -> ModelInput:
    """Resample and normalise every modality that the study has and the package knows.

    Raises
    ------
    InputError : a required modality is missing; a volume is constant in the region of interest;
        structures too small for the model's grid.
    """
    grid, margin = roi.model_geometry, package.grid.margin_mm
    factor = package.grid.supersampling
    structures = occupancy(roi.labels > 0, roi.geometry, grid, factor, label_count=2)[1]
    weight = _soft_roi(structures, grid, margin)
    volumes = {}
    for spec in package.modalities:
        if spec.name in study.volumes:
            # A PET slice is small; only the CT is worth cropping first.
            volume = study.volumes[spec.name]
            if spec.name == "ct":
                volume = Volume(volume.array[roi.slices], roi.geometry, volume.name)
            volumes[spec.name] = _intensities(volume, grid, factor, weight, spec)
        elif spec.required:
            raise InputError(
                f"The model {package.name} needs the modality {spec.name!r}.",
                f"Give a {spec.title}.",
            )
    return ModelInput(volumes, weight, grid)


def occupancy(
    labels: np.ndarray, source: Geometry, grid: Geometry, factor: int, label_count: int
) -> np.ndarray:
    """How much of each voxel of ``grid`` each label fills: float32 (label_count, k, j, i).

    ``labels`` (k, j, i) on ``source``, values below ``label_count``. Label 0 includes everything
    beyond the source, so the fractions of every voxel sum to 1. ``factor`` samples per axis.
    """
    fine = _supersampled(grid, factor)
    samples = resample_array(labels.astype(np.uint8), source, fine, nearest=True)
    # One histogram over (voxel, label): the voxel number of a sample is its index, coarsened.
    k, j, i = (np.arange(n) // factor for n in samples.shape)
    voxel = (k[:, None, None] * grid.size[1] + j[None, :, None]) * grid.size[0] + i[None, None, :]
    counts = np.bincount(
        (voxel * label_count + samples).ravel(), minlength=int(np.prod(grid.size)) * label_count
    )
    fractions = (counts / factor**3).astype(np.float32)
    return np.moveaxis(fractions.reshape(*grid.array_shape, label_count), -1, 0)


def to_feature_grid(array: np.ndarray, stride_kji: tuple[int, int, int]) -> np.ndarray:
    """Cell means of a model-grid array (..., k, j, i) on the feature grid of a strided encoder.

    A convolution of kernel 3, stride s and padding 1 centres cell o on voxel s*o; the mean over the
    cell weighs the two shared border voxels by one half where s is even.
    """
    for axis, stride in zip((-3, -2, -1), stride_kji, strict=True):
        if stride > 1:
            window = np.ones(stride + 1 - stride % 2)
            if stride % 2 == 0:
                window[[0, -1]] = 0.5
            array = ndimage.correlate1d(array, window / stride, axis=axis, mode="constant")
            array = np.take(array, np.arange(0, array.shape[axis], stride), axis=axis)
    return array


def feature_geometry(grid: Geometry, stride_kji: tuple[int, int, int]) -> Geometry:
    """Grid of the feature map: cell o is centred on model voxel stride * o."""
    stride = stride_kji[::-1]
    size = [-(-n // s) for n, s in zip(grid.size, stride, strict=True)]
    spacing = [d * s for d, s in zip(grid.spacing_mm, stride, strict=True)]
    return Geometry(
        size=(size[0], size[1], size[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        origin_lps=grid.origin_lps,
        direction_lps=grid.direction_lps,
    )


def _supersampled(grid: Geometry, factor: int) -> Geometry:
    """The axis-aligned grid whose blocks of ``factor``^3 voxels fill the voxels of ``grid``."""
    first = np.full(3, (1 / factor - 1) / 2)
    origin = grid.lps_from_ijk(first)
    return Geometry(
        size=(grid.size[0] * factor, grid.size[1] * factor, grid.size[2] * factor),
        spacing_mm=(
            grid.spacing_mm[0] / factor,
            grid.spacing_mm[1] / factor,
            grid.spacing_mm[2] / factor,
        ),
        origin_lps=(float(origin[0]), float(origin[1]), float(origin[2])),
    )


def _block_means(array: np.ndarray, factor: int) -> np.ndarray:
    k, j, i = (n // factor for n in array.shape)
    return array.reshape(k, factor, j, factor, i, factor).mean(axis=(1, 3, 5))


def _soft_roi(structures: np.ndarray, grid: Geometry, margin_mm: float) -> np.ndarray:
    """1 within ``margin_mm`` of the structures, falling to 0 over one voxel; float32."""
    fullest = float(structures.max())
    if fullest == 0.0:
        raise InputError(
            f"The segmented structures fall between the points of the model's grid"
            f" ({grid.spacing_mm} mm).",
            "Check that the segmentation is complete.",
        )
    # Structures may all be thinner than a voxel.
    distance = ndimage.distance_transform_edt(
        structures < min(_STRUCTURE_OCCUPANCY, fullest), sampling=grid.spacing_mm[::-1]
    )
    edge = min(grid.spacing_mm)
    soft = np.clip((margin_mm + edge / 2 - distance) / edge, 0.0, 1.0)
    # A structure thinner than a voxel is in the region all the same.
    return np.maximum(soft, structures).astype(np.float32)


def _intensities(
    volume: Volume, grid: Geometry, factor: int, weight: np.ndarray, spec: ModalitySpec
) -> np.ndarray:
    outside = _AIR_HU if spec.name == "ct" else 0.0
    fine = resample_array(
        volume.array, volume.geometry, _supersampled(grid, factor), outside=outside
    )
    if spec.window is not None:
        low, high = spec.window
        values = _block_means(np.clip(fine, low, high), factor)
    else:
        assert spec.percentiles is not None  # the package was checked when it was loaded
        values = _block_means(fine, factor)
        low, high = np.percentile(values[weight > 0.5], spec.percentiles)
        values = np.clip(values, low, high)
    if high <= low:
        raise InputError(
            f"{spec.title}: the image is constant ({low:g}) in the region of interest.",
            "Check that the right image was chosen.",
        )
    values = (values - low) / (high - low)
    mean = float(np.average(values, weights=weight))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))
    if spread == 0.0:
        raise InputError(
            f"{spec.title}: no value of the region of interest lies inside {low:g}..{high:g}.",
            "Check the unit of the image (HU for CT, SUV for PET).",
        )
    return ((values - mean) / spread * weight).astype(np.float32)
