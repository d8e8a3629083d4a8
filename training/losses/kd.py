"""Response distillation: Hinton's, and with teacher weights that follow the true class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from REACTKDLib.errors import OptionError

from .distillation import Distillation, stacked
from .response import (
    COMBINATIONS,
    WEIGHTINGS,
    combined_divergence,
    mean_over_taught,
    shares,
    teacher_weights,
    true_class_log_probabilities,
)
from .views import NetworkView, TeacherView


@dataclass(frozen=True)
class ResponseSettings:
    """``alpha`` weighs the term; ``combination``, ``weighting`` and ``fixed_weights`` (one a
    teacher) say how teachers are combined: see :mod:`.response`."""

    alpha: float = 0.7
    temperature: float = 2.0
    combination: str = "mean_of_probabilities"
    weighting: str = "equal"
    fixed_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.combination not in COMBINATIONS or self.weighting not in WEIGHTINGS:
            raise OptionError(
                f"Combination {self.combination!r}, weighting {self.weighting!r}.",
                f"Choose one of {COMBINATIONS} and one of {WEIGHTINGS}.",
            )
        if self.temperature <= 0:
            raise OptionError(f"A temperature of {self.temperature}.", "Give a positive one.")

    def check_teachers(self, number: int) -> None:
        """Raise OptionError unless fixed weights, where they are used, are one a teacher."""
        if self.weighting == "fixed" and (
            len(self.fixed_weights) != number or min(self.fixed_weights) <= 0
        ):
            raise OptionError(
                f"Fixed weights {self.fixed_weights} for {number} teachers.",
                "Give one positive number a teacher.",
            )


def response_term(
    student: NetworkView, teachers: Sequence[TeacherView], settings: ResponseSettings
) -> Tensor:
    """``alpha * T^2 * KL(teachers || student)``, mean over samples that have a teacher."""
    logits, present = stacked(teachers)
    weights = teacher_weights(logits, present, settings.weighting, settings.fixed_weights)
    losses = combined_divergence(
        student.logits, logits, weights, settings.temperature, settings.combination
    )
    return settings.alpha * mean_over_taught(losses, present)


class NoDistillation(Distillation):
    """Labels alone. Takes teachers and ignores them."""

    needs_teachers = False

    @dataclass(frozen=True)
    class Settings:
        """Nothing to set."""

    def __init__(
        self, settings: Settings, student_channels: int, teacher_channels: Sequence[int], _: int
    ) -> None:
        super().__init__(student_channels, teacher_channels)

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """No term."""
        return {}


class KD(Distillation):
    """Softened answers of the teachers. Source: Hinton et al., 2015."""

    Settings = ResponseSettings

    def __init__(
        self,
        settings: ResponseSettings,
        student_channels: int,
        teacher_channels: Sequence[int],
        _: int,
    ) -> None:
        super().__init__(student_channels, teacher_channels)
        settings.check_teachers(len(teacher_channels))
        self.settings = settings

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """``logits``."""
        return {"logits": response_term(student, teachers, self.settings)}


class AWMTKD(Distillation):
    """Adaptive weighted multi-teacher distillation: a teacher counts for a sample as it is right.

    No paper of exactly this name was found; this is a reading of the name. The weight of a teacher
    for a sample is the softmax, over the sample's teachers, of minus its cross entropy on the true
    class divided by ``sharpness``; the loss is the weighted mean of the divergences.
    """

    @dataclass(frozen=True)
    class Settings:
        """``sharpness`` towards zero listens to the best teacher only."""

        alpha: float = 0.7
        temperature: float = 2.0
        sharpness: float = 1.0

    def __init__(
        self, settings: Settings, student_channels: int, teacher_channels: Sequence[int], _: int
    ) -> None:
        super().__init__(student_channels, teacher_channels)
        self.settings = settings

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """``logits``."""
        logits, present = stacked(teachers)
        right = true_class_log_probabilities(logits, labels) / self.settings.sharpness
        right = torch.where(present, right, -torch.inf)
        best = right.amax(dim=1, keepdim=True)
        weights = shares(torch.exp(right - torch.where(best.isfinite(), best, 0.0)), present)
        losses = combined_divergence(
            student.logits, logits, weights, self.settings.temperature, "mean_of_losses"
        )
        return {"logits": self.settings.alpha * mean_over_taught(losses, present)}
