"""Forward passes of student and teachers over a batch, as the losses read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from REACTKDLib.networks.student import Student, StudentOutput

from .batches import DOSED_CT, Batch
from .losses import NetworkView, pool_regions
from .networks.swin_student import SwinStudent
from .networks.teacher import Teacher

AnyStudent = Student | SwinStudent
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


@dataclass(frozen=True, eq=False)
class Cells:
    """Pooling weights (N, 1, k', j', i') and regions (N, R, k', j', i') on a feature grid."""

    weights: Tensor
    regions: Tensor


def batch_cells(network: Network, batch: Batch) -> Cells:
    """A batch's weights and regions on the feature grid of a network."""
    weights = network.cells(batch.weights)
    weights = weights / weights.sum(dim=(2, 3, 4), keepdim=True)
    if batch.regions.shape[1] == 0:  # average pooling refuses a volume without channels
        return Cells(weights, weights[:, :0])
    return Cells(weights, network.cells(batch.regions * batch.roi))
