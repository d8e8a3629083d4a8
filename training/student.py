"""Supervised training of the student: labels only, no teacher."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from REACTKDLib.model_package import ModelSpec
from REACTKDLib.networks.student import Student, pool
from REACTKDLib.normalise import pooling_weights, to_feature_grid

from .configuration import TrainingConfiguration
from .evaluation.discrimination import macro_auc
from .losses import cell_loss
from .prepare import PreparedCase
from .pretrain import pretrain
from .trained_student import TrainedStudent, draw_flips, draw_modalities

#: Mirrored views of a case in one step. Cases differ in size, so a batch of cases runs one by one;
#: two views of each let torch use its fast convolution, which it denies to a single case.
VIEWS = 2


@dataclass(frozen=True)
class TrainingResult:
    """``student`` of the epoch with the best selection AUC; ``history`` one row per epoch."""

    student: Student
    history: tuple[dict[str, float], ...]


def batch_of(
    case: PreparedCase,
    spec: ModelSpec,
    names: Sequence[str],
    device: torch.device,
    views: Sequence[tuple[int, ...]] = ((),),
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """Volumes and region of interest (views, 1, k, j, i); on the feature grid pooling weights and
    lesion occupancy.

    Every view is the case mirrored along some of the axes (0, 1, 2 = k, j, i); one view, not
    mirrored, by default.
    """

    def tensor(arrays: list[np.ndarray]) -> Tensor:
        return torch.tensor(np.stack(arrays), dtype=torch.float32, device=device)[:, None]

    def voxels(array: np.ndarray) -> Tensor:
        return tensor([np.flip(array, axes).astype(np.float32) for axes in views])

    def cells(array: np.ndarray) -> list[np.ndarray]:
        stride = spec.network.total_stride
        return [to_feature_grid(np.flip(array, axes).astype(np.float64), stride) for axes in views]

    return (
        {name: voxels(case.volumes[name]) for name in names},
        voxels(case.roi),
        tensor([w / w.sum() for w in cells(pooling_weights(case.roi, case.near, spec))]),
        tensor(cells(case.lesion)),
    )


def pooled_features(
    student: Student,
    cases: Sequence[PreparedCase],
    spec: ModelSpec,
    names: Sequence[str],
    device: torch.device,
) -> np.ndarray:
    """Pooled features of every case with the modalities ``names``, (cases, channels), float64."""
    student.eval()
    rows = []
    with torch.inference_mode():
        for case in cases:
            volumes, roi, weights, _ = batch_of(case, spec, names, device)
            rows.append(student(volumes, roi, weights).pooled[0].double().cpu().numpy())
    return np.stack(rows)


def head_logits(student: Student, pooled: np.ndarray) -> np.ndarray:
    """Logits (cases, classes) of pooled features, float64."""
    weight, bias = (p.detach().double().cpu().numpy() for p in student.head.parameters())
    return pooled @ weight.T + bias


def train_student(
    configuration: TrainingConfiguration,
    train: Sequence[PreparedCase],
    selection: Sequence[PreparedCase],
    work: Path,
    device: torch.device,
) -> TrainingResult:
    """Train, keeping the epoch with the best CT-only macro AUC on ``selection``.

    After every epoch a checkpoint is written to ``work``; a run that finds one goes on from there
    to the same result, because every epoch draws its random numbers from seed and epoch.
    """
    spec, how = configuration.spec, configuration.optimisation
    torch.manual_seed(configuration.seed)
    model = TrainedStudent(spec).to(device)
    if how.crop_steps:
        pretrain(model, configuration, train, work, device)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=how.fine_learning_rate, weight_decay=how.weight_decay
    )
    steps = len(train) // how.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, how.fine_learning_rate, total_steps=max(1, steps * how.epochs), pct_start=0.2
    )
    labels = torch.tensor([case.label for case in train], device=device)
    loss_of = nn.CrossEntropyLoss(label_smoothing=how.label_smoothing)
    history: list[dict[str, float]] = []
    best = copy.deepcopy(model.state_dict())
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        best, history = state["best"], state["history"]

    for epoch in range(len(history), how.epochs):
        torch.manual_seed(configuration.seed * 1000 + epoch)
        rng = np.random.default_rng([configuration.seed, epoch])
        order = rng.permutation(len(train))[: steps * how.batch_size].reshape(steps, how.batch_size)
        model.train()
        model.freeze_norms()
        losses = []
        for batch in tqdm(order, desc=f"epoch {epoch + 1}/{how.epochs}", unit="batch"):
            pooled, dense = [], []
            for index in batch:
                names = draw_modalities(train[index], how.modality_sets, rng)
                views = [draw_flips(rng) for _ in range(VIEWS)]
                volumes, roi, weights, lesion = batch_of(train[index], spec, names, device, views)
                features, _ = model.student.fuse(volumes, roi)
                pooled.append(pool(features, weights))
                dense.append(
                    cell_loss(
                        model.student.head, features, weights, lesion, labels[[index]].expand(VIEWS)
                    )
                )
            loss = loss_of(model.logits(torch.cat(pooled)), labels[batch].repeat_interleave(VIEWS))
            loss = loss + how.dense_weight * torch.stack(dense).mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        row = {"epoch": epoch + 1.0, "loss": float(np.mean(losses))}
        row["selection_auc"] = _selection_auc(model.fold(), selection, spec, device)
        if row["selection_auc"] >= max((r["selection_auc"] for r in history), default=0.0):
            best = copy.deepcopy(model.state_dict())
        history.append(row)
        tqdm.write(json.dumps(row))
        temporary = checkpoint.with_suffix(".partial")
        torch.save(
            {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "best": best,
                "history": history,
            },
            temporary,
        )
        temporary.replace(checkpoint)
    model.load_state_dict(best)
    return TrainingResult(model.fold(), tuple(history))


def _selection_auc(
    student: Student, cases: Sequence[PreparedCase], spec: ModelSpec, device: torch.device
) -> float:
    logits = head_logits(student, pooled_features(student, cases, spec, ["ct"], device))
    return macro_auc(np.array([case.label for case in cases]), logits)
