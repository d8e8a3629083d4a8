"""What goes into a prognosis network and what comes out, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ..types import CLINICAL, CT, MODALITIES, RADIOMICS
from .spec import PrognosisNetworkSpec


@dataclass(frozen=True, eq=False)
class PrognosisBatch:
    """N patients. What is None is missing for all of them.

    ``ct`` (N, 1, k, j, i), normalised, any size; ``roi`` the same shape, 0..1.
    ``clinical`` (N, variables): numbers standardised, a flag 0 or 1, a category its index, NaN
    where missing. ``text`` (N, L, H), a language model's token vectors; ``text_mask`` bool (N, L),
    which are tokens. ``radiomics`` (N, features), standardised, NaN where missing.
    ``present`` bool (N, 3), in the order of ``MODALITIES``: False hides a modality, whatever its
    tensor holds; None hides nothing.
    """

    ct: Tensor | None = None
    roi: Tensor | None = None
    clinical: Tensor | None = None
    text: Tensor | None = None
    text_mask: Tensor | None = None
    radiomics: Tensor | None = None
    present: Tensor | None = None

    def _tensors(self) -> list[Tensor]:
        given = (self.ct, self.clinical, self.text, self.radiomics, self.present)
        return [tensor for tensor in given if tensor is not None]

    def __len__(self) -> int:
        return len(self._tensors()[0]) if self._tensors() else 0

    def shown(self, modality: str) -> Tensor:
        """bool (N,): whose modality may be read."""
        if self.present is None:
            return torch.ones(len(self), dtype=torch.bool, device=self._tensors()[0].device)
        return self.present[:, MODALITIES.index(modality)]


@dataclass(frozen=True, eq=False)
class PrognosisOutput:
    """One forward pass; W is the width of the network, (k, j, i) the CT's feature map.

    logits : (N, classes).
    vectors : (N, 3, W), every modality after the intra-modality aggregation (mean of its tokens),
        zeros where it is missing. The feature-fusion loss reads them.
    presence : bool (N, 3).
    ct_attention : (N, k, j, i), the weights with which the head averages the CT's positions: they
        are positive and sum to 1 over the region of interest, 0 where the CT is missing. None where
        a form has no such weights.
    ct_logits : (N, classes, k, j, i). The head is linear in the weighted mean, so each position's
        part of the logits is exact (in evaluation mode): weight x (its value - the value that
        stands for a missing CT). Their sum over positions is what the CT's branch adds to the
        logits, the other branches being as they are. None where the head is not linear.
    """

    logits: Tensor
    vectors: Tensor
    presence: Tensor
    ct_attention: Tensor | None = None
    ct_logits: Tensor | None = None


def check_batch(batch: PrognosisBatch, spec: PrognosisNetworkSpec) -> None:
    """Refuse a batch of another shape than the network reads.

    Raises
    ------
    InputError : nothing given, a size that does not fit, a region missing.
    """
    if not len(batch):
        raise InputError("No patient was given to the prognosis network.", "Give one or more.")
    rows, ct, present = len(batch), batch.ct, batch.present
    if CT in spec.modalities and ct is not None:
        shape = tuple(ct.shape)
        _fit("CT", shape, ct.ndim == 5 and shape[:2] == (rows, 1), "(patients, 1, k, j, i)")
        if spec.ct.region == "roi" and (batch.roi is None or batch.roi.shape != ct.shape):
            raise InputError(
                f"The CT {shape} has no region of interest of its shape.", "Give the liver."
            )
    text, variables = batch.text, len(spec.variables)
    if CLINICAL in spec.modalities and batch.clinical is not None and variables:
        shape = tuple(batch.clinical.shape)
        _fit("clinical variables", shape, shape == (rows, variables), f"(patients, {variables})")
    if CLINICAL in spec.modalities and text is not None and spec.text_hidden:
        shape, wanted = tuple(text.shape), f"(patients, tokens, {spec.text_hidden})"
        _fit("text", shape, text.ndim == 3 and shape[0::2] == (rows, spec.text_hidden), wanted)
        mask = () if batch.text_mask is None else tuple(batch.text_mask.shape)
        _fit("text mask", mask, mask == shape[:2], "(patients, tokens)")
    if RADIOMICS in spec.modalities and batch.radiomics is not None:
        shape, count = tuple(batch.radiomics.shape), spec.radiomics_features
        _fit("radiomics", shape, shape == (rows, count), f"(patients, {count})")
    if present is not None:
        shape = tuple(present.shape)
        _fit("modality mask", shape, shape == (rows, len(MODALITIES)), "(patients, 3)")


def _fit(what: str, shape: tuple[int, ...], fits: bool, wanted: str) -> None:
    if not fits:
        raise InputError(
            f"The {what} given to the prognosis network has the shape {shape}, not {wanted}.",
            "Give what the model package describes.",
        )
