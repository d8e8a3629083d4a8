"""From a patient's arrays to the network's answer and what each part of the input adds to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from ..types import Notice
from .ct_branch import CtBranch
from .explain import explain_contributions
from .metadata import PrognosisMetadata
from .model import LoadedNetwork, text_encoder, text_inputs, text_of
from .network_game import network_game, parts_of
from .network_inputs import network_batch
from .networks.batch import PrognosisBatch, PrognosisOutput
from .networks.build import PrognosisNetwork, log_odds
from .titles import TITLES
from .types import CT, ClinicalRecord, Contribution, PatientArrays

__all__ = ["Answer", "answer", "patient_batch"]


@dataclass(frozen=True, eq=False)
class Answer:
    """Calibrated ``probability`` and log odds of the outcome, contributions to the latter, and the
    CT's branch (None without a CT, or where the form has no attention)."""

    probability: float
    logit: float
    base_logit: float
    modalities: tuple[str, ...]
    modality_contributions: tuple[Contribution, ...]
    contributions: tuple[Contribution, ...]
    branch: CtBranch | None
    notices: tuple[Notice, ...] = ()


def patient_batch(
    arrays: PatientArrays,
    record: ClinicalRecord,
    metadata: PrognosisMetadata,
    text_model: str | None = None,
) -> tuple[PrognosisBatch, tuple[Notice, ...]]:
    """A batch of one patient, and what the language model did not read.

    Raises
    ------
    InputError : arrays that do not fit the scaling.
    EnvironmentProblem, ModelPackageError : as :func:`.model.text_encoder`.
    """
    modalities, size = metadata.network.modalities, None
    if metadata.image is not None and metadata.network.ct.region == "volume":
        size = metadata.image.volume_size
    batch = network_batch([arrays], metadata.scaling, modalities, size)
    spec, schema = metadata.text, metadata.clinical_schema
    if spec is None or schema is None or not (text := text_of(spec, schema, record)):
        return batch, ()
    tokens = text_encoder(text_model or spec.name, spec.digest, "cpu").encode(text)
    vectors, mask = text_inputs(tokens, metadata.network.form)
    return replace(batch, text=vectors, text_mask=mask), tokens.notices


def answer(
    loaded: LoadedNetwork,
    batch: PrognosisBatch,
    metadata: PrognosisMetadata,
    options: Any,
    stage: Callable[[str], AbstractContextManager[None]],
) -> Answer:
    """Run the network, then its contributions.

    ``options`` : ``pairs``, ``exact_up_to``, ``seed`` and ``tolerance``; ``stage`` : a context for
    each stage.

    Raises
    ------
    RuntimeError : the device fails.
    """
    network = loaded.network
    given = {name: tensor for name, tensor in vars(batch).items() if tensor is not None}
    batch = PrognosisBatch(**{name: t.to(loaded.device) for name, t in given.items()})
    with stage("network"), torch.inference_mode():
        output = network(batch)
        branch = None
        if metadata.image is not None and metadata.image.volume_size is None:
            branch = _branch(network, batch, output)
    with stage("contributions"):
        outcome, form = metadata.outcome_index, metadata.network.form
        temperature, intercept = metadata.calibration.temperature, metadata.calibration.intercept

        def calibrated(logits: torch.Tensor) -> torch.Tensor:
            return intercept + log_odds(logits, outcome, form) / temperature

        parts = parts_of(network, batch)
        found = explain_contributions(
            network_game(network, batch, parts, outcome, calibrated),
            parts,
            TITLES,
            options.pairs,
            options.exact_up_to,
            options.seed,
            options.tolerance,
        )
    errors = (None if np.isnan(error) else error for error in found.errors)
    contributions = tuple(
        replace(one, error=error) for one, error in zip(found.parts, errors, strict=True)
    )
    modalities = tuple(one.modality for one in found.modalities)
    return Answer(
        probability=float(expit(found.logit)),
        logit=found.logit,
        base_logit=found.base_logit,
        modalities=modalities,
        modality_contributions=found.modalities,
        contributions=contributions,
        branch=branch,
        notices=(*_branch_notices(branch, modalities), *_far(batch, metadata)),
    )


def _branch(
    network: PrognosisNetwork, batch: PrognosisBatch, output: PrognosisOutput
) -> CtBranch | None:
    """The positions of the CT's branch, where the patient has a CT and the form has attention."""
    tokens = network.ct_tokens(batch)
    if tokens is None or tokens.grid is None or not bool(tokens.mask.any()):
        return None
    if output.ct_attention is None or output.ct_logits is None:
        return None

    def array(tensor: torch.Tensor) -> np.ndarray:
        return tensor[0].double().cpu().numpy()

    return CtBranch(
        logits=array(output.ct_logits),
        attention=array(output.ct_attention),
        features=array(tokens.tokens.transpose(1, 2).unflatten(2, tokens.grid)),
        total=array(output.logits),
    )


def _branch_notices(branch: CtBranch | None, modalities: tuple[str, ...]) -> tuple[Notice, ...]:
    if branch is not None or CT not in modalities:
        return ()
    return (
        Notice(
            "no_ct_attention",
            "info",
            "This form of the network has no attention over the CT: there is no map of the liver.",
        ),
    )


def _far(batch: PrognosisBatch, metadata: PrognosisMetadata) -> tuple[Notice, ...]:
    """Whether the radiomics are unlike those of the training."""
    limit = metadata.training.radiomics_distance
    if limit is None or batch.radiomics is None or not bool(batch.radiomics.isfinite().any()):
        return ()
    distance = float(batch.radiomics[batch.radiomics.isfinite()].double().square().mean().sqrt())
    if distance <= limit:
        return ()
    return (
        Notice(
            "unusual_radiomics",
            "warning",
            f"The radiomics lie {distance:.1f} standard deviations from those of training on"
            f" average; 99 % of its patients stay below {limit:.1f}.",
        ),
    )
