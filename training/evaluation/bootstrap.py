"""Percentile bootstrap over patients, stratified by class.

A metric is a function ``metric(labels, probabilities, weights=None)``: labels (n,), probabilities
(n, classes), weights (draws, n), how often each row was drawn; it gives (draws,) or, for curves,
(draws, ...). Without weights every row counts once. All draws are computed at once: ranks, bins
and thresholds are found one time and only the weights change.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from REACTKDLib.errors import InputError

from .checking import checked_labels, checked_probabilities, checked_weights, weighted_mean

#: With so many draws the ends of a 95 % interval vary by about 2 % of its width.
REPEATS = 2000
CONFIDENCE = 0.95


class Metric(Protocol):
    """A figure of merit for many bootstrap draws at once (see the module)."""

    def __call__(
        self, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """One value, or one curve, per draw."""
        ...


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval and the number of patients."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}, n = {self.n})"


@dataclass(frozen=True, eq=False)
class Band:
    """A curve with its pointwise 95 % bootstrap interval and the number of patients."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int


def one_by_one(metric: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
    """A metric from any function of labels and probabilities, at the cost of a call per draw."""

    def by_draw(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        counts = checked_weights(weights, len(labels)).astype(np.intp)
        rows = np.arange(len(labels))
        drawn = (np.repeat(rows, c) for c in counts)
        return np.array([metric(labels[d], probabilities[d]) for d in drawn])

    return by_draw


def draw_weights(
    labels: np.ndarray,
    seed: int | Sequence[int],
    repeats: int = REPEATS,
    patients: np.ndarray | None = None,
) -> np.ndarray:
    """How often each row is in each bootstrap sample, (repeats, n), float64.

    Patients are drawn with replacement within their class, so every sample has the classes' sizes;
    all rows of a drawn patient come with it.

    Parameters
    ----------
    labels : (n,) class of each row.
    patients : (n,) identity of each row's patient, any comparable type; None is one row each.

    Raises
    ------
    InputError : rows of one patient differ in label, or lengths differ.
    """
    labels = np.asarray(labels)
    identity, first = _patients(labels, patients)
    rng = np.random.default_rng(seed)
    counts = np.zeros((repeats, len(first)))
    of_patient = labels[first]
    for c in np.unique(of_patient):
        members = np.flatnonzero(of_patient == c)
        drawn = rng.integers(len(members), size=(repeats, len(members)))
        drawn += len(members) * np.arange(repeats)[:, None]
        counts[:, members] = np.bincount(drawn.ravel(), minlength=repeats * len(members)).reshape(
            repeats, -1
        )
    return counts[:, identity]


def patient_count(labels: np.ndarray, patients: np.ndarray | None) -> int:
    """Number of patients; raises as :func:`draw_weights`."""
    return len(_patients(np.asarray(labels), patients)[1])


def _patients(labels: np.ndarray, patients: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's patient (n,), and each patient's first row."""
    if patients is None:
        rows = np.arange(len(labels))
        return rows, rows
    patients = np.asarray(patients)
    if patients.shape != labels.shape:
        raise InputError(
            f"{patients.shape} patients for {labels.shape} labels.", "Give one patient per row."
        )
    _, first, identity = np.unique(patients, return_index=True, return_inverse=True)
    differing = np.flatnonzero(labels != labels[first][identity])
    if len(differing):
        raise InputError(
            f"Patient {patients[differing[0]]!r} has rows of different classes.",
            "Give one class per patient: the draws are stratified by it.",
        )
    return identity, first


def as_runs(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (runs, n, classes) of one run (n, classes) or several (runs, n, classes).

    Raises
    ------
    InputError : another shape, or not probabilities.
    """
    probabilities = checked_probabilities(probabilities)
    if probabilities.ndim not in (2, 3):
        raise InputError(
            f"Probabilities have the shape {probabilities.shape}.",
            "Give (n, classes), or (runs, n, classes) for several seeds.",
        )
    return probabilities.reshape(-1, *probabilities.shape[-2:])


def mean_over_runs(
    metric: Metric, labels: np.ndarray, runs: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """The metric of each draw, averaged over runs (seeds): (draws, ...).

    The runs share the patients of a draw: an interval from such draws speaks of other patients and
    the same seeds.
    """
    runs = as_runs(runs)
    labels = checked_labels(labels, runs.shape[-1])
    return np.mean([metric(labels, run, weights) for run in runs], axis=0)


def interval(
    metric: Metric,
    labels: np.ndarray,
    probabilities: np.ndarray,
    seed: int,
    repeats: int = REPEATS,
    patients: np.ndarray | None = None,
) -> Estimate:
    """The metric with its percentile bootstrap interval.

    Parameters
    ----------
    labels : (n,) class indices.
    probabilities : (n, classes), or (runs, n, classes): the mean over runs is estimated.
    patients : (n,) where a patient has several rows.

    Raises
    ------
    InputError : as :func:`draw_weights` and :func:`as_runs`.
    """
    return interval_over_folds(metric, [Fold(labels, probabilities, patients)], seed, repeats)


def band(
    metric: Metric,
    labels: np.ndarray,
    probabilities: np.ndarray,
    seed: int,
    repeats: int = REPEATS,
    patients: np.ndarray | None = None,
) -> Band:
    """As :func:`interval` for a metric that is a curve; the interval is pointwise."""
    return band_over_folds(metric, [Fold(labels, probabilities, patients)], seed, repeats)


@dataclass(frozen=True, eq=False)
class Fold:
    """The test patients of one fold: labels (n,), probabilities (n, classes) or (runs, n, classes),
    patients (n,) where a patient has several rows."""

    labels: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray | None = None


def interval_over_folds(
    metric: Metric, folds: Sequence[Fold], seed: int, repeats: int = REPEATS
) -> Estimate:
    """Mean of the metric over cross-validation folds, with its percentile bootstrap interval.

    Each fold's patients are drawn on their own; ``n`` counts the patients of all folds.

    Raises
    ------
    InputError : no fold, or as :func:`draw_weights` and :func:`as_runs`.
    """
    found = band_over_folds(metric, folds, seed, repeats)
    return Estimate(float(found.value), float(found.low), float(found.high), found.n)


def band_over_folds(
    metric: Metric, folds: Sequence[Fold], seed: int, repeats: int = REPEATS
) -> Band:
    """As :func:`interval_over_folds` for a metric that is a curve; the interval is pointwise."""
    if not folds:
        raise InputError("There is no fold.", "Give the test patients of one fold or more.")
    draws, values = [], []
    for number, fold in enumerate(folds):
        weights = draw_weights(fold.labels, (seed, number), repeats, fold.patients)
        draws.append(mean_over_runs(metric, fold.labels, fold.probabilities, weights))
        values.append(mean_over_runs(metric, fold.labels, fold.probabilities)[0])
    low, high = percentile_ends(np.mean(draws, axis=0))
    n = sum(patient_count(fold.labels, fold.patients) for fold in folds)
    return Band(np.mean(values, axis=0), low, high, n)


def case_interval(
    scores: np.ndarray,
    seed: int,
    repeats: int = REPEATS,
    strata: np.ndarray | None = None,
    patients: np.ndarray | None = None,
) -> Estimate:
    """Mean of a score per case, with its interval by bootstrap over cases.

    Parameters
    ----------
    scores : (n,), or (runs, n): the mean over runs is estimated.
    strata : (n,) class of each case to stratify by; None draws from all cases.
    patients : (n,) where a patient has several rows.

    Raises
    ------
    InputError : a score that is not finite, or as :func:`draw_weights`.
    """
    scores = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if scores.ndim != 2 or scores.size == 0 or not np.isfinite(scores).all():
        raise InputError(
            f"Scores of the shape {scores.shape}, {np.isfinite(scores).sum()} of them finite.",
            "Give one finite score per case.",
        )
    per_case = scores.mean(axis=0)
    labels = np.zeros(len(per_case), dtype=int) if strata is None else np.asarray(strata)
    draws = weighted_mean(per_case, draw_weights(labels, seed, repeats, patients))
    low, high = percentile_ends(draws)
    return Estimate(
        float(per_case.mean()), float(low), float(high), patient_count(labels, patients)
    )


def percentile_ends(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the central 95 % of the draws (draws, ...)."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(draws, (tail, 100 - tail), axis=0)
    return low, high
