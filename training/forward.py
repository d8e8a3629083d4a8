"""Forward passes of student and teachers over a batch, as the losses read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from REACTKDLib.networks.student import Student, StudentOutput

from .batches import DOSED_CT, Batch
from .losses import NetworkView, TeacherView, pool_regions
from .networks.teacher import Teacher

Network = Student | Teacher


def view_of(
    network: Network, batch: Batch, names: Sequence[tuple[str, ...]], dosed: bool
) -> NetworkView:
    """One pass; row n of the batch shows the modalities ``names[n]``, its CT at the drawn dose with
    ``dosed``. Rows with the same modalities go through the network together."""
    cells = batch_cells(network, batch)
    outputs: list[tuple[Tensor, StudentOutput]] = []
    for group in dict.fromkeys(names):
        rows = torch.tensor([n for n, own in enumerate(names) if own == group])
        rows = rows.to(batch.labels.device)
        volumes = {
            name: batch.volumes[DOSED_CT if dosed and name == "ct" else name][rows]
            for name in group
        }
        outputs.append((rows, network(volumes, batch.roi[rows], cells.weights[rows])))
    back = torch.cat([rows for rows, _ in outputs]).argsort()

    def joined(field: str) -> Tensor:
        return torch.cat([getattr(output, field) for _, output in outputs])[back]

    features = joined("features")
    return NetworkView(
        logits=joined("logits"),
        features=features,
        pooled=joined("pooled"),
        graphs=pool_regions(features, cells.regions),
        weights=cells.weights,
    )


def teacher_view(teacher: Teacher, batch: Batch, dosed: bool) -> TeacherView:
    """What a teacher, in evaluation mode, says of every row that completes one of its branches."""
    read = [
        tuple(
            name
            for branch in teacher.branches_for(batch.names(row, tuple(batch.present)))
            for name in teacher.spec.branches[branch]
        )
        for row in range(len(batch.labels))
    ]
    present = torch.tensor([bool(names) for names in read], device=batch.labels.device)
    with torch.no_grad():
        # Rows without an answer go through as CT alone, and nobody reads what comes out.
        first = next((names for names in read if names), None)
        if first is None:
            raise ValueError("No row of the batch completes a branch of the teacher.")
        view = view_of(teacher, batch, [tuple(dict.fromkeys(n or first)) for n in read], dosed)
    return TeacherView(**vars(view), present=present)


@dataclass(frozen=True, eq=False)
class Cells:
    """Pooling weights (N, 1, k', j', i') and regions (N, R, k', j', i') on a feature grid."""

    weights: Tensor
    regions: Tensor


def batch_cells(network: Network, batch: Batch) -> Cells:
    """A batch's weights and regions on the feature grid of a network."""
    weights = network.cells(batch.weights)
    weights = weights / weights.sum(dim=(2, 3, 4), keepdim=True)
    return Cells(weights, network.cells(batch.regions * batch.roi))
