"""Batches of crops around lesions, and whole cases, as the networks read them.

Cases differ in size and a crop holds a tenth of one, so batches of equal crops train many times
faster than whole cases; the encoders' statistics do not depend on the size, so that what was
learnt on crops holds for whole cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from REACTKDLib.model_package import ModelSpec
from REACTKDLib.normalise import pooling_weights

from .prepare import PreparedCase

#: Name under which a batch holds the CT at the dose that was drawn for each case.
DOSED_CT = "ct_at_dose"

#: Voxels by which a crop's centre is moved at random, along every axis.
_JITTER = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """N cases or crops on equal grids.

    ``volumes`` modality -> (N, 1, k, j, i), with :data:`DOSED_CT` beside ``ct``; where a case lacks
    a modality its rows are 0 and ``present[modality]`` (N,) is False. ``roi`` and ``weights``
    (N, 1, k, j, i), the latter of the pooling, each row summing to 1. ``regions`` (N, R, k, j, i),
    1 where a voxel is of region r. ``labels`` (N,).
    """

    volumes: Mapping[str, Tensor]
    present: Mapping[str, np.ndarray]
    roi: Tensor
    weights: Tensor
    regions: Tensor
    labels: Tensor

    def names(self, row: int, wanted: Sequence[str]) -> tuple[str, ...]:
        """Those of the wanted modalities that a row has."""
        return tuple(n for n in wanted if n in self.present and self.present[n][row])


@dataclass(frozen=True)
class CropSettings:
    """``size`` of a crop (k, j, i), voxels; ``dosed`` 0..1, how often the CT is taken at one of the
    prepared doses rather than as it is."""

    size: tuple[int, int, int]
    dosed: float


def crop_batches(
    cases: Sequence[PreparedCase],
    settings: CropSettings,
    spec: ModelSpec,
    batch_size: int,
    rng: np.random.Generator,
    device: torch.device,
) -> Iterator[Batch]:
    """One crop around a random lesion voxel of every case, in random order, mirrored at random.

    A last batch of fewer cases is dropped; with fewer cases than ``batch_size`` there is one batch.
    """
    size = min(batch_size, len(cases))
    order = rng.permutation(len(cases))
    for start in range(0, len(order) - size + 1, size):
        chosen = [cases[n] for n in order[start : start + size]]
        crops = [_crop_case(case, settings, rng) for case in chosen]
        yield _batch(crops, [case.label for case in chosen], spec, device)


def whole_case(
    case: PreparedCase, spec: ModelSpec, device: torch.device, photons: float | None = None
) -> Batch:
    """A batch of one whole case, its CT at a dose (None: as it is)."""
    return _batch([_arrays(case, photons)], [case.label], spec, device)


def _arrays(case: PreparedCase, photons: float | None) -> dict[str, np.ndarray]:
    dosed = case.volumes["ct"] if photons is None else case.low_dose[photons]
    regions = case.regions if case.regions is not None else np.zeros(case.roi.shape, np.uint8)
    return {
        **case.volumes,
        DOSED_CT: dosed,
        "roi": case.roi,
        "near": case.near,
        "regions": regions,
    }


def _crop_case(
    case: PreparedCase, settings: CropSettings, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    photons = None
    if case.low_dose and rng.random() < settings.dosed:
        photons = list(case.low_dose)[rng.integers(len(case.low_dose))]
    # Without a lesion that fills a voxel, anywhere in the region of interest.
    voxels = np.argwhere(case.lesion > 0.5)
    if not len(voxels):
        voxels = np.argwhere(case.roi > 0.5)
    centre = voxels[rng.integers(len(voxels))] + rng.integers(-_JITTER, _JITTER + 1, 3)
    axes = tuple(axis for axis in range(3) if rng.random() < 0.5)
    return {
        name: np.flip(crop_of(array, centre, settings.size), axes)
        for name, array in _arrays(case, photons).items()
    }


def crop_of(array: np.ndarray, centre: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """``size`` voxels around ``centre``, moved inside the array, zero where it is too small."""
    crop = np.zeros(size, dtype=array.dtype)
    source, target = [], []
    for middle, length, extent in zip(centre, size, array.shape, strict=True):
        start = int(np.clip(middle - length // 2, 0, max(0, extent - length)))
        stop = min(start + length, extent)
        source.append(slice(start, stop))
        target.append(slice(0, stop - start))
    crop[tuple(target)] = array[tuple(source)]
    return crop


def _batch(
    parts: Sequence[Mapping[str, np.ndarray]],
    labels: Sequence[int],
    spec: ModelSpec,
    device: torch.device,
) -> Batch:
    def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
        array = np.stack([np.asarray(a, dtype=np.float32) for a in arrays])
        return torch.from_numpy(array).to(device)[:, None]

    names = [n for n in (*spec.modality_names, DOSED_CT) if any(n in p for p in parts)]
    empty = np.zeros_like(parts[0]["roi"])
    regions = torch.from_numpy(np.stack([p["regions"] for p in parts])).to(device)
    numbers = torch.arange(1, int(regions.max()) + 1, device=device)
    return Batch(
        volumes={name: stacked([p.get(name, empty) for p in parts]) for name in names},
        present={name: np.array([name in p for p in parts]) for name in names},
        roi=stacked([p["roi"] for p in parts]),
        weights=stacked([pooling_weights(p["roi"], p["near"], spec) for p in parts]),
        regions=(regions[:, None] == numbers[None, :, None, None, None]).float(),
        labels=torch.tensor(labels, device=device),
    )
