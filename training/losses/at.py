"""Attention transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .distillation import Distillation, energy, mean_of_pairs, weighted
from .views import NetworkView, TeacherView, directions


class AT(Distillation):
    """Spatial attention maps of student and teacher are to agree.

    A map is the sum over channels of the squared features, as a vector over cells scaled to length
    1; the loss is the squared distance between two maps, 0..2. The teacher's map is interpolated to
    the student's grid; cells outside the student's region of interest are left out.

    Source: Zagoruyko and Komodakis, ICLR 2017. Theirs is a mean over cells, multiplied by 500 by
    default: ours at weight 500 / cells. Here the size of the grid does not scale the loss.
    """

    @dataclass(frozen=True)
    class Settings:
        """``weight`` of the term."""

        weight: float = 1.0

    def __init__(
        self, settings: Settings, student_channels: int, teacher_channels: Sequence[int], _: int
    ) -> None:
        super().__init__(student_channels, teacher_channels)
        self.settings = settings

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """``attention``."""

        def distance(_: int, student: NetworkView, teacher: NetworkView) -> dict[str, Tensor]:
            maps = [
                directions(energy(network.features, student.weights).flatten(1))
                for network in (student, teacher)
            ]
            return {"attention": (maps[0] - maps[1]).square().sum(dim=1)}

        means = mean_of_pairs(student, teachers, distance)
        return weighted(means, {"attention": self.settings.weight}, student.logits)
