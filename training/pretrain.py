"""First stage: the encoders learn to grade lesion cells on small crops around lesions.

A crop holds a tenth of a case's voxels, so ten times as many steps fit in the same time, and the
lesion fills much of it. The label of a whole case alone teaches the encoders very slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from REACTKDLib.normalise import to_feature_grid

from .configuration import TrainingConfiguration
from .losses import cell_loss
from .prepare import PreparedCase
from .trained_student import TrainedStudent, draw_flips, draw_modalities


def pretrain(
    model: TrainedStudent,
    configuration: TrainingConfiguration,
    train: Sequence[PreparedCase],
    work: Path,
    device: torch.device,
) -> None:
    """Train ``model`` in place with the dense loss on crops; kept in ``work`` for a resume."""
    how = configuration.optimisation
    kept = work / "pretrained.pt"
    if kept.exists():
        model.load_state_dict(torch.load(kept, map_location=device, weights_only=True))
        return
    torch.manual_seed(configuration.seed + 1)
    rng = np.random.default_rng([configuration.seed, how.epochs, 1])
    with_lesion = [case for case in train if case.lesion.max() > 0.5]
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, how.learning_rate, total_steps=how.crop_steps, pct_start=0.2
    )
    model.train()
    bar = tqdm(range(how.crop_steps), desc="crops", unit="step")
    average = 0.0
    for step in bar:
        cases = [with_lesion[n] for n in rng.choice(len(with_lesion), how.batch_size, False)]
        names = draw_modalities(cases[0], how.modality_sets, rng)
        volumes, roi, weights, lesion = crops_of(cases, configuration, names, rng, device)
        features, _ = model.student.fuse(volumes, roi)
        labels = torch.tensor([case.label for case in cases], device=device)
        loss = cell_loss(model.student.head, features, weights, lesion, labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}")
    temporary = kept.with_suffix(".partial")
    torch.save(model.state_dict(), temporary)
    temporary.replace(kept)


def crops_of(
    cases: Sequence[PreparedCase],
    configuration: TrainingConfiguration,
    names: Sequence[str],
    rng: np.random.Generator,
    device: torch.device,
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """One crop a case around a random lesion voxel, mirrored at random.

    Volumes and region of interest (N, 1, k, j, i); region of interest and lesion occupancy on the
    feature grid.
    """
    stride = configuration.spec.network.total_stride
    size = configuration.optimisation.crop_size
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "roi", "lesion")}
    for case in cases:
        voxels = np.argwhere(case.lesion > 0.5)
        centre = voxels[rng.integers(len(voxels))] + rng.integers(-4, 5, 3)
        axes = draw_flips(rng)
        arrays = {**{name: case.volumes[name] for name in names}, "roi": case.roi}
        for name, array in {**arrays, "lesion": case.lesion}.items():
            crop = crop_of(array, centre, size).astype(np.float32)
            parts[name].append(np.ascontiguousarray(np.flip(crop, axes)))

    def voxels_of(name: str) -> Tensor:
        return torch.tensor(np.stack(parts[name]), device=device)[:, None]

    def cells(name: str) -> Tensor:
        grid = [to_feature_grid(array.astype(np.float64), stride) for array in parts[name]]
        return torch.tensor(np.stack(grid), dtype=torch.float32, device=device)[:, None]

    return (
        {name: voxels_of(name) for name in names},
        voxels_of("roi"),
        cells("roi"),
        cells("lesion"),
    )


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
