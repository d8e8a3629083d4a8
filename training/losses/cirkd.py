"""CIRKD: relations between regions of different images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .distillation import Distillation, same_regions, weighted
from .kd import ResponseSettings, response_term
from .views import NetworkView, TeacherView, directions


class MemoryBank(nn.Module):
    """The last ``size`` embeddings, first in, first out; all of it is in the state dict."""

    embeddings: Tensor
    written: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(size, channels))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return min(int(self.written), len(self.embeddings))

    def contents(self) -> Tensor:
        """What is stored, (length, channels), in no particular order."""
        return self.embeddings[: len(self)]

    @torch.no_grad()
    def push(self, embeddings: Tensor) -> None:
        """Store (M, channels) in place of the oldest."""
        size = len(self.embeddings)
        places = (self.written + torch.arange(len(embeddings), device=self.written.device)) % size
        self.embeddings[places[-size:]] = embeddings[-size:].to(self.embeddings)
        self.written += len(embeddings)


class CIRKD(Distillation):
    """Similarities between regions of different images are distributed as the teacher's are.

    - logits: Hinton's response term.
    - batch: for every ordered pair of images, each region of the first gives a softmax
      over its cosine similarities with the regions of the second; KL from the teacher's. An image
      is paired with itself too, so a batch of one compares within the image.
    - memory: the same with a bank of earlier regions of the teacher's, to which the student's are
      projected. This is the cross-image relation of a batch of one. The batch enters the bank
      after its loss, in training mode only; the term is zero while the bank is empty.

    Source: Yang et al., CVPR 2022, with the weights and the similarity's temperature of its code.
    Changed for a classification of volumes: embeddings are pooled regions, not pixels, and one bank
    a teacher holds all classes and is read as a whole (the paper keeps one a class and draws from
    it). Our own code.
    """

    @dataclass(frozen=True)
    class Settings:
        """``batch`` and ``memory`` weigh the terms, ``response`` the logits; ``temperature``
        divides the similarities."""

        response: float = 1.0
        response_temperature: float = 1.0
        batch: float = 1.0
        memory: float = 0.1
        temperature: float = 0.1
        memory_size: int = 512

    def __init__(
        self, settings: Settings, student_channels: int, teacher_channels: Sequence[int], _: int
    ) -> None:
        super().__init__(student_channels, teacher_channels)
        self.settings = settings
        self.response = ResponseSettings(settings.response, settings.response_temperature)
        self.projections = nn.ModuleList(
            nn.Sequential(
                nn.Linear(student_channels, channels), nn.ReLU(), nn.Linear(channels, channels)
            )
            for channels in teacher_channels
        )
        self.banks = nn.ModuleList(
            MemoryBank(settings.memory_size, channels) for channels in teacher_channels
        )

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """``logits``, ``batch``, ``memory``; the last two are means over the teachers present."""
        batch, memory = [], []
        for number, teacher in enumerate(teachers):
            mask = same_regions(student.graphs, teacher.graphs) & teacher.present[:, None]
            rows = mask.any(dim=1)
            if rows.any():
                mask = mask[rows]
                own = student.graphs.nodes()[rows]
                theirs = directions(teacher.graphs.nodes()[rows])
                batch.append(self._within_batch(directions(own), theirs, mask))
                projected = directions(self.projections[number](own))
                memory.append(self._with_bank(self.banks[number], projected, theirs, mask))
        means = {}
        if batch:
            means = {"batch": torch.stack(batch).mean(), "memory": torch.stack(memory).mean()}
        weights = {"batch": self.settings.batch, "memory": self.settings.memory}
        logits = response_term(student, teachers, self.response)
        return {"logits": logits, **weighted(means, weights, student.logits)}

    def _within_batch(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        columns = mask[None, None]
        relations = [
            torch.einsum("irc,jsc->irjs", nodes, nodes).masked_fill(~columns, -1e4)
            for nodes in (student, teacher)
        ]
        divergences = self._divergence(relations[0], relations[1]).mean(dim=2)
        return _mean_over_regions(divergences, mask)

    def _with_bank(self, bank: nn.Module, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        assert isinstance(bank, MemoryBank)
        contents = bank.contents().clone()
        if len(contents):
            divergences = self._divergence(student @ contents.T, teacher @ contents.T)
            loss = _mean_over_regions(divergences, mask)
        else:
            loss = student.sum() * 0.0
        if self.training:
            bank.push(teacher[mask])
        return loss

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """KL over the last axis of similarities."""
        own = (student / self.settings.temperature).log_softmax(dim=-1)
        theirs = (teacher / self.settings.temperature).log_softmax(dim=-1)
        return (theirs.exp() * (theirs - own)).sum(dim=-1)


def _mean_over_regions(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over images of the mean over their regions, of (N, R)."""
    values = torch.where(mask, values, 0.0)
    return (values.sum(dim=1) / mask.sum(dim=1)).mean()
