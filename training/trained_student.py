"""The student as it is trained, and the random choices of a training step."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from REACTKDLib.model_package import ModelSpec
from REACTKDLib.networks.onednn import use_onednn
from REACTKDLib.networks.student import Student

from .prepare import PreparedCase


class TrainedStudent(nn.Module):
    """The student during training: its head grades cells as well as the whole case.

    The head turns the features of a cell into evidence for each class; averaged over the region of
    interest, it is the evidence of the case. Lesion cells are taught the case's class and all
    others to be undecided, so that evidence stands where the disease is. Lesions have only a part
    of the average, hence a gain before the softmax. :meth:`fold` puts gain and prior into the head,
    so the trained student is pooling and a linear layer alone.
    """

    _INITIAL_GAIN = 4.0  # the lesions' surroundings have half the weight, the lesions less

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.student = Student(spec.modality_names, len(spec.classes), spec.network)
        self.log_gain = nn.Parameter(torch.tensor(math.log(self._INITIAL_GAIN)))
        self.prior = nn.Parameter(torch.zeros(len(spec.classes)))

    def freeze_norms(self) -> None:
        """Batch norms keep their statistics from now on; steps of one case would distort them."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eval()

    def logits(self, pooled: Tensor) -> Tensor:
        """Logits (N, classes) of pooled features (N, C)."""
        return self.log_gain.exp() * self.student.head(pooled) + self.prior

    def fold(self) -> Student:
        """A copy of the student whose head gives the logits of :meth:`logits`."""
        student = copy.deepcopy(self.student)
        gain = self.log_gain.exp().detach()
        student.head.weight.data *= gain
        student.head.bias.data = student.head.bias.data * gain + self.prior.detach()
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
