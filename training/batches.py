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


@dataclass(frozen=True)
class Shown:
    """What a row shows: which patient, its CT at which dose (None: as it is), and the crop's first
    voxel (k, j, i) and size in the case, mirrored afterwards along ``mirrored`` (0, 1, 2 =
    k, j, i)."""

    patient: str
    photons: float | None
    start: tuple[int, int, int]
    size: tuple[int, int, int]
    mirrored: tuple[int, ...] = ()

    def of(self, array: np.ndarray, stride: Sequence[int] = (1, 1, 1)) -> np.ndarray:
        """This crop of an array (..., k, j, i) on the case's grid, or on cells of ``stride`` voxels
        that begin with it; zero beyond the array."""
        shape = [-(-n // step) for n, step in zip(self.size, stride, strict=True)]
        first = [at // step for at, step in zip(self.start, stride, strict=True)]
        k, j, i = (slice(a, a + n) for a, n in zip(first, shape, strict=True))
        part = array[..., k, j, i]
        crop = np.zeros((*array.shape[:-3], *shape), dtype=array.dtype)
        k, j, i = (slice(0, n) for n in part.shape[-3:])
        crop[..., k, j, i] = part
        return np.flip(crop, tuple(axis - 3 for axis in self.mirrored))


@dataclass(frozen=True, eq=False)
class Batch:
    """N cases or crops on equal grids.

    ``volumes`` modality -> (N, 1, k, j, i), with :data:`DOSED_CT` beside ``ct``; where a case lacks
    a modality its rows are 0 and ``present[modality]`` (N,) is False. ``roi``, ``weights`` and
    ``lesion`` (N, 1, k, j, i): the region of interest, the weights of the pooling, each row summing
    to 1, and how much of a voxel is lesion. ``regions`` (N, R, k, j, i), 1 where a voxel is of
    region r, for all regions that a case of the batch has, in the crop or not. ``labels`` (N,).
    """

    volumes: Mapping[str, Tensor]
    present: Mapping[str, np.ndarray]
    roi: Tensor
    weights: Tensor
    lesion: Tensor
    regions: Tensor
    labels: Tensor
    shown: tuple[Shown, ...]

    def names(self, row: int, wanted: Sequence[str]) -> tuple[str, ...]:
        """Those of the wanted modalities that a row has."""
        return tuple(n for n in wanted if n in self.present and self.present[n][row])

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        """Some rows."""
        index = list(rows)
        return Batch(
            volumes={name: volume[index] for name, volume in self.volumes.items()},
            present={name: present[index] for name, present in self.present.items()},
            roi=self.roi[index],
            weights=self.weights[index],
            lesion=self.lesion[index],
            regions=self.regions[index],
            labels=self.labels[index],
            shown=tuple(self.shown[n] for n in index),
        )


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
        shown = [_draw_crop(case, settings, spec, rng) for case in chosen]
        yield _batch(chosen, shown, spec, device)


def whole_case(
    case: PreparedCase,
    spec: ModelSpec,
    device: torch.device,
    photons: float | None = None,
    regions: bool = True,
) -> Batch:
    """A batch of one whole case, its CT at a dose (None: as it is). Its regions cost as much as a
    pass of the student: leave them out where no graph is asked for."""
    k, j, i = case.roi.shape
    shown = Shown(case.patient, photons, (0, 0, 0), (k, j, i))
    return _batch([case], [shown], spec, device, regions)


def _draw_crop(
    case: PreparedCase, settings: CropSettings, spec: ModelSpec, rng: np.random.Generator
) -> Shown:
    photons = None
    if case.low_dose and rng.random() < settings.dosed:
        photons = list(case.low_dose)[rng.integers(len(case.low_dose))]
    voxels = case.crop_centres
    centre = voxels[rng.integers(len(voxels))] + rng.integers(-_JITTER, _JITTER + 1, 3)
    axes = tuple(axis for axis in range(3) if rng.random() < 0.5)
    # Whole cells, so that what a teacher said of the case can be cut out in the same place.
    k, j, i = (
        int(np.clip(middle - length // 2, 0, max(0, extent - length))) // step * step
        for middle, length, extent, step in zip(
            centre, settings.size, case.roi.shape, spec.network.total_stride, strict=True
        )
    )
    return Shown(case.patient, photons, (k, j, i), settings.size, axes)


def _batch(
    cases: Sequence[PreparedCase],
    shown: Sequence[Shown],
    spec: ModelSpec,
    device: torch.device,
    regions: bool = True,
) -> Batch:
    def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
        array = np.stack([np.asarray(a, dtype=np.float32) for a in arrays])
        return torch.from_numpy(array).to(device)[:, None]

    rows = list(zip(cases, shown, strict=True))
    volumes: dict[str, list[np.ndarray | None]] = {
        name: [one.of(case.volumes[name]) if name in case.volumes else None for case, one in rows]
        for name in spec.modality_names
    }
    volumes[DOSED_CT] = [
        None if one.photons is None else one.of(case.low_dose[one.photons]) for case, one in rows
    ]
    volumes[DOSED_CT] = [
        plain if dosed is None else dosed
        for plain, dosed in zip(volumes["ct"], volumes[DOSED_CT], strict=True)
    ]
    roi = [one.of(case.roi) for case, one in rows]
    near = [one.of(case.near) for case, one in rows]
    empty = np.zeros_like(roi[0])
    count = max(len(case.region_ids) for case in cases) if regions else 0
    labels = [empty if c.regions is None else one.of(c.regions) for c, one in rows]
    numbers = np.arange(1, count + 1)[None, :, None, None, None]
    parts = torch.from_numpy((np.stack(labels)[:, None] == numbers).astype(np.float32))
    return Batch(
        volumes={
            name: stacked([empty if a is None else a for a in arrays])
            for name, arrays in volumes.items()
            if any(a is not None for a in arrays)
        },
        present={
            name: np.array([a is not None for a in arrays])
            for name, arrays in volumes.items()
            if any(a is not None for a in arrays)
        },
        roi=stacked(roi),
        weights=stacked([pooling_weights(r, n, spec) for r, n in zip(roi, near, strict=True)]),
        lesion=stacked([one.of(case.lesion) for case, one in rows]),
        regions=parts.to(device),
        labels=torch.tensor([case.label for case in cases], device=device),
        shown=tuple(shown),
    )
