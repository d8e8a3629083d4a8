"""Baselines that need no network: LASSO and ridge logistic regression, gradient boosting.

Their penalty or size is chosen by an inner cross-validation over all patients that a fold gives to
a method; scaling, imputation and the selection of features are fitted anew in each of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.prognosis.scaling import ClinicalScaling, PrognosisScaling
from REACTKDLib.prognosis.types import CLINICAL, RADIOMICS, ClinicalSchema, PatientArrays

from ..folds import split_units
from .cohort import PrognosisCase, named
from .scaling import ScalingSettings, fit_scaling

__all__ = ["Classical", "ClassicalSettings", "FittedClassical", "TableColumns"]

#: Inverse penalties of the regressions, strongest penalty first.
PENALTIES = tuple(float(c) for c in np.logspace(-2.5, 1.0, 8))
#: Sizes of the trees (leaves) of the boosting, smallest first, and the most trees.
LEAVES = (2, 4, 8)
_TREES = 150
_LEARNING_RATE = 0.05
#: Stated probabilities of 0 or 1 would cost infinitely much when they are wrong.
_SURE = 1e-6


@dataclass(frozen=True)
class ClassicalSettings:
    """``inputs`` : ``clinical``, ``radiomics`` or both; free text and images are not read."""

    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.inputs or set(self.inputs) - {CLINICAL, RADIOMICS}:
            raise OptionError(
                f"A classical method cannot read {list(self.inputs)}.",
                "Give clinical, radiomics or both.",
            )


@dataclass(frozen=True)
class TableColumns:
    """A table for methods that know no missing values, with everything fitted on training rows.

    Clinical numbers and flags: scaled, the training median where missing; a category: one column
    for each of its values, none of them 1 where missing; beside these, one column of 0 and 1 for
    each variable that some training patients lack and others have. Radiomics: as numbers, and one
    such column for all features together. Constant columns of the training rows become 0.
    """

    scaling: PrognosisScaling
    inputs: tuple[str, ...]
    lacking: tuple[bool, ...]
    radiomics_lacking: bool
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(
        cls, scaling: PrognosisScaling, inputs: tuple[str, ...], rows: Sequence[PatientArrays]
    ) -> TableColumns:
        """The columns of training ``rows``, standardised by them."""
        lacking: tuple[bool, ...] = ()
        if CLINICAL in inputs and scaling.clinical is not None:
            _, there = scaling.clinical_inputs(rows)
            share = there.mean(axis=0)
            lacking = tuple(bool(0 < s < 1) for s in share)
        absent = [row.radiomics is None for row in rows]
        bare = cls(
            scaling, inputs, lacking, any(absent) and not all(absent), np.zeros(1), np.ones(1)
        )
        table = bare.apply(rows)
        spread = table.std(axis=0)
        return cls(
            scaling,
            inputs,
            lacking,
            bare.radiomics_lacking,
            table.mean(axis=0),
            np.where(spread > 1e-9, spread, np.inf),
        )

    def apply(self, rows: Sequence[PatientArrays]) -> np.ndarray:
        """The table of any patients, (rows, columns) float64, without missing values."""
        columns: list[np.ndarray] = []
        clinical, radiomics = self.scaling.clinical, self.scaling.radiomics
        if CLINICAL in self.inputs and clinical is not None:
            columns += _clinical_columns(clinical, rows, self.lacking)
        if RADIOMICS in self.inputs and radiomics is not None:
            values = _stacked([row.radiomics for row in rows], len(radiomics.names))
            scaled = radiomics.scaled(values)
            columns += list(np.where(np.isnan(scaled), np.array(radiomics.median), scaled).T)
            if self.radiomics_lacking:
                columns.append(np.isnan(values).all(axis=1).astype(np.float64))
        if not columns:
            raise InputError(
                f"No training patient has {' or '.join(self.inputs)}.",
                "Leave the method out, or give it other inputs.",
            )
        return (np.stack(columns, axis=1) - self.centre) / self.spread


def _stacked(rows: Sequence[np.ndarray | None], count: int) -> np.ndarray:
    """Values (rows, count), NaN where a patient has none."""
    nothing = np.full(count, np.nan)
    return np.array([nothing if row is None else row for row in rows]).reshape(len(rows), count)


def _clinical_columns(
    scaling: ClinicalScaling, rows: Sequence[PatientArrays], lacking: Sequence[bool]
) -> list[np.ndarray]:
    values = _stacked([row.clinical for row in rows], len(scaling.names))
    scaled, columns = scaling.scaled(values), []
    for place, kind in enumerate(scaling.kinds):
        if kind == "category":
            of_kind = range(len(scaling.categories[place]))
            columns += [(values[:, place] == n).astype(np.float64) for n in of_kind]
        else:
            column = scaled[:, place]
            columns.append(np.where(np.isnan(column), scaling.median[place], column))
        if lacking[place]:
            columns.append(np.isnan(values[:, place]).astype(np.float64))
    return columns


@dataclass(frozen=True)
class FittedClassical:
    """A baseline after its training; ``details`` has what the inner cross-validation chose."""

    columns: TableColumns | None
    scaling: PrognosisScaling
    inputs: tuple[str, ...]
    model: Any
    details: dict[str, Any]

    def predict_logit(self, patients: Sequence[PrognosisCase]) -> np.ndarray:
        """Log odds of the event, (patients,) float64."""
        rows = [case.arrays for case in patients]
        if self.columns is None:
            return _boosted(self.model, _with_gaps(self.scaling, self.inputs, rows))[-1]
        scores: np.ndarray = self.model.decision_function(self.columns.apply(rows))
        return scores


def _with_gaps(
    scaling: PrognosisScaling, inputs: tuple[str, ...], rows: Sequence[PatientArrays]
) -> np.ndarray:
    """The table for boosting, which knows missing values: values as they are, NaN."""
    parts = []
    if CLINICAL in inputs and scaling.clinical is not None:
        parts.append(_stacked([row.clinical for row in rows], len(scaling.clinical.names)))
    if RADIOMICS in inputs and scaling.radiomics is not None:
        values = _stacked([row.radiomics for row in rows], len(scaling.radiomics.names))
        parts.append(scaling.radiomics.columns(values))
    if not parts:
        raise InputError(
            f"No training patient has {' or '.join(inputs)}.",
            "Leave the method out, or give it other inputs.",
        )
    return np.concatenate(parts, axis=1)


def _boosted(model: Any, table: np.ndarray) -> np.ndarray:
    """Log odds after each tree, (trees, rows)."""
    return np.array([stage.reshape(len(table)) for stage in model.staged_decision_function(table)])


@dataclass(frozen=True)
class Classical:
    """A baseline of a study; ``model`` is ``lasso``, ``ridge`` or ``boosting``."""

    model: str
    settings: ClassicalSettings
    schema: ClinicalSchema | None
    radiomics: tuple[str, ...]
    scaling: ScalingSettings
    inner_parts: int

    def fit(
        self, train: Sequence[PrognosisCase], selection: Sequence[PrognosisCase], seed: int
    ) -> FittedClassical:
        """Choose by cross-validation over all of these patients, then fit on all of them.

        The choice has the least mean log loss; of equals, the simplest.

        Raises
        ------
        OptionError : too few patients of an outcome for the inner parts.
        """
        cases = [*train, *selection]
        labels, units = [c.label for c in cases], [c.unit for c in cases]
        splits = split_units(units, labels, self.inner_parts, seed, ("no event", "event"))
        losses = np.mean(
            [
                self._losses(named(cases, s.train), named(cases, s.held_out), seed)
                for s in splits
            ],
            axis=0,
        )  # fmt: skip
        size, last = (int(n) for n in np.unravel_index(int(np.argmin(losses)), losses.shape))
        loss = round(float(losses.min()), 5)
        scaling = self._scaling(cases)
        rows, target = [case.arrays for case in cases], np.array(labels)
        if self.model == "boosting":
            fitted = self._boosting(LEAVES[size], last + 1, seed)
            fitted.fit(_with_gaps(scaling, self.settings.inputs, rows), target)
            details = {"leaves": LEAVES[size], "trees": last + 1, "inner_log_loss": loss}
            return FittedClassical(None, scaling, self.settings.inputs, fitted, details)
        columns = TableColumns.fit(scaling, self.settings.inputs, rows)
        fitted = self._regression(PENALTIES[size], seed).fit(columns.apply(rows), target)
        details = {
            "C": PENALTIES[size],
            "columns": len(fitted.coef_[0]),
            "nonzero": int(np.count_nonzero(fitted.coef_)),
            "inner_log_loss": loss,
        }
        return FittedClassical(columns, scaling, self.settings.inputs, fitted, details)

    def _scaling(self, cases: Sequence[PrognosisCase]) -> PrognosisScaling:
        rows, labels = [case.arrays for case in cases], [case.label for case in cases]
        return fit_scaling(rows, labels, self.schema, self.radiomics, self.scaling)

    def _losses(
        self, train: Sequence[PrognosisCase], held_out: Sequence[PrognosisCase], seed: int
    ) -> np.ndarray:
        """Log loss on ``held_out`` of every choice: (sizes, trees) or (penalties, 1)."""
        scaling, inputs = self._scaling(train), self.settings.inputs
        rows, others = [c.arrays for c in train], [c.arrays for c in held_out]
        target, truth = np.array([c.label for c in train]), np.array([c.label for c in held_out])
        if self.model == "boosting":
            table, tested = (_with_gaps(scaling, inputs, r) for r in (rows, others))
            models = (self._boosting(leaves, _TREES, seed).fit(table, target) for leaves in LEAVES)
            return np.array([_log_loss(truth, _boosted(model, tested)) for model in models])
        columns = TableColumns.fit(scaling, inputs, rows)
        table, tested = columns.apply(rows), columns.apply(others)
        models = (self._regression(c, seed).fit(table, target) for c in PENALTIES)
        return np.array([_log_loss(truth, m.decision_function(tested)[None]) for m in models])

    def _regression(self, inverse_penalty: float, seed: int) -> Any:
        import sklearn
        from sklearn.linear_model import LogisticRegression

        lasso = self.model == "lasso"
        # scikit-learn 1.8 replaced the name of the penalty by its share of L1.
        new = tuple(int(v) for v in sklearn.__version__.split(".")[:2]) >= (1, 8)
        kind: dict[str, Any] = (
            {"l1_ratio": float(lasso)} if new else {"penalty": "l1" if lasso else "l2"}
        )
        return LogisticRegression(
            C=inverse_penalty,
            solver="saga" if lasso else "lbfgs",
            tol=1e-3 if lasso else 1e-4,
            max_iter=5000,
            random_state=seed,
            **kind,
        )

    def _boosting(self, leaves: int, trees: int, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            learning_rate=_LEARNING_RATE,
            max_iter=trees,
            max_leaf_nodes=leaves,
            min_samples_leaf=10,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        )


def _log_loss(truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Mean log loss of each row of logits (choices, rows): (choices,)."""
    from scipy.special import expit

    risk = np.clip(expit(logits), _SURE, 1 - _SURE)
    return -np.where(truth == 1, np.log(risk), np.log(1 - risk)).mean(axis=1)
