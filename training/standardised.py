"""The student as it is trained, and the random choices of a training step."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from REACTKDLib.model_package import ModelSpec
from REACTKDLib.networks.onednn import use_onednn
from REACTKDLib.networks.student import Student

from .prepare import PreparedCase


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

    def dense_loss(
        self, features: Tensor, weights: Tensor, lesion: Tensor, labels: Tensor
    ) -> Tensor:
        """Cross entropy of grading each cell: the case's class in lesions, nothing elsewhere.

        ``features`` (N, C, k, j, i); ``weights`` of the cells and ``lesion`` occupancy, both
        (N, 1, k, j, i); ``labels`` (N,). Lesion cells and other cells count one half each.
        """
        log_probabilities = self.dense_head(features).log_softmax(dim=1)
        of_class = log_probabilities[torch.arange(len(labels)), labels + 1][:, None]
        inside, outside = weights * lesion, weights * (1 - lesion)
        graded = (inside * of_class).sum() / inside.sum().clamp_min(1e-6)
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


def draw_flips(rng: np.random.Generator) -> tuple[int, ...]:
    """Axes to mirror, each with probability one half."""
    return tuple(axis for axis in range(3) if rng.random() < 0.5)


def draw_modalities(
    case: PreparedCase, sets: Mapping[str, float], rng: np.random.Generator
) -> list[str]:
    """One of the modality sets, by its probability, less what the case does not have."""
    probabilities = np.array(list(sets.values()))
    chosen = list(sets)[rng.choice(len(sets), p=probabilities / probabilities.sum())]
    return [name for name in chosen.split("+") if name in case.volumes] or ["ct"]
