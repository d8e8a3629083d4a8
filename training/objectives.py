"""What teachers and students are trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .answers import Answers
from .batches import Batch
from .engine import Objective
from .forward import AnyStudent, view_of
from .losses import Distillation, NetworkView, cell_loss, focal_loss
from .networks.teacher import Teacher


@dataclass(frozen=True)
class LabelLoss:
    """Focal loss of the case's label."""

    gamma: float = 2.0
    label_smoothing: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the batch of logits (N, classes) and labels (N,)."""
        return focal_loss(logits, labels, self.gamma, label_smoothing=self.label_smoothing)


class TeacherObjective(Objective):
    """A teacher learns from labels, each of its branches left out at random.

    ``dosed`` : its CT is the one at the drawn dose. A branch is left out with probability
    ``branch_dropout`` as long as another remains, so that the teacher answers for a patient who has
    one tracer alone. ``cells`` weighs :func:`~.losses.cells.cell_loss`.
    """

    def __init__(
        self,
        network: Teacher,
        loss: LabelLoss,
        dosed: bool,
        branch_dropout: float,
        cells: float = 0.0,
    ) -> None:
        super().__init__()
        self.network: Teacher = network
        self.loss, self.dosed, self.branch_dropout = loss, dosed, branch_dropout
        self.cells = cells

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``label`` and, with a weight, ``cells``."""
        kept = list(self.network.encoders)
        if len(kept) > 1 and torch.rand(()) < self.branch_dropout:
            kept = [kept[int(torch.randint(len(kept), ()))]]
        names = [self._names(batch, row, kept) for row in range(len(batch.labels))]
        view = view_of(self.network, batch, names, self.dosed)
        return _label_terms(self, view, batch)

    def _names(self, batch: Batch, row: int, kept: Sequence[str]) -> tuple[str, ...]:
        """Modalities that a row shows: of the branches kept, or of all if it has none of them."""
        complete = self.network.branches_for(batch.names(row, tuple(batch.present)))
        branches = [name for name in complete if name in kept] or complete
        return self.network.modalities_of(branches)


def _label_terms(
    objective: TeacherObjective | StudentObjective, view: NetworkView, batch: Batch
) -> dict[str, Tensor]:
    """``label`` and, with a weight, ``cells``."""
    terms = {"label": objective.loss(view.logits, batch.labels)}
    if objective.cells:
        network = objective.network
        lesion = network.cells(batch.lesion)
        dense = cell_loss(network.head, view.features, view.weights, lesion, batch.labels)
        terms["cells"] = objective.cells * dense
    return terms


@dataclass(frozen=True)
class ModalityDropout:
    """``sets`` : modalities joined by "+" -> how often a batch shows just these."""

    sets: Mapping[str, float] = field(default_factory=lambda: {"ct": 1.0})

    def draw(self) -> tuple[str, ...]:
        """One set, by its probability, with torch's generator."""
        weights = torch.tensor(list(self.sets.values()), dtype=torch.float64)
        return tuple(list(self.sets)[int(torch.multinomial(weights, 1))].split("+"))


class StudentObjective(Objective):
    """A student learns from labels and from its teachers, with modality dropout.

    A case that has none of the drawn modalities shows its CT. The student reads the CT at the drawn
    dose; so did teachers that are ``dosed``, the others read it as it is. The teachers' answers are
    not part of the module's state. ``cells`` as for the teachers.
    """

    def __init__(
        self,
        network: AnyStudent,
        distillation: Distillation,
        teachers: Sequence[Answers],
        loss: LabelLoss,
        dropout: ModalityDropout,
        cells: float = 0.0,
    ) -> None:
        super().__init__()
        self.network: AnyStudent = network
        self.distillation = distillation
        self.loss, self.dropout, self.cells = loss, dropout, cells
        self._teachers = tuple(teachers)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``label``, ``cells`` with a weight, and the terms of the distillation."""
        wanted = self.dropout.draw()
        names = [batch.names(row, wanted) or ("ct",) for row in range(len(batch.labels))]
        view = view_of(self.network, batch, names, dosed=True)
        teachers = [teacher.view(batch).centred() for teacher in self._teachers]
        terms = self.distillation(view.centred(), teachers, batch.labels)
        return _label_terms(self, view, batch) | terms
