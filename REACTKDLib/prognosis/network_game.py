"""A network as the game of :mod:`.explain`: which parts are there, what it then answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .explain import Game, Part
from .networks.batch import PrognosisBatch
from .networks.build import PrognosisNetwork, log_odds
from .networks.tmi import TmiNetwork
from .networks.tokens import TokenSet
from .types import CLINICAL, CT, MODALITIES, RADIOMICS

_TEXT = "text"
#: Coalitions of one forward pass, and its attention weights: these bound its memory.
_ROWS = 128
_WEIGHTS = 1 << 22


def parts_of(network: PrognosisNetwork, batch: PrognosisBatch) -> tuple[Part, ...]:
    """What one patient (a batch of one) has, in the order of the input. Titles are names, values
    are empty: the caller, who knows the schema, may :func:`dataclasses.replace` them."""
    spec, found = network.spec, []
    shown = {name: bool(batch.shown(name)[0]) for name in spec.modalities}
    if shown.get(CT) and batch.ct is not None:
        found.append(Part(CT, "CT", CT))
    if shown.get(CLINICAL):
        if batch.clinical is not None and spec.variables:
            known = batch.clinical[0].isfinite().tolist()
            rows = zip(spec.variables, known, strict=True)
            found += [Part(v.name, v.name, CLINICAL) for v, there in rows if there]
        if spec.text_hidden and batch.text_mask is not None and bool(batch.text_mask.any()):
            found.append(Part(_TEXT, "text", CLINICAL))
    if shown.get(RADIOMICS) and batch.radiomics is not None:
        counts = [f.features for f in spec.families]
        for one, features in zip(spec.families, batch.radiomics[0].split(counts), strict=True):
            if bool(features.isfinite().any()):
                found.append(Part(one.name, one.name, RADIOMICS))
    return tuple(found)


def network_game(
    network: PrognosisNetwork,
    batch: PrognosisBatch,
    parts: Sequence[Part],
    outcome: int,
    calibrated: Callable[[Tensor], Tensor] | None = None,
    rows: int | None = None,
) -> Game:
    """The log odds of one patient's outcome, given which of their parts are there.

    The CT, which is there or not as a whole, is encoded and aggregated once, here. A variable that
    is not there is NaN, as is a family's every feature; a modality of which no part is there is
    hidden.

    Parameters
    ----------
    network : in evaluation mode. batch : one patient.
    parts : of :func:`parts_of`, in its order; titles and values may differ.
    outcome : class whose log odds are divided.
    calibrated : logits (M, classes) to log odds (M,), where a model is calibrated; by default
        :func:`.networks.build.log_odds`.
    rows : coalitions per forward pass; by default as many as bound its memory.

    Raises
    ------
    ValueError : more than one patient, or a network in training mode: its answers are random.
    """
    if len(batch) != 1 or network.training:
        raise ValueError("Explain one patient at a time, with a network in evaluation mode.")
    spec = network.spec
    answer = calibrated or (lambda logits: log_odds(logits, outcome, spec.form))
    with torch.inference_mode():
        ct = network.ct_tokens(batch)
        if ct is not None:
            ct = ct.packed()[0]
            if isinstance(network, TmiNetwork):
                ct = network.aggregate({CT: ct})[CT]
    columns = {(part.modality, part.name): n for n, part in enumerate(parts)}
    at_once = rows or _rows(batch, len(spec.variables), len(spec.families), ct)
    nobody = len(parts)  # an added column that is always False
    variables = [columns.get((CLINICAL, v.name), nobody) for v in spec.variables]
    families = [columns.get((RADIOMICS, f.name), nobody) for f in spec.families]
    features = np.repeat(families, [f.features for f in spec.families]).astype(np.intp)
    text = columns.get((CLINICAL, _TEXT), nobody)

    def masked(values: Tensor | None, kept: np.ndarray) -> Tensor | None:
        if values is None:
            return None
        return torch.where(torch.from_numpy(kept).to(values.device), values, torch.nan)

    def play(coalitions: np.ndarray, ct: TokenSet | None) -> np.ndarray:
        count = len(coalitions)
        there = np.concatenate([coalitions, np.zeros((count, 1), dtype=bool)], axis=1)
        present = [
            there[:, [n for n, part in enumerate(parts) if part.modality == name]].any(axis=1)
            for name in MODALITIES
        ]
        device = next(network.parameters()).device
        text_mask = None
        if batch.text_mask is not None:
            text_mask = batch.text_mask & torch.from_numpy(there[:, [text]]).to(device)
        shown = PrognosisBatch(
            clinical=masked(batch.clinical, there[:, variables]) if variables else None,
            text=None if batch.text is None else batch.text.expand(count, -1, -1),
            text_mask=text_mask,
            radiomics=masked(batch.radiomics, there[:, features]) if families else None,
            present=torch.from_numpy(np.stack(present, axis=1)).to(device),
        )
        with torch.inference_mode():
            output = network(shown, None if ct is None else ct.repeated(count))
            return answer(output.logits.double()).cpu().numpy()

    def game(coalitions: np.ndarray) -> np.ndarray:
        answers = np.empty(len(coalitions))
        image = columns.get((CT, CT))
        seen = np.zeros(len(coalitions), bool) if image is None else coalitions[:, image]
        # Apart, because the CT's tokens are most of the work.
        for tokens, chosen in ((ct, np.flatnonzero(seen)), (None, np.flatnonzero(~seen))):
            for start in range(0, len(chosen), at_once):
                some = chosen[start : start + at_once]
                answers[some] = play(coalitions[some], tokens)
        return answers

    return game


def _rows(batch: PrognosisBatch, variables: int, families: int, ct: TokenSet | None) -> int:
    """How many coalitions may be evaluated at once: those whose attention weights fit."""
    words = 0 if batch.text is None else batch.text.shape[1]
    read = max(variables + words, families, 1)
    asking = max(read, 0 if ct is None else ct.tokens.shape[1])
    return max(1, min(_ROWS, _WEIGHTS // (read * asking)))
