"""What a study compares: anything that is fitted on patients and gives log odds.

A method of a configuration names its ``kind``, a key of :data:`METHODS`. A new kind (the network)
is one entry there: a function of the configured settings and of the cohort's description.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from REACTKDLib.errors import OptionError
from REACTKDLib.prognosis.types import ClinicalSchema
from REACTKDLib.typed_json import FieldError, build

from .classical import Classical, ClassicalSettings
from .cohort import PrognosisCase
from .scaling import ScalingSettings
from .settings import NETWORK_KINDS, overlaid

__all__ = ["METHODS", "Context", "FittedMethod", "Method", "make_method"]


class FittedMethod(Protocol):
    """A method after its training."""

    @property
    def details(self) -> Mapping[str, Any]:
        """What was chosen inside (JSON values), for the unit's file."""
        ...

    def predict_logit(self, patients: Sequence[PrognosisCase]) -> np.ndarray:
        """Log odds of the event, (patients,) float64. Labels are hidden from it."""
        ...


class Method(Protocol):
    """A method before its training."""

    def fit(
        self, train: Sequence[PrognosisCase], selection: Sequence[PrognosisCase], seed: int
    ) -> FittedMethod:
        """Fit everything, scaling included, on these patients and no others.

        ``train`` trains; ``selection`` stops early, selects and calibrates. A method that chooses
        by an inner cross-validation may put both together. ``seed`` is of the training.
        """
        ...


@dataclass(frozen=True)
class Context:
    """What a method must know of the cohort before it sees a patient: the schema of the clinical
    variables, the names of the radiomics features, the study's ways of scaling, the number of parts
    of an inner cross-validation, and the device on which networks are trained."""

    schema: ClinicalSchema | None
    radiomics: tuple[str, ...]
    scaling: ScalingSettings
    inner_parts: int
    device: str = "cpu"


def _classical(model: str) -> Callable[[Mapping[str, Any], Context], Method]:
    def make(settings: Mapping[str, Any], context: Context) -> Method:
        own: ClassicalSettings = build(ClassicalSettings, dict(settings), "settings")
        return Classical(
            model, own, context.schema, context.radiomics, context.scaling, context.inner_parts
        )

    return make


def _network(fusion: str) -> Callable[[Mapping[str, Any], Context], Method]:
    def make(settings: Mapping[str, Any], context: Context) -> Method:
        # Studies of tables alone need no torch.
        from .network_method import NetworkMethod
        from .network_settings import NetworkSettings

        common = dict(settings)
        own = [overlaid(common, one) for one in common.pop("choices", [{}])]
        choices: list[NetworkSettings] = [build(NetworkSettings, o, "settings") for o in own]
        return NetworkMethod(
            fusion,
            tuple(choices),
            context.schema,
            context.scaling,
            context.radiomics,
            context.device,
        )

    return make


#: Kind -> a function of the settings of a configuration and of the context.
METHODS: dict[str, Callable[[Mapping[str, Any], Context], Method]] = {
    "lasso": _classical("lasso"),
    "ridge": _classical("ridge"),
    "boosting": _classical("boosting"),
    **{fusion: _network(fusion) for fusion in NETWORK_KINDS},
}


def make_method(kind: str, settings: Mapping[str, Any], context: Context) -> Method:
    """A method of a configuration.

    Raises
    ------
    OptionError : no such kind, or settings that it does not have.
    """
    if kind not in METHODS:
        raise OptionError(f"No kind of method {kind!r}.", f"Choose from {sorted(METHODS)}.")
    try:
        return METHODS[kind](settings, context)
    except FieldError as error:
        raise OptionError(f"A method of kind {kind!r}: {error}", "Correct its settings.") from error
