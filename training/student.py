"""Supervised training of the student: labels only, no teacher."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from REACTKDLib.model_package import ModelSpec
from REACTKDLib.networks.onednn import use_onednn
from REACTKDLib.networks.student import Student, pool
from REACTKDLib.normalise import to_feature_grid

from .configuration import TrainingConfiguration
from .metrics import macro_auc
from .prepare import PreparedCase

#: Mirrored views of a case in one step. Cases differ in size, so a batch of cases runs one by one;
#: two views of each let torch use its fast convolution, which it denies to a single case.
VIEWS = 2


class StandardisedStudent(nn.Module):
    """The student during training: pooled features are standardised before the linear head.

    A lesion fills a small part of the pooled volume, so pooled features hardly vary; without
    standardisation the head would need weights in the hundreds. :meth:`fold` turns the running
    statistics into the head's weights, so the trained student is pooling and a linear layer alone.

    A second, dense head grades every cell of the feature map; it exists during training only and
    tells the encoders where to look, which the label of the whole case hardly does.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.student = Student(spec.modality_names, len(spec.classes), spec.network)
        self.standardise = nn.BatchNorm1d(spec.network.fused_channels, affine=False, eps=1e-8)
        self.dense_head = nn.Conv3d(spec.network.fused_channels, len(spec.classes) + 1, 1)

    def logits(self, pooled: Tensor) -> Tensor:
        """Logits (N, classes) of pooled features (N, C)."""
        return self.student.head(self.standardise(pooled))

    def dense_loss(self, features: Tensor, weights: Tensor, lesion: Tensor, label: int) -> Tensor:
        """Cross entropy of grading each cell: the case's class in lesions, nothing elsewhere.

        ``features`` (N, C, k, j, i); ``weights`` pooling weights and ``lesion`` occupancy, both
        (N, 1, k, j, i). Lesion cells and other cells count one half each.
        """
        log_probabilities = self.dense_head(features).log_softmax(dim=1)
        inside, outside = weights * lesion, weights * (1 - lesion)
        graded = (inside * log_probabilities[:, [label + 1]]).sum() / inside.sum().clamp_min(1e-6)
        nothing = (outside * log_probabilities[:, [0]]).sum() / outside.sum()
        return -(graded + nothing) / 2

    def fold(self) -> Student:
        """A copy of the student whose head reads pooled features as they are."""
        student = copy.deepcopy(self.student)
        mean, variance = self.standardise.running_mean, self.standardise.running_var
        assert mean is not None and variance is not None
        weight = student.head.weight.data / torch.sqrt(variance + self.standardise.eps)
        student.head.bias.data -= weight @ mean
        student.head.weight.data = weight
        use_onednn(student)
        return student.eval()


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
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Volumes (views, 1, k, j, i), and on the feature grid pooling weights and lesion occupancy.

    Every view is the case mirrored along some of the axes (0, 1, 2 = k, j, i); one view, not
    mirrored, by default.
    """

    def tensor(arrays: list[np.ndarray]) -> Tensor:
        return torch.tensor(np.stack(arrays), dtype=torch.float32, device=device)[:, None]

    def cells(array: np.ndarray) -> list[np.ndarray]:
        stride = spec.network.total_stride
        return [to_feature_grid(np.flip(array, axes).astype(np.float64), stride) for axes in views]

    volumes = {
        name: tensor([np.flip(case.volumes[name], axes).astype(np.float32) for axes in views])
        for name in names
    }
    return volumes, tensor([w / w.sum() for w in cells(case.roi)]), tensor(cells(case.lesion))


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
            volumes, weights, _ = batch_of(case, spec, names, device)
            rows.append(student(volumes, weights).pooled[0].double().cpu().numpy())
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
    model = StandardisedStudent(spec).to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay
    )
    steps = len(train) // how.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, how.learning_rate, total_steps=max(1, steps * how.epochs), pct_start=0.2
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
        losses = []
        for batch in tqdm(order, desc=f"epoch {epoch + 1}/{how.epochs}", unit="batch"):
            pooled, dense = [], []
            for index in batch:
                names = _draw_modalities(train[index], how.modality_sets, rng)
                views = [_draw_flips(rng) for _ in range(VIEWS)]
                volumes, weights, lesion = batch_of(train[index], spec, names, device, views)
                features, _ = model.student.fuse(volumes)
                pooled.append(pool(features, weights))
                dense.append(model.dense_loss(features, weights, lesion, train[index].label))
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


def _draw_flips(rng: np.random.Generator) -> tuple[int, ...]:
    """Axes to mirror, each with probability one half."""
    return tuple(axis for axis in range(3) if rng.random() < 0.5)


def _draw_modalities(
    case: PreparedCase, sets: Mapping[str, float], rng: np.random.Generator
) -> list[str]:
    """One of the modality sets, by its probability, less what the case does not have."""
    probabilities = np.array(list(sets.values()))
    chosen = list(sets)[rng.choice(len(sets), p=probabilities / probabilities.sum())]
    return [name for name in chosen.split("+") if name in case.volumes] or ["ct"]


def _selection_auc(
    student: Student, cases: Sequence[PreparedCase], spec: ModelSpec, device: torch.device
) -> float:
    logits = head_logits(student, pooled_features(student, cases, spec, ["ct"], device))
    return macro_auc(np.array([case.label for case in cases]), logits)
