"""How a model scales clinical variables and radiomics: numbers fitted on its training patients.

A model package keeps the numbers as JSON. Nothing is imputed here: a missing value is 0 after
scaling, and a mask says that it is missing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, ModelPackageError
from ..typed_json import FieldError, build
from .types import PatientArrays

__all__ = ["ClinicalScaling", "PrognosisScaling", "RadiomicsScaling"]


@dataclass(frozen=True)
class ClinicalScaling:
    """Scaling of the clinical variables, in the order of the schema; one entry each.

    ``scaled = (x - centre) / spread``, of ``log(x)`` where ``logarithmic``, then limited to
    ``-limit..limit``. ``kinds`` and ``categories`` are the schema's. ``median`` is that of the
    scaled training values, for methods that must impute.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    logarithmic: tuple[bool, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    median: tuple[float, ...]
    limit: float

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Scaled values, NaN where missing; shape (..., variables) in and out, float64.

        Raises
        ------
        InputError : another number of variables, or a value that is not positive where its
            logarithm is needed.
        """
        values = _checked(values, len(self.names), "clinical variables")
        logarithmic = np.array(self.logarithmic, dtype=bool)
        low = np.where(logarithmic & ~np.isnan(values), values, 1.0) <= 0
        if low.any():
            at = tuple(np.argwhere(low)[0])
            name, value = self.names[at[-1]], values[at]
            raise InputError(
                f"{name} is {value:g}; its logarithm needs a number above 0.",
                "Correct the value, or leave it empty if it is not known.",
            )
        logs = np.log(np.where(logarithmic & ~np.isnan(values), values, 1.0))
        values = np.where(logarithmic & ~np.isnan(values), logs, values)
        return _limited(values, self.centre, self.spread, self.limit)


@dataclass(frozen=True)
class RadiomicsScaling:
    """Which radiomics features a model keeps, and their scaling.

    ``names`` are all features, in the order of :attr:`PatientArrays.radiomics`; ``kept`` those that
    are neither constant nor copies of others nor left out by the selection; ``centre``, ``spread``
    and ``median`` belong to ``kept`` (see :class:`ClinicalScaling`).
    """

    names: tuple[str, ...]
    kept: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    median: tuple[float, ...]
    limit: float

    def columns(self, values: np.ndarray) -> np.ndarray:
        """The kept features as they are: (..., features) -> (..., kept), float64.

        Raises
        ------
        InputError : another number of features.
        """
        values = _checked(values, len(self.names), "radiomics features")
        place = {name: number for number, name in enumerate(self.names)}
        return values[..., [place[name] for name in self.kept]]

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """The kept features, scaled, NaN where missing: (..., features) -> (..., kept), float64.

        Raises
        ------
        InputError : as :meth:`columns`.
        """
        return _limited(self.columns(values), self.centre, self.spread, self.limit)


@dataclass(frozen=True)
class PrognosisScaling:
    """Scaling of both tables; None where no training patient had the modality."""

    clinical: ClinicalScaling | None = None
    radiomics: RadiomicsScaling | None = None

    def clinical_inputs(self, patients: Sequence[PatientArrays]) -> tuple[np.ndarray, np.ndarray]:
        """Scaled values (patients, variables) float32, 0 where missing, and whether each is there
        (patients, variables) bool. A patient without the modality has no value.

        Raises
        ------
        InputError : as :meth:`ClinicalScaling.scaled`, or a scaling without clinical variables.
        """
        return _inputs(self._known(self.clinical), [p.clinical for p in patients])

    def radiomics_inputs(self, patients: Sequence[PatientArrays]) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`clinical_inputs` for the kept radiomics features, (patients, kept)."""
        return _inputs(self._known(self.radiomics), [p.radiomics for p in patients])

    @staticmethod
    def _known(part: Any) -> Any:
        if part is None:
            raise InputError(
                "The model was trained without this kind of input.",
                "Leave it out, or use a model that was trained with it.",
            )
        return part

    def as_json(self) -> dict[str, Any]:
        """The scaling as a JSON object (lists, not tuples), for a model package."""
        document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return document

    @classmethod
    def from_json(cls, document: Any) -> PrognosisScaling:
        """The scaling from what :meth:`as_json` gave.

        Raises
        ------
        ModelPackageError : not of that form, or lists of different lengths.
        """
        try:
            scaling: PrognosisScaling = build(cls, document, "scaling")
        except FieldError as error:
            raise ModelPackageError(
                f"The scaling of the model package is not valid: {error}",
                "Write the model package anew, or take another.",
            ) from error
        for part in (scaling.clinical, scaling.radiomics):
            if part is None:
                continue
            names = part.names if isinstance(part, ClinicalScaling) else part.kept
            lists = [part.centre, part.spread, part.median]
            if isinstance(part, ClinicalScaling):
                lists += [part.kinds, part.categories, part.logarithmic]  # type: ignore[list-item]
            if {len(each) for each in lists} != {len(names)} or not all(s > 0 for s in part.spread):
                raise ModelPackageError(
                    f"The scaling of the model package does not fit its {len(names)} names.",
                    "Write the model package anew, or take another.",
                )
        return scaling


def _checked(values: np.ndarray, count: int, what: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape[-1:] != (count,):
        raise InputError(
            f"{values.shape[-1] if values.ndim else 0} {what}; the model knows {count}.",
            "Give them in the order that the model was trained with.",
        )
    return values


def _limited(
    values: np.ndarray, centre: tuple[float, ...], spread: tuple[float, ...], limit: float
) -> np.ndarray:
    return np.clip((values - np.array(centre)) / np.array(spread), -limit, limit)


def _inputs(
    scaling: ClinicalScaling | RadiomicsScaling, rows: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    nothing = np.full(len(scaling.names), np.nan)
    scaled = np.array([scaling.scaled(nothing if row is None else row) for row in rows])
    there = ~np.isnan(scaled)
    return np.where(there, scaled, 0.0).astype(np.float32), there
