"""Distillation of logits from one teacher or several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from REACTKDLib.errors import OptionError

from .views import at_least_single

#: How the answers of several teachers become one loss.
COMBINATIONS = ("mean_of_probabilities", "mean_of_losses")
#: How much each teacher counts for each sample.
WEIGHTINGS = ("equal", "fixed", "confidence")


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(teacher || student)`` of softened probabilities, (N,), from logits (N, classes).

    Source: Hinton et al., 2015: the factor keeps the size of the gradient at any temperature.
    """
    soft = (teacher / temperature).softmax(dim=-1)
    return temperature**2 * _kl(soft, (student / temperature).log_softmax(dim=-1))


def combined_divergence(
    student: Tensor,
    teachers: Tensor,
    weights: Tensor,
    temperature: float,
    combination: str = "mean_of_probabilities",
) -> Tensor:
    """The divergence from several teachers, (N,); zero where all of a sample's weights are.

    Parameters
    ----------
    student : logits (N, classes).
    teachers : logits (N, teachers, classes), finite where no teacher is present too.
    weights : (N, teachers), each row summing to 1, or to 0 where no teacher is present.
    combination : ``mean_of_probabilities`` is one divergence from the weighted mean of the softened
        probabilities; ``mean_of_losses`` the weighted mean of the divergences. The second is never
        smaller: it also counts how much the teachers disagree.

    Raises
    ------
    OptionError : an unknown combination.
    """
    student, teachers = at_least_single(student), at_least_single(teachers)
    if combination == "mean_of_losses":
        each = divergence(student[:, None].expand_as(teachers), teachers, temperature)
        return (each * weights).sum(dim=1)
    if combination != "mean_of_probabilities":
        raise OptionError(
            f"There is no combination {combination!r}.", f"Choose one of {COMBINATIONS}."
        )
    mixture = ((teachers / temperature).softmax(dim=2) * weights[..., None]).sum(dim=1)
    return temperature**2 * _kl(mixture, (student / temperature).log_softmax(dim=1))


def teacher_weights(
    teachers: Tensor,
    present: Tensor,
    weighting: str = "equal",
    fixed: Sequence[float] = (),
) -> Tensor:
    """Weights (N, teachers) that sum to 1 over the teachers that a sample has, or are all 0.

    Parameters
    ----------
    teachers : logits (N, teachers, classes).
    present : bool (N, teachers).
    weighting : ``equal``; ``fixed``, the numbers in ``fixed``; ``confidence``, one over the
        perplexity ``exp(entropy)`` of the teacher's answer to the sample.
    fixed : one positive number a teacher.

    Raises
    ------
    OptionError : an unknown weighting.
    """
    if weighting == "equal":
        weights = present.to(teachers.dtype)
    elif weighting == "fixed":
        weights = teachers.new_tensor(fixed).expand(present.shape)
    elif weighting == "confidence":
        log_probabilities = teachers.log_softmax(dim=2)
        weights = (log_probabilities.exp() * log_probabilities).sum(dim=2).exp()
    else:
        raise OptionError(f"There is no weighting {weighting!r}.", f"Choose one of {WEIGHTINGS}.")
    return shares(weights, present)


def true_class_log_probabilities(teachers: Tensor, labels: Tensor) -> Tensor:
    """(N, teachers) from logits (N, teachers, classes) and labels (N,)."""
    index = labels[:, None, None].expand(-1, teachers.shape[1], 1)
    return teachers.log_softmax(dim=2).gather(2, index)[..., 0]


def shares(weights: Tensor, present: Tensor) -> Tensor:
    """Non-negative weights (N, teachers) divided by their sum over the teachers present."""
    weights = torch.where(present, weights, 0.0)
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def mean_over_taught(losses: Tensor, present: Tensor) -> Tensor:
    """Mean of (N,) over the samples with a teacher, by ``present`` (N, teachers); 0 without any."""
    taught = present.any(dim=1)
    return torch.where(taught, losses, 0.0).sum() / taught.sum().clamp_min(1)


def _kl(target: Tensor, log_probabilities: Tensor) -> Tensor:
    return functional.kl_div(log_probabilities, target, reduction="none").sum(dim=-1)
