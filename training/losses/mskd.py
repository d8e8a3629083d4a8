"""MSKD: feature filtering distillation and region graph distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from .distillation import (
    Distillation,
    Projections,
    cell_directions,
    energy,
    mean_of_pairs,
    same_regions,
    weighted,
)
from .region_graph import similarities
from .views import NetworkView, TeacherView, at_least_single, directions


class MSKD(Distillation):
    """Filtered features, and nodes and edges of region graphs, region by region.

    - feature: squared distance between the directions of student and teacher features in every
      cell, averaged with a filter: the pooling weights of the cells times the teacher's attention
      (squared features summed over channels), summing to 1. Cells where the teacher is silent are
      redundant and do not count.
    - node and edge: mean squared distance between the directions of the same region's features,
      and between the cosine similarities of the same pairs of regions. No transport: both graphs
      must list the same regions.

    Source: Zhao et al., Comput Biol Med 2023. No code is public and the paper treats segmentation:
    this is written from its description, for classification.
    """

    @dataclass(frozen=True)
    class Settings:
        """Weights of the terms."""

        feature: float = 1.0
        node: float = 1.0
        edge: float = 1.0

    def __init__(
        self, settings: Settings, student_channels: int, teacher_channels: Sequence[int], _: int
    ) -> None:
        super().__init__(student_channels, teacher_channels)
        self.settings = settings
        self.projections = Projections(student_channels, teacher_channels)

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """``feature``, ``node``, ``edge``."""
        means = {
            **mean_of_pairs(student, teachers, self._feature),
            **mean_of_pairs(student, teachers, self._graph, graphs=True),
        }
        return weighted(means, asdict(self.settings), student.logits)

    def _feature(
        self, number: int, student: NetworkView, teacher: NetworkView
    ) -> dict[str, Tensor]:
        filters = (student.weights * energy(teacher.features, student.weights)).flatten(1)
        filters = filters / filters.sum(dim=1, keepdim=True).clamp_min(1e-12)
        features, size = at_least_single(student.features), student.features.shape[2:]
        projected = self.projections[number](features.movedim(1, -1)).movedim(-1, 1)
        distance = cell_directions(projected, size) - cell_directions(teacher.features, size)
        return {"feature": (distance.square().sum(dim=2) * filters).sum(dim=1)}

    def _graph(self, number: int, student: NetworkView, teacher: NetworkView) -> dict[str, Tensor]:
        mask = same_regions(student.graphs, teacher.graphs)
        each = mask / mask.sum(dim=1, keepdim=True).clamp_min(1)
        nodes = directions(self.projections[number](student.graphs.nodes()))
        node = (nodes - directions(teacher.graphs.nodes())).square().sum(dim=2)
        edge = (similarities(student.graphs) - similarities(teacher.graphs)).square()
        return {
            "node": (node * each).sum(dim=1),
            "edge": (edge * each[:, :, None] * each[:, None]).sum(dim=(1, 2)),
        }
