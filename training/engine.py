"""One training loop for teachers and students: checkpoints, resume, selection, logs, devices.

Started by ``torchrun``, every process takes its part of each batch and the gradients are averaged
(DistributedDataParallel); process 0 writes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .batches import Batch
from .processes import rank, world_size

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Optimisation:
    """AdamW with a one-cycle schedule.

    ``epochs`` over the training cases in batches of ``batch_size``; the selection metric is
    measured every ``select_every`` epochs and after the last. ``mixed_precision`` takes bfloat16 or
    float16 where the CUDA device supports it, and is ignored on a CPU, where it only slows.
    ``head_factor`` times the learning rate is that of the network's linear head: pooled features
    differ little between cases, so the head needs large weights, which small steps reach late.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.01
    select_every: int = 5
    mixed_precision: bool = True
    head_factor: float = 1.0


class Objective(nn.Module):
    """A network with the loss that trains it; ``forward`` gives named terms whose sum is the loss.

    What is optimised are the parameters that require a gradient.
    """

    network: nn.Module

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Loss terms of one batch, scalars."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fitted:
    """``history`` one row per epoch; ``selected`` the epoch whose weights the network now has."""

    history: tuple[dict[str, float], ...]
    selected: int


def fit(
    objective: Objective,
    batches: Callable[[np.random.Generator], Iterator[Batch]],
    select: Callable[[], float],
    how: Optimisation,
    steps_per_epoch: int,
    seed: int,
    work: Path,
    title: str,
) -> Fitted:
    """Train ``objective`` in place, keeping the epoch with the best value of ``select``.

    A checkpoint is written after every epoch; a run that finds one goes on from there to the same
    result (on one kind of device), because every epoch draws its random numbers from ``seed`` and
    its own number. ``work`` also gets the metrics, as JSON lines and for TensorBoard.

    Parameters
    ----------
    batches : batches of one epoch, drawn with the given generator.
    select : higher is better; called with the network in evaluation mode.
    """
    work.mkdir(parents=True, exist_ok=True)
    device = next(objective.parameters()).device
    groups = _parameter_groups(objective, how)
    optimiser = torch.optim.AdamW(groups, lr=how.learning_rate, weight_decay=how.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [group["lr"] for group in groups],
        total_steps=how.epochs * steps_per_epoch,
        pct_start=0.2,
    )
    history: list[dict[str, float]] = []
    best = copy.deepcopy(objective.network.state_dict())
    checkpoint = work / CHECKPOINT
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        objective.load_state_dict(state["objective"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        best, history = state["best"], state["history"]
    steps = _Steps(objective, optimiser, schedule, device, how.mixed_precision)
    for epoch in range(len(history), how.epochs):
        torch.manual_seed(seed * 10_007 + epoch)
        rng = np.random.default_rng([seed, epoch])
        objective.train()
        rows = [steps.step(batch) for batch in _shown(batches(rng), steps_per_epoch, title, epoch)]
        row = {"epoch": epoch + 1.0} | _means(rows)
        if (epoch + 1) % how.select_every == 0 or epoch + 1 == how.epochs:
            objective.eval()
            row["selection"] = select()
            earlier = [r["selection"] for r in history if "selection" in r]
            if not earlier or row["selection"] >= max(earlier):
                best = copy.deepcopy(objective.network.state_dict())
        history.append(row)
        if rank() == 0:
            _save(checkpoint, objective, optimiser, schedule, best, history)
            _log(work, row)
    objective.network.load_state_dict(best)
    objective.eval()
    measured = [row for row in history if "selection" in row]
    chosen = max(measured, key=lambda row: (row["selection"], row["epoch"]))
    return Fitted(tuple(history), int(chosen["epoch"]))


def _parameter_groups(objective: Objective, how: Optimisation) -> list[dict[str, Any]]:
    """The network's head, and all the rest, each with its learning rate."""
    head = {id(p) for name, p in objective.network.named_parameters() if name.startswith("head.")}
    trained = [p for p in objective.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if id(p) not in head], "lr": how.learning_rate},
        {
            "params": [p for p in trained if id(p) in head],
            "lr": how.learning_rate * how.head_factor,
        },
    ]


class _Steps:
    """Optimisation steps on a device, in one process or several."""

    def __init__(
        self,
        objective: Objective,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        device: torch.device,
        mixed_precision: bool,
    ) -> None:
        self.module: nn.Module = objective
        if world_size() > 1:
            self.module = nn.parallel.DistributedDataParallel(
                objective, find_unused_parameters=True
            )
        self.trained = [p for p in objective.parameters() if p.requires_grad]
        self.optimiser, self.schedule = optimiser, schedule
        self.autocast: Any = nullcontext()
        half = mixed_precision and device.type == "cuda"
        brain = half and torch.cuda.is_bf16_supported()
        if half:
            dtype = torch.bfloat16 if brain else torch.float16
            self.autocast = torch.autocast("cuda", dtype=dtype)
        self.scaler = torch.amp.GradScaler("cuda", enabled=half and not brain)

    def step(self, batch: Batch) -> dict[str, float]:
        """One step; returns the terms."""
        with self.autocast:
            terms = self.module(_own_rows(batch))
            loss = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        return {"loss": loss.item()} | {name: term.item() for name, term in terms.items()}


def _own_rows(batch: Batch) -> Batch:
    """The part of a batch that belongs to this process."""
    if world_size() == 1:
        return batch
    return batch[range(rank(), len(batch.labels), world_size())]


def _shown(batches: Iterator[Batch], steps: int, title: str, epoch: int) -> Iterator[Batch]:
    label = f"{title}, epoch {epoch + 1}"
    return tqdm(batches, total=steps, desc=label, unit="batch", leave=False, disable=rank() > 0)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _save(
    path: Path,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    best: dict[str, Tensor],
    history: list[dict[str, float]],
) -> None:
    temporary = path.with_suffix(".partial")
    torch.save(
        {
            "objective": objective.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "best": best,
            "history": history,
        },
        temporary,
    )
    temporary.replace(path)


def _log(work: Path, row: dict[str, float]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with (work / METRICS).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    with SummaryWriter(str(work / "tensorboard")) as writer:
        for name, value in row.items():
            if name != "epoch":
                writer.add_scalar(name, value, int(row["epoch"]))
