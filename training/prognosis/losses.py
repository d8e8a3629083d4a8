"""Losses of TMI-CLNet: the label's, and the triple-modal feature-fusion loss.

Source: TMI-CLNet (arXiv 2502.00695), section on the loss; similarity distribution matching is of
Jiang and Ye, Cross-modal implicit relation reasoning, CVPR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.networks.batch import PrognosisOutput
from REACTKDLib.prognosis.types import CLINICAL, CT, MODALITIES, RADIOMICS

from ..losses.focal import focal_loss

#: Weights of the pairs in the paper: R is radiomics, V the image, T the text.
PAIRS = ((RADIOMICS, CT, 0.8), (CT, CLINICAL, 0.1), (RADIOMICS, CLINICAL, 0.1))


@dataclass(frozen=True)
class PrognosisLossSpec:
    """What a prognosis network is trained for.

    ``form`` "corrected": cross-entropy (``gamma`` 0) or focal loss of the logits; "paper": of their
    sigmoids, which bounds it. ``fusion`` : weight of the triple-modal feature-fusion loss (0: an
    ablation), ``temperature`` its tau, ``epsilon`` its bound, ``queue`` how many earlier patients
    it compares with (0 as published).
    """

    form: str = "corrected"
    gamma: float = 0.0
    label_smoothing: float = 0.0
    fusion: float = 0.01
    temperature: float = 2.0
    epsilon: float = 1e-8
    queue: int = 64


def label_loss(
    logits: Tensor,
    labels: Tensor,
    form: str = "corrected",
    gamma: float = 0.0,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Focal loss of logits (N, classes), with ``gamma`` 0 the cross-entropy; labels (N,).

    ``form`` "paper" puts the authors' sigmoid before it: the cross-entropy of two classes is then
    never below log(1 + 1/e) = 0.313 nor above log(1 + e) = 1.313.

    Raises
    ------
    InputError : no such form.
    """
    if form not in ("corrected", "paper"):
        raise InputError(f"The loss has no form {form!r}.", "Choose corrected or paper.")
    scores = torch.sigmoid(logits) if form == "paper" else logits
    return focal_loss(scores, labels, gamma, class_weights, label_smoothing)


def distribution_matching(
    rows: Tensor,
    columns: Tensor,
    row_labels: Tensor,
    column_labels: Tensor,
    temperature: float = 2.0,
    epsilon: float = 1e-8,
) -> Tensor:
    """One direction of similarity distribution matching, scalar: mean over rows of KL(p || q).

    p = softmax over columns of temperature x cosine; q spreads a row evenly over the columns of its
    label. q is 0 elsewhere, and ``epsilon`` is added to it: the loss lies within 0..-log(epsilon),
    up to epsilon itself. A row that no column shares its label with has no q and drops out; no row
    at all gives 0.

    Parameters
    ----------
    rows, columns : (R, W), (C, W); need not be of unit length.
    row_labels, column_labels : (R,), (C,).
    """
    same = (row_labels[:, None] == column_labels[None]).to(rows.dtype)
    usable = same.sum(dim=1) > 0
    if not usable.any():
        return (rows.sum() + columns.sum()) * 0.0
    same = same[usable]
    cosine = functional.normalize(rows[usable], dim=1) @ functional.normalize(columns, dim=1).T
    logarithm = (temperature * cosine).log_softmax(dim=1)
    wanted = same / same.sum(dim=1, keepdim=True)
    divergence = logarithm.exp() * (logarithm - (wanted + epsilon).log())
    return divergence.sum(dim=1).mean()


class FeatureQueue(nn.Module):
    """The vectors of the last patients, first in, first out, without gradient.

    A batch of two hardly ever holds two patients of each class, and then the published loss
    compares a patient with itself. The queue is state of training: it is saved with it.

    Parameters
    ----------
    size : patients; width : of a vector.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        count = len(MODALITIES)
        self.register_buffer("vectors", torch.zeros(size, count, width))
        self.register_buffer("presence", torch.zeros(size, count, dtype=torch.bool))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.long))

    def push(self, vectors: Tensor, presence: Tensor, labels: Tensor) -> None:
        """Add a batch (N, 3, W), (N, 3), (N,); the oldest patients leave."""
        for name, new in (("vectors", vectors), ("presence", presence), ("labels", labels)):
            old = self.get_buffer(name)
            kept = torch.cat([old, new.detach().to(old)])
            old.copy_(kept[len(kept) - len(old) :])

    def columns(self, modality: int) -> tuple[Tensor, Tensor]:
        """Vectors (C, W) and labels (C,) of the patients who had a modality."""
        there = self.get_buffer("presence")[:, modality]
        return self.get_buffer("vectors")[there, modality], self.get_buffer("labels")[there]


def feature_fusion_loss(
    vectors: Tensor,
    presence: Tensor,
    labels: Tensor,
    queue: FeatureQueue | None = None,
    temperature: float = 2.0,
    epsilon: float = 1e-8,
) -> Tensor:
    """TMFF, the triple-modal feature-fusion loss without its weight: 0.8 S(R, V) + 0.1 S(V, T) +
    0.1 S(R, T), scalar. S is :func:`distribution_matching` in both directions, summed.

    Rows are the batch, columns the batch and the queue. A patient who lacks a modality is no row
    and no column of it. The queue is read, not changed.

    Parameters
    ----------
    vectors : (N, 3, W) in the order of ``MODALITIES``. presence : bool (N, 3). labels : (N,).
    """
    total = vectors.sum() * 0.0
    for one, other, weight in PAIRS:
        for row, column in ((one, other), (other, one)):
            r, c = MODALITIES.index(row), MODALITIES.index(column)
            rows, there = presence[:, r], presence[:, c]
            columns, column_labels = vectors[there, c], labels[there]
            if queue is not None:
                earlier, earlier_labels = queue.columns(c)
                columns = torch.cat([columns, earlier.to(columns)])
                column_labels = torch.cat([column_labels, earlier_labels.to(column_labels)])
            total = total + weight * distribution_matching(
                vectors[rows, r], columns, labels[rows], column_labels, temperature, epsilon
            )
    return total


class PrognosisLoss(nn.Module):
    """Label loss plus weighted TMFF; owns the queue, which is filled in training mode only.

    ``width`` : of the network's vectors.
    """

    def __init__(
        self, spec: PrognosisLossSpec, width: int, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("class_weights", class_weights)
        self.queue = FeatureQueue(spec.queue, width) if spec.queue and spec.fusion else None

    def forward(self, output: PrognosisOutput, labels: Tensor) -> dict[str, Tensor]:
        """``label`` and, with a weight, ``fusion``, already weighted: their sum is minimised."""
        spec, weights = self.spec, self.class_weights
        assert weights is None or isinstance(weights, Tensor)
        smoothing = spec.label_smoothing
        terms = {
            "label": label_loss(output.logits, labels, spec.form, spec.gamma, weights, smoothing)
        }
        if spec.fusion:
            vectors, presence = output.vectors.float(), output.presence
            matched = feature_fusion_loss(
                vectors, presence, labels, self.queue, spec.temperature, spec.epsilon
            )
            terms["fusion"] = spec.fusion * matched
            if self.queue is not None and self.training:
                self.queue.push(vectors, presence, labels)
        return terms
