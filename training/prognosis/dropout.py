"""What is left out at random in training, so that a network answers for whoever lacks it.

It is also what makes the contributions of an explanation meaningful: they compare answers with and
without a part, and a network must have met patients without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.networks.batch import PrognosisBatch
from REACTKDLib.prognosis.networks.spec import PrognosisNetworkSpec
from REACTKDLib.prognosis.types import MODALITIES


@dataclass(frozen=True)
class DropoutSpec:
    """Probabilities: of leaving out each modality, each clinical variable, each radiomics family
    of a patient; and, ``nothing``, of showing none of the modalities, from which the network learns
    the answer it gives about a patient of whom nothing is known.

    ``scarce`` : share of patients whose variables and families go at a rate of their own, uniform
    from 0 to 1. Explanations ask the network about a few parts alone, which it must have met.
    """

    modality: float = 0.2
    variable: float = 0.1
    family: float = 0.1
    nothing: float = 0.02
    scarce: float = 0.2


def drop_modalities(
    presence: Tensor, probability: float | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """bool (N, 3): each modality that is there is left out with ``probability``, one always stays.

    Where all would go, one of those there is drawn to stay. Nothing is added to ``presence``.
    A probability (N, 1) is one for each patient.

    Raises
    ------
    InputError : no probability.
    """
    _check(probability)
    draws = _uniform(presence, generator)
    kept = presence & (draws >= probability)
    # The one with the greatest draw stays; those that are missing never have it.
    last = torch.where(presence, draws, -1.0).argmax(dim=1)
    survivor = torch.nn.functional.one_hot(last, presence.shape[1]).bool() & presence
    return torch.where(kept.any(dim=1, keepdim=True), kept, survivor)


def thin_out(
    batch: PrognosisBatch,
    network: PrognosisNetworkSpec,
    spec: DropoutSpec,
    generator: torch.Generator | None = None,
) -> PrognosisBatch:
    """A batch of which parts are hidden at random; the given one is not changed.

    A modality that a patient has stays if it is the only one, unless ``spec.nothing`` hides all. A
    variable or family never is the last of its patient's to go: one that is there always stays.

    Raises
    ------
    InputError : no probability.
    """
    clinical, radiomics = batch.clinical, batch.radiomics
    if clinical is not None and network.variables:
        kept = drop_modalities(
            clinical.isfinite(), _rates(batch, spec.variable, spec.scarce, generator), generator
        )
        clinical = torch.where(kept, clinical, torch.nan)
    if radiomics is not None and network.families:
        counts = torch.tensor([f.features for f in network.families], device=radiomics.device)
        parts = radiomics.split(counts.tolist(), dim=1)
        there = torch.stack([part.isfinite().any(dim=1) for part in parts], dim=1)
        kept = drop_modalities(there, _rates(batch, spec.family, spec.scarce, generator), generator)
        features = kept.repeat_interleave(counts, dim=1)
        radiomics = torch.where(features, radiomics, torch.nan)
    presence = torch.stack([_has(batch, name) for name in MODALITIES], dim=1)
    presence = drop_modalities(presence, spec.modality, generator)
    _check(spec.nothing)
    presence = presence & (_uniform(presence[:, :1], generator) >= spec.nothing)
    return replace(batch, clinical=clinical, radiomics=radiomics, present=presence)


def _rates(
    batch: PrognosisBatch, usual: float, scarce: float, generator: torch.Generator | None
) -> Tensor:
    """Probability (N, 1) of leaving out each part of a patient."""
    _check(usual)
    _check(scarce)
    like = batch.shown(MODALITIES[0])[:, None]
    own = _uniform(like, generator)
    return torch.where(_uniform(like, generator) < scarce, own, usual)


def _has(batch: PrognosisBatch, modality: str) -> Tensor:
    """bool (N,): who has a modality."""
    shown = batch.shown(modality)
    held = {
        "ct": batch.ct is not None,
        "clinical": batch.clinical is not None or batch.text is not None,
        "radiomics": batch.radiomics is not None,
    }
    if not held[modality]:
        return torch.zeros_like(shown)
    if modality == "radiomics" and batch.radiomics is not None:
        return shown & batch.radiomics.isfinite().any(dim=1)
    if modality == "clinical":
        found = torch.zeros_like(shown)
        if batch.clinical is not None:
            found = found | batch.clinical.isfinite().any(dim=1)
        if batch.text_mask is not None:
            found = found | batch.text_mask.any(dim=1)
        return shown & found
    return shown


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform draws 0..1 of a mask's shape; drawn where the generator lives, so that one seed gives
    the same on any device."""
    return torch.rand(like.shape, generator=generator).to(like.device)


def _check(probability: float | Tensor) -> None:
    rates = torch.as_tensor(probability)
    if not bool(((rates >= 0) & (rates <= 1)).all()):
        raise InputError(f"{probability} is no probability.", "Give 0 to 1.")
