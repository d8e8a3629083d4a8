"""The scaling of clinical variables and radiomics, fitted on training patients alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.prognosis.scaling import ClinicalScaling, PrognosisScaling, RadiomicsScaling
from REACTKDLib.prognosis.types import ClinicalSchema, PatientArrays

__all__ = ["ScalingSettings", "fit_scaling"]

#: Interquartile range of a standard normal variable.
_NORMAL_IQR = 1.3489795


@dataclass(frozen=True)
class ScalingSettings:
    """How the scaling is fitted.

    Parameters
    ----------
    robust : median and interquartile range / 1.349; else mean and standard deviation. A variable
        whose interquartile range is 0 (a rare flag) has the standard deviation.
    limit : scaled values beyond are set to the limit: a value unlike all training patients' must
        not decide alone.
    correlation : of two radiomics features that correlate more strongly in the training patients,
        the later one is left out.
    features : at most so many radiomics features, those that separate the classes of the training
        patients best, each alone; 0 keeps all.
    """

    robust: bool = False
    limit: float = 6.0
    correlation: float = 0.95
    features: int = 0

    def __post_init__(self) -> None:
        if not (self.limit > 0 and 0 < self.correlation <= 1 and self.features >= 0):
            raise OptionError(
                f"Scaling settings {self} are not possible.",
                "Give a limit above 0, a correlation above 0 and up to 1, no negative number of"
                " features.",
            )


def fit_scaling(
    patients: Sequence[PatientArrays],
    labels: Sequence[int],
    schema: ClinicalSchema | None,
    features: Sequence[str],
    settings: ScalingSettings = ScalingSettings(),
) -> PrognosisScaling:
    """The scaling of these patients, and of no others.

    Parameters
    ----------
    patients : of the training part; missing values and modalities are left out of every figure.
    labels : 0 or 1 for each; only the selection of features looks at them.
    schema : of :attr:`PatientArrays.clinical`; None where no patient has clinical variables.
    features : names of :attr:`PatientArrays.radiomics`.

    Raises
    ------
    InputError : no patient, or as :meth:`ClinicalScaling.scaled`.
    """
    if not patients:
        raise InputError("No patient to fit a scaling on.", "Give training patients.")
    clinical = [p.clinical for p in patients if p.clinical is not None]
    known = [(p.radiomics, y) for p, y in zip(patients, labels, strict=True)]
    radiomics = [(values, y) for values, y in known if values is not None]
    return PrognosisScaling(
        _fit_clinical(np.array(clinical), schema, settings) if clinical and schema else None,
        _fit_radiomics(
            np.array([values for values, _ in radiomics]),
            np.array([y for _, y in radiomics]),
            tuple(features),
            settings,
        )
        if radiomics
        else None,
    )


def _fit_clinical(
    values: np.ndarray, schema: ClinicalSchema, settings: ScalingSettings
) -> ClinicalScaling:
    variables, count = schema.variables, len(schema.variables)
    plain = ClinicalScaling(
        schema.names,
        tuple(v.kind for v in variables),
        tuple(v.categories for v in variables),
        tuple(v.logarithmic for v in variables),
        (0.0,) * count,
        (1.0,) * count,
        (0.0,) * count,
        np.inf,
    )
    centre, spread, median = _moments(plain.scaled(values), settings)
    # A variable without spread (all alike, or all missing) says nothing: its value becomes 0.
    spread = np.where(spread > 0, spread, 1.0)
    scaled_median = np.clip((median - centre) / spread, -settings.limit, settings.limit)
    return ClinicalScaling(
        plain.names,
        plain.kinds,
        plain.categories,
        plain.logarithmic,
        _floats(centre),
        _floats(spread),
        _floats(scaled_median),
        settings.limit,
    )


def _fit_radiomics(
    values: np.ndarray, labels: np.ndarray, names: tuple[str, ...], settings: ScalingSettings
) -> RadiomicsScaling:
    if values.shape[1] != len(names):
        raise InputError(
            f"{values.shape[1]} radiomics features with {len(names)} names.",
            "Give one name for each.",
        )
    centre, spread, median = _moments(values, settings)
    usable = np.flatnonzero(_varies(values) & (spread > 0))
    filled = np.where(np.isnan(values), median, values)[:, usable]
    usable = usable[_not_copies(filled, settings.correlation)]
    if settings.features and len(usable) > settings.features:
        strength = _separation(np.where(np.isnan(values), median, values)[:, usable], labels)
        best = np.argsort(-strength, kind="stable")[: settings.features]
        usable = usable[np.sort(best)]
    centre, spread, median = centre[usable], spread[usable], median[usable]
    scaled_median = np.clip((median - centre) / spread, -settings.limit, settings.limit)
    return RadiomicsScaling(
        names,
        tuple(names[n] for n in usable),
        _floats(centre),
        _floats(spread),
        _floats(scaled_median),
        settings.limit,
    )


def _floats(column: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in column)


def _moments(
    values: np.ndarray, settings: ScalingSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, spread and median of each column, without its missing values; 0 for an empty one."""
    empty = np.isnan(values).all(axis=0)
    known = np.where(empty, 0.0, values)
    median, deviation = np.nanmedian(known, axis=0), np.nanstd(known, axis=0)
    # Of equal numbers, rounding leaves a standard deviation just above 0.
    deviation = np.where(_varies(known), deviation, 0.0)
    if not settings.robust:
        return np.nanmean(known, axis=0), deviation, median
    low, high = np.nanpercentile(known, (25, 75), axis=0)
    wide = (high - low) / _NORMAL_IQR
    return median, np.where(wide > 0, wide, deviation), median


def _varies(values: np.ndarray) -> np.ndarray:
    """Whether a column has two known values that differ by more than rounding."""
    known = np.where(np.isnan(values).all(axis=0), 0.0, values)
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
    return high - low > 1e-9 * np.maximum(np.abs(low), np.abs(high))


def _not_copies(values: np.ndarray, correlation: float) -> np.ndarray:
    """Columns, in their order, none of which correlates with an earlier one of them more strongly
    than ``correlation`` (Pearson, either sign)."""
    if values.shape[1] < 2 or correlation >= 1:
        return np.arange(values.shape[1])
    r = np.abs(np.corrcoef(values, rowvar=False))
    kept: list[int] = []
    for column in range(len(r)):
        if not (r[column, kept] > correlation).any():
            kept.append(column)
    return np.array(kept)


def _separation(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How far each column's AUC for the event is from one half: (columns,)."""
    from scipy.stats import rankdata

    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) == 0:
        raise InputError(
            f"{m} of {len(labels)} training patients have the event.",
            "Give training patients with and without it.",
        )
    ranks = rankdata(values, axis=0)[positive].sum(axis=0)
    return np.abs((ranks - m * (m + 1) / 2) / (m * n) - 0.5)
