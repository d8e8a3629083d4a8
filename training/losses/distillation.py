"""The common form of all distillation losses, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from REACTKDLib.errors import InputError, OptionError

from .response import mean_over_taught, shares
from .views import NetworkView, RegionGraphs, TeacherView, at_least_single, directions


class Distillation(nn.Module):
    """What a student learns from its teachers, beside the labels.

    A module, because some losses own projections (to be optimised with the student) and memory
    banks (to be saved with it). Nothing of it is needed once the student is trained.

    Parameters
    ----------
    student_channels : width C of the student's features.
    teacher_channels : widths of the teachers' features, one a teacher, in their order.
    """

    #: Whether the loss can do without any teacher.
    needs_teachers = True

    def __init__(self, student_channels: int, teacher_channels: Sequence[int]) -> None:
        super().__init__()
        if self.needs_teachers and not teacher_channels:
            raise OptionError(
                f"{type(self).__name__} without a teacher.", 'Give teachers, or choose "none".'
            )
        self.student_channels = student_channels
        self.teacher_channels = tuple(teacher_channels)

    def forward(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """Named terms, each a scalar with its weight already in: the loss is their sum.

        Parameters
        ----------
        student : N samples.
        teachers : of the same samples, in the order of ``teacher_channels``. No gradient reaches
            them. A term averages over the samples that have a teacher, within a sample over its
            teachers; it is zero without any.
        labels : (N,), class numbers.

        Raises
        ------
        InputError : another number of teachers than ``teacher_channels``.
        """
        if len(teachers) != len(self.teacher_channels):
            raise InputError(
                f"{len(teachers)} teachers; the loss was made for {len(self.teacher_channels)}.",
                "Give one view a teacher; mark samples that it has no answer for as not present.",
            )
        with torch.autocast(student.logits.device.type, enabled=False):
            return self.terms(student, [teacher.detach() for teacher in teachers], labels)

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """The terms of :meth:`forward`, from teachers without gradient."""
        raise NotImplementedError


class Projections(nn.ModuleList):
    """One linear layer a teacher from the student's width to the teacher's, none where a single
    teacher has the student's width. Acts on the last axis. No bias: only directions of features are
    compared.

    Several teachers have each their own coordinates, even where their widths are equal: without a
    layer for each, a student could not be like both.
    """

    def __init__(self, student_channels: int, teacher_channels: Sequence[int]) -> None:
        super().__init__(
            nn.Identity()
            if tuple(teacher_channels) == (student_channels,)
            else nn.Linear(student_channels, channels, bias=False)
            for channels in teacher_channels
        )


def stacked(teachers: Sequence[TeacherView]) -> tuple[Tensor, Tensor]:
    """Logits (N, teachers, classes), zero where absent, and presence (N, teachers)."""
    present = torch.stack([teacher.present for teacher in teachers], dim=1)
    logits = torch.stack([teacher.logits for teacher in teachers], dim=1)
    return torch.where(present[..., None], at_least_single(logits), 0.0), present


def mean_of_pairs(
    student: NetworkView,
    teachers: Sequence[TeacherView],
    loss: Callable[[int, NetworkView, NetworkView], Mapping[str, Tensor]],
    graphs: bool = False,
) -> dict[str, Tensor]:
    """Mean over samples of the mean over their teachers of losses of student and teacher.

    ``loss(number of the teacher, student, teacher)`` gets only samples that the teacher has an
    answer for and, with ``graphs``, where both graphs have a region; it gives named tensors of one
    number a sample, each of which becomes a scalar. Empty where there is no such sample.
    """
    columns: dict[str, list[Tensor]] = {}
    usable: list[Tensor] = []
    for number, teacher in enumerate(teachers):
        rows = teacher.present
        if graphs:
            rows = rows & student.graphs.mask.any(dim=1) & teacher.graphs.mask.any(dim=1)
        if rows.any():
            usable.append(rows)
            for name, values in loss(number, student[rows], teacher[rows]).items():
                column = values.new_zeros(len(rows)).index_put((rows,), values)
                columns.setdefault(name, []).append(column)
    if not columns:
        return {}
    present = torch.stack(usable, dim=1)
    weights = shares(present.float(), present)
    return {
        name: mean_over_taught((torch.stack(each, dim=1) * weights).sum(dim=1), present)
        for name, each in columns.items()
    }


def weighted(
    terms: Mapping[str, Tensor], weights: Mapping[str, float], like: Tensor
) -> dict[str, Tensor]:
    """Every term of ``weights`` times its weight; one that could not be computed is zero."""
    return {name: w * terms.get(name, like.new_zeros(())) for name, w in weights.items()}


def same_regions(student: RegionGraphs, teacher: RegionGraphs) -> Tensor:
    """Mask (N, R) of the regions that both graphs have.

    Raises
    ------
    InputError : the graphs do not list the same regions.
    """
    if student.mask.shape != teacher.mask.shape:
        raise InputError(
            f"Graphs of {tuple(student.mask.shape)} and {tuple(teacher.mask.shape)} regions.",
            "This loss compares region by region: pool both from the same list of regions.",
        )
    return student.mask & teacher.mask


def to_grid(volumes: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, k, j, i) interpolated to another grid of the same field of view, trilinear."""
    if tuple(volumes.shape[2:]) == tuple(size):
        return volumes
    return functional.interpolate(volumes, tuple(size), mode="trilinear", align_corners=False)


def energy(features: Tensor, weights: Tensor) -> Tensor:
    """Squared features summed over channels, on the grid of the pooling weights and zero outside
    the region of interest, (N, 1, k, j, i)."""
    squares = at_least_single(features).square().sum(dim=1, keepdim=True)
    return torch.where(weights > 0, to_grid(squares, weights.shape[2:]), 0.0)


def cell_directions(features: Tensor, size: Sequence[int]) -> Tensor:
    """Directions of the features of every cell of a grid, (N, cells, C)."""
    return directions(to_grid(features, size).flatten(2).mT)
