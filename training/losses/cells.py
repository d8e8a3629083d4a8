"""Supervision of single cells by the lesion masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .views import at_least_single


def cell_loss(
    head: nn.Linear, features: Tensor, weights: Tensor, lesion: Tensor, labels: Tensor
) -> Tensor:
    """Cross entropy of the cells: the case's class in lesions, all classes alike elsewhere.

    The label of a case says little about where its grade shows; the masks do. Lesion cells and
    other cells count one half each. A decision of ours.

    Parameters
    ----------
    head : reads the features of a cell as it reads pooled ones.
    features : (N, C, k, j, i).
    weights : (N, 1, k, j, i), pooling weights of the cells.
    lesion : (N, 1, k, j, i), how much of a cell is lesion, 0..1.
    labels : (N,), class numbers.

    Returns
    -------
    Tensor : scalar.
    """
    evidence = head(at_least_single(features).movedim(1, -1)).movedim(-1, 1)
    log_probabilities = evidence.log_softmax(dim=1)
    of_class = log_probabilities[torch.arange(len(labels), device=labels.device), labels][:, None]
    undecided = log_probabilities.mean(dim=1, keepdim=True)
    inside, outside = weights * lesion, weights * (1 - lesion)
    graded = (inside * of_class).sum() / inside.sum().clamp_min(1e-6)
    return -(graded + (outside * undecided).sum() / outside.sum().clamp_min(1e-6)) / 2
