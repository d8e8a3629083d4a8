"""The focal loss of a classification."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .views import at_least_single


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy in which each class counts by ``(1 - its probability) ** gamma``.

    Parameters
    ----------
    logits : (N, classes).
    labels : (N,), class numbers.
    gamma : 0 is the cross entropy.
    class_weights : (classes,), factors of the classes' terms. The mean over samples is plain, not
        divided by the samples' weights: in a batch of one these would cancel.
    label_smoothing : the part of the target that is spread evenly over all classes.

    Returns
    -------
    Tensor : scalar, mean over samples.

    Source: Lin et al., ICCV 2017; REACT-KD uses gamma 2.
    """
    classes = logits.shape[1]
    log_probabilities = at_least_single(logits).log_softmax(dim=1)
    target = functional.one_hot(labels, classes).to(log_probabilities.dtype)
    target = target * (1 - label_smoothing) + label_smoothing / classes
    # Not below the smallest number: a power below 1 has no slope at zero.
    wrong = (-torch.expm1(log_probabilities)).clamp_min(torch.finfo(log_probabilities.dtype).tiny)
    terms = -target * wrong**gamma * log_probabilities
    if class_weights is not None:
        terms = terms * class_weights.to(terms)
    return terms.sum(dim=1).mean()
