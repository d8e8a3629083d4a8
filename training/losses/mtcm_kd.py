"""MTCM-KD: performance-aware responses and cooperative fusion of the teachers' features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from REACTKDLib.networks.student import pool

from .distillation import Distillation, cell_directions, stacked, to_grid, weighted
from .response import (
    combined_divergence,
    mean_over_taught,
    shares,
    true_class_log_probabilities,
)
from .views import NetworkView, TeacherView, at_least_single


class MTCMKD(Distillation):
    """Teachers count by their performance, and teach through features that they fuse.

    - logits: weighted mean of the divergences from the teachers. A teacher's weight is its
      performance on the batch, the mean probability that it gives the true class, divided among the
      teachers that a sample has.
    - fusion: every teacher's map, interpolated to the student's grid, is brought to the student's
      width and fused by an attention that is a softmax over the teachers in every cell; the fused
      map, pooled, is classified by a head of its own with cross entropy. This trains the fusion
      and reaches neither teachers nor student.
    - feature: squared distance between the directions of the student's and the fused features in
      every cell, averaged with the pooling weights. It trains the student, not the fusion.

    Source: Ahmad et al., Knowledge-Based Systems 2024. The public repository holds no code and the
    paper treats segmentation, with performance measured as overlap: this is written from its
    description, for classification, with the last feature map as the one supervised depth.
    """

    @dataclass(frozen=True)
    class Settings:
        """``alpha`` and ``temperature`` of the logits; weights of the other terms."""

        alpha: float = 0.7
        temperature: float = 2.0
        fusion: float = 1.0
        feature: float = 1.0

    def __init__(
        self,
        settings: Settings,
        student_channels: int,
        teacher_channels: Sequence[int],
        classes: int,
    ) -> None:
        super().__init__(student_channels, teacher_channels)
        self.settings = settings
        self.projections = nn.ModuleList(
            nn.Conv3d(channels, student_channels, kernel_size=1) for channels in teacher_channels
        )
        self.attention = nn.Conv3d(student_channels, 1, kernel_size=1)
        self.head = nn.Linear(student_channels, classes)

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """``logits``, ``fusion``, ``feature``."""
        logits, present = stacked(teachers)
        importance = shares(
            self.performance(logits, present, labels).expand(present.shape), present
        )
        losses = combined_divergence(
            student.logits, logits, importance, self.settings.temperature, "mean_of_losses"
        )
        means = {}
        rows = present.any(dim=1)
        if rows.any():
            fused = self.fuse(teachers, student.features.shape[2:])[rows]
            pooled = pool(fused, student.weights[rows])
            means["fusion"] = functional.cross_entropy(self.head(pooled), labels[rows])
            distance = _cells(student.features[rows]) - _cells(fused.detach())
            per_cell = distance.square().sum(dim=2) * student.weights[rows].flatten(1)
            means["feature"] = per_cell.sum(dim=1).mean()
        weights = {"fusion": self.settings.fusion, "feature": self.settings.feature}
        logits_term = self.settings.alpha * mean_over_taught(losses, present)
        return {"logits": logits_term, **weighted(means, weights, student.logits)}

    def performance(self, logits: Tensor, present: Tensor, labels: Tensor) -> Tensor:
        """Mean probability of the true class of each teacher (teachers,) over its samples."""
        right = true_class_log_probabilities(logits, labels).exp()
        return torch.where(present, right, 0.0).sum(dim=0) / present.sum(dim=0).clamp_min(1)

    def fuse(self, teachers: Sequence[TeacherView], size: Sequence[int]) -> Tensor:
        """Features of the teachers fused by attention, (N, student's width, k, j, i)."""
        maps, scores = [], []
        for teacher, projection in zip(teachers, self.projections, strict=True):
            here = teacher.present[:, None, None, None, None]
            features = torch.where(here, at_least_single(teacher.features), 0.0)
            projected = projection(to_grid(features, size))
            maps.append(projected)
            scores.append(torch.where(here, self.attention(projected), -1e4))
        attention = torch.stack(scores).softmax(dim=0)
        return (torch.stack(maps) * attention).sum(dim=0)


def _cells(features: Tensor) -> Tensor:
    return cell_directions(features, features.shape[2:])
