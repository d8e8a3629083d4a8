"""From volumes in HU and SUV to what the network reads, on the model's grid.

Source: REACT-KD preprocessing: clip to a window (CT, -160..240 HU) or to percentiles (PET), scale
to 0..1, z-score. Decisions of ours: statistics are taken over the region of interest, and voxels
outside it are set to 0, the mean, so that nothing outside the region can vote. What the CT does not
show is outside the region. A model package may do without the z-score: then the window is -1..1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .errors import InputError
from .geometry import Geometry, Vector, resample_array
from .model_package import ModalitySpec, ModelSpec
from .roi import Roi
from .types import Study, Volume, frozen_mapping, read_only

#: A model voxel counts as structure from this occupancy on; not one half, where rounding
#: noise would decide.
_STRUCTURE_OCCUPANCY = 0.47

_AIR_HU = -1000.0

#: Below this standard deviation, on the scale of 0..1, an image is constant but for rounding.
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class ModelInput:
    """What the network reads.

    ``volumes`` : modality -> float32 (k, j, i) on ``geometry``, z-scored, 0 outside the ROI.
    ``roi`` : float32 (k, j, i), 0..1, how much of each voxel belongs to the region of interest.
    ``weights`` : float32 (k, j, i), sum 1, how much each voxel counts in the pooling.
    """

    volumes: Mapping[str, np.ndarray]
    roi: np.ndarray
    weights: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        volumes = {name: read_only(array) for name, array in self.volumes.items()}
        object.__setattr__(self, "volumes", frozen_mapping(volumes))
        object.__setattr__(self, "roi", read_only(self.roi))
        object.__setattr__(self, "weights", read_only(self.weights))


def normalise(study: Study, roi: Roi, package: ModelSpec) -> ModelInput:
    """Resample and normalise every modality that the study has and the package knows.

    Raises
    ------
    InputError : a required modality is missing; a volume is constant in the region of interest;
        structures too small for the model's grid.
    """
    grid, margin = roi.model_geometry, package.grid.margin_mm
    factor = package.grid.supersampling
    structures, lesions = structure_occupancy(roi, package)
    inside = _part_inside(roi.geometry, grid, factor)
    weight = _soft_roi(structures, grid, margin) * inside
    volumes = {}
    for spec in package.modalities:
        if spec.name in study.volumes:
            # A PET slice is small; only the CT is worth cropping first.
            volume = study.volumes[spec.name]
            if spec.name == "ct":
                volume = Volume(volume.array[roi.slices], roi.geometry, volume.name)
            volumes[spec.name] = _intensities(volume, grid, factor, weight, inside, spec)
        elif spec.required:
            raise InputError(
                f"The model {package.name} needs the modality {spec.name!r}.",
                f"Give a {spec.title}.",
            )
    near = lesion_surroundings(weight, lesions, package)
    return ModelInput(volumes, weight, pooling_weights(weight, near, package), grid)


def structure_occupancy(roi: Roi, package: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """How much of each voxel of the model's grid all roles fill, and lesions: 2 x (k, j, i)."""
    table = np.ones(len(package.role_rules) + 1, dtype=np.uint8)
    roles = [rule.name for rule in package.role_rules]
    table[0], table[roles.index(package.regions.lesion_role) + 1] = 0, 2
    factor = package.grid.supersampling
    parts = occupancy(table[roi.labels], roi.geometry, roi.model_geometry, factor, label_count=3)
    return parts[1] + parts[2], parts[2]


def pooling_weights(roi: np.ndarray, near: np.ndarray, package: ModelSpec) -> np.ndarray:
    """Weights of the global average pooling, float32 (k, j, i), sum 1 (see ``PoolingSpec``).

    ``roi`` (k, j, i), 0..1; ``near``, its part that belongs to :func:`lesion_surroundings`.
    """
    inside, near = roi.astype(np.float64), near.astype(np.float64)
    rest = inside - near
    amounts = np.array([near.sum(), rest.sum()])
    # Where one of the two is missing, the other has the whole.
    weight = package.pooling.lesion_weight
    shares = np.array([weight, 1.0 - weight]) * (amounts > 0)
    near_each, rest_each = shares / shares.sum() / np.where(amounts > 0, amounts, 1.0)
    return (near * near_each + rest * rest_each).astype(np.float32)


def lesion_surroundings(roi: np.ndarray, lesions: np.ndarray, package: ModelSpec) -> np.ndarray:
    """How much of each voxel belongs to lesions and their surroundings, float32, at most ``roi``.

    Lesions too thin to fill a voxel have no surroundings of their own.
    """
    lesion_voxels = lesions >= _STRUCTURE_OCCUPANCY
    if not lesion_voxels.any():
        return np.zeros_like(roi)
    margin = package.pooling.lesion_margin_mm
    return (roi * _within_mm(lesion_voxels, margin, package.grid.spacing_mm)).astype(np.float32)


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
    soft = _within_mm(structures >= min(_STRUCTURE_OCCUPANCY, fullest), margin_mm, grid.spacing_mm)
    # A structure thinner than a voxel is in the region all the same.
    return np.maximum(soft, structures).astype(np.float32)


def _within_mm(mask: np.ndarray, margin_mm: float, spacing_mm: Vector) -> np.ndarray:
    """1 within ``margin_mm`` of a mask, falling to 0 over one voxel."""
    distance = ndimage.distance_transform_edt(~mask, sampling=spacing_mm[::-1])
    edge = min(spacing_mm)
    return np.clip((margin_mm + edge / 2 - distance) / edge, 0.0, 1.0)


def _part_inside(source: Geometry, grid: Geometry, factor: int) -> np.ndarray:
    """How much of each voxel of ``grid`` lies inside ``source``: float32 (k, j, i), 0..1."""
    corners = source.ijk_from_lps(grid.corners_lps())
    if np.all((corners >= -0.5) & (corners <= np.array(source.size) - 0.5)):
        return np.ones(grid.array_shape, dtype=np.float32)
    # Linear, as the CT: both then agree on which points are inside.
    ones = np.ones(source.array_shape, dtype=np.uint8)
    return _block_means(resample_array(ones, source, _supersampled(grid, factor)), factor)


def _intensities(
    volume: Volume,
    grid: Geometry,
    factor: int,
    weight: np.ndarray,
    inside: np.ndarray,
    spec: ModalitySpec,
) -> np.ndarray:
    outside = _AIR_HU if spec.name == "ct" else 0.0
    fine = resample_array(
        volume.array, volume.geometry, _supersampled(grid, factor), outside=outside
    )
    if spec.window is not None:
        low, high = spec.window
        fine, outside = np.clip(fine, low, high), float(np.clip(outside, low, high))
    values = _block_means(fine, factor)
    if spec.name == "ct":
        # Where the CT ends within a voxel, the mean of the points inside it.
        cut = (inside < 1) & (weight > 0)
        values[cut] = outside + (values[cut] - outside) / inside[cut]
    if spec.window is None:
        assert spec.percentiles is not None  # the package was checked when it was loaded
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
    if spread < _LEAST_SPREAD:
        raise InputError(
            f"{spec.title}: no value of the region of interest lies inside {low:g}..{high:g}.",
            "Check the unit of the image (HU for CT, SUV for PET).",
        )
    if not spec.standardise:
        mean, spread = 0.5, 0.5
    return ((values - mean) / spread * weight).astype(np.float32)
