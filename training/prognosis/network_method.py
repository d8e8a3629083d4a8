"""TMI-CLNet, and other networks on the same trunk, as methods of the nested cross-validation.

Scaling, selection of features, weights, early stopping and calibration see the patients that a fold
gives to a method and no others; nothing of a test patient is there yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from REACTKDLib.prognosis.networks.build import PrognosisNetwork
from REACTKDLib.prognosis.networks.spec import PrognosisNetworkSpec
from REACTKDLib.prognosis.scaling import PrognosisScaling
from REACTKDLib.prognosis.types import CLINICAL, CT, ClinicalSchema

from ..folds import split_units
from .cohort import PrognosisCase, named
from .network_fit import Patients, Trained, one_thread, predicted, train_network
from .network_settings import NetworkSettings, network_spec
from .platt import Platt, fit_platt
from .scaling import ScalingSettings, fit_scaling
from .text_tokens import TextReader

__all__ = ["FittedNetwork", "Member", "NetworkMethod"]


@dataclass(frozen=True, eq=False)
class Member:
    """A trained network with the scaling of its own training patients.

    ``size`` : (k, j, i) that its volumes have, None where any size is the same to it. ``texts`` :
    what it reads of text.
    """

    trained: Trained
    scaling: PrognosisScaling
    size: tuple[int, int, int] | None
    texts: TextReader | None = None

    @property
    def network(self) -> PrognosisNetwork:
        """The network, in evaluation mode."""
        return self.trained.network

    @property
    def spec(self) -> PrognosisNetworkSpec:
        """The network's specification."""
        return self.network.spec


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """Networks after their training, and the calibration of their mean log odds."""

    members: tuple[Member, ...]
    calibration: Platt
    details: Mapping[str, Any]

    def predict_logit(self, patients: Sequence[PrognosisCase]) -> np.ndarray:
        """Calibrated log odds of the event, (patients,) float64."""
        found = []
        with one_thread():
            for member in self.members:
                own = Patients.of(patients, member.scaling, member.spec, member.size, member.texts)
                found.append(predicted(member.network, own, torch.device("cpu")))
        return self.calibration(np.mean(found, axis=0))


@dataclass(frozen=True)
class NetworkMethod:
    """A network of a study.

    ``fusion`` : "tmi", "concatenation" or "hfb". ``choices`` : settings to choose from, those with
    the least mean selection loss of their members; of equals the first. ``device`` trains, answers
    come from the CPU.
    """

    fusion: str
    choices: tuple[NetworkSettings, ...]
    schema: ClinicalSchema | None
    scaling: ScalingSettings
    radiomics: tuple[str, ...]
    device: str = "cpu"

    def fit(
        self, train: Sequence[PrognosisCase], selection: Sequence[PrognosisCase], seed: int
    ) -> FittedNetwork:
        """Train on ``train``; ``selection`` stops, chooses and calibrates. With several members see
        :class:`.network_settings.NetworkSettings`: each patient then calibrates with the answer of
        the one network that was not trained on him.

        Raises
        ------
        InputError : no training patient has an input that the network reads.
        OptionError : settings from which no network can be built; too few patients for the members.
        """
        fits = [self._fit(settings, train, selection, seed) for settings in self.choices]
        losses = [np.mean([m.trained.selection_loss for m in fit.members]) for fit in fits]
        chosen = int(np.argmin(losses))
        tried = {"choice": chosen, "choice_losses": [round(float(v), 5) for v in losses]}
        more = tried if len(fits) > 1 else {}
        return replace(fits[chosen], details={**fits[chosen].details, **more})

    def _fit(
        self,
        settings: NetworkSettings,
        train: Sequence[PrognosisCase],
        selection: Sequence[PrognosisCase],
        seed: int,
    ) -> FittedNetwork:
        parts = [(list(train), list(selection))]
        cases = [*train, *selection]
        if settings.members > 1:
            units, outcomes = [c.unit for c in cases], [c.label for c in cases]
            splits = split_units(units, outcomes, settings.members, seed, ("no event", "event"))
            parts = [(named(cases, s.train), named(cases, s.held_out)) for s in splits]
        with one_thread():
            members = [
                self._member(settings, *part, seed * 1009 + n) for n, part in enumerate(parts)
            ]
        labels = np.array([case.label for _, held_out in parts for case in held_out])
        logits = np.concatenate([member.trained.selection_logits for member in members])
        rate = float(np.mean([case.label for case in cases]))
        expected = float(np.log(rate / (1 - rate))) if settings.balanced else 0.0
        calibration = fit_platt(labels, logits, expected)
        return FittedNetwork(tuple(members), calibration, _details(members, calibration))

    def _member(
        self,
        settings: NetworkSettings,
        train: Sequence[PrognosisCase],
        selection: Sequence[PrognosisCase],
        seed: int,
    ) -> Member:
        labels, arrays = [case.label for case in train], [case.arrays for case in train]
        scaling = fit_scaling(arrays, labels, self.schema, self.radiomics, self.scaling)
        shapes = [a.ct.shape for a in arrays if a.ct is not None]
        texts = None
        if settings.text is not None and CLINICAL in settings.inputs and self.schema is not None:
            texts = TextReader(settings.text, self.schema, settings.form)
        width = 0 if texts is None else texts.width
        spec = network_spec(settings, self.fusion, scaling, self.schema, bool(shapes), width)
        size = None
        if CT in spec.modalities and spec.ct.region == "volume":
            k, j, i = (max(n) for n in zip(*shapes, strict=True))
            size = (k, j, i)
        own = Patients.of(train, scaling, spec, size, texts)
        other = Patients.of(selection, scaling, spec, size, texts)
        trained = train_network(spec, settings, own, other, seed, torch.device(self.device))
        return Member(trained, scaling, size, texts)


def _details(members: Sequence[Member], calibration: Platt) -> dict[str, Any]:
    trained = [member.trained for member in members]
    return {
        "parameters": sum(p.numel() for p in members[0].network.parameters()),
        "epoch": [t.epoch for t in trained],
        "epochs": [t.epochs for t in trained],
        "steps": [t.steps for t in trained],
        "selection_loss": [round(t.selection_loss, 5) for t in trained],
        "slope": round(calibration.slope, 4),
        "intercept": round(calibration.intercept, 4),
    }
