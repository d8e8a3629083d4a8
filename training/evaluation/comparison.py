"""Two methods on the same patients: paired bootstrap, DeLong's test, Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from REACTKDLib.errors import InputError

from .bootstrap import (
    REPEATS,
    Metric,
    as_runs,
    draw_weights,
    mean_over_runs,
    patient_count,
    percentile_ends,
)


@dataclass(frozen=True)
class Difference:
    """First minus second method: value, 95 % interval, two-sided p, number of patients."""

    value: float
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        return (
            f"{self.value:+.3f} (95 % interval {self.low:+.3f} to {self.high:+.3f},"
            f" p = {self.p:.3g}, n = {self.n})"
        )


def paired_difference(
    metric: Metric,
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    seed: int,
    repeats: int = REPEATS,
    patients: np.ndarray | None = None,
) -> Difference:
    """Difference of a metric between two methods, both seeing the same patients in every draw.

    The p value is the smallest level at which the percentile interval excludes 0; it is at least
    2 / (repeats + 1).

    Parameters
    ----------
    labels : (n,) class indices.
    first, second : (n, classes) or (runs, n, classes); their numbers of runs may differ.
    patients : (n,) where a patient has several rows.

    Raises
    ------
    InputError : the methods have different rows or classes, or as ``bootstrap.interval``.
    """
    return paired_contrast(metric, labels, [first], [second], seed, repeats, patients)


def paired_contrast(
    metric: Metric,
    labels: np.ndarray,
    plus: Sequence[np.ndarray],
    minus: Sequence[np.ndarray],
    seed: int,
    repeats: int = REPEATS,
    patients: np.ndarray | None = None,
) -> Difference:
    """As :func:`paired_difference` for sums: the metric of every table of ``plus`` less that of
    every table of ``minus``, such as the difference of two differences.

    Raises
    ------
    InputError : as :func:`paired_difference`.
    """
    tables = [as_runs(table) for table in (*plus, *minus)]
    for table in tables:
        if table.shape[1:] != tables[0].shape[1:]:
            raise InputError(
                f"The methods give {tables[0].shape[1:]} and {table.shape[1:]} probabilities.",
                "Compare methods on the same patients and classes.",
            )
    signs = [1.0] * len(plus) + [-1.0] * len(minus)
    weights = draw_weights(labels, seed, repeats, patients)

    def difference(drawn: np.ndarray | None) -> np.ndarray:
        terms = (
            sign * mean_over_runs(metric, labels, table, drawn)
            for sign, table in zip(signs, tables, strict=True)
        )
        return np.sum(list(terms), axis=0)

    draws = difference(weights)
    low, high = percentile_ends(draws)
    one_sided = (1 + min((draws <= 0).sum(), (draws >= 0).sum())) / (repeats + 1)
    return Difference(
        float(difference(None)[0]),
        float(low),
        float(high),
        min(1.0, 2 * float(one_sided)),
        patient_count(labels, patients),
    )


@dataclass(frozen=True)
class DeLong:
    """AUCs of two scores on the same rows, standard error of their difference, z and p."""

    first: float
    second: float
    standard_error: float
    z: float
    p: float
    n: int


def delong_test(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLong:
    """DeLong's test that two correlated AUCs are equal; ``z`` has the sign of first - second.

    Every row must be another patient: the test knows no groups. For a class of several give
    ``labels == c`` and the class's probabilities.
    Source: DeLong et al., Biometrics 1988; midranks as in Sun and Xu, IEEE SPL 2014.

    Parameters
    ----------
    positive : (n,) bool.
    first, second : (n,) scores.

    Raises
    ------
    InputError : fewer than two positive or two negative rows, or lengths that differ.
    """
    positive = np.asarray(positive).astype(bool)
    scores = np.stack([np.asarray(s, dtype=np.float64) for s in (first, second)])
    m, n = int(positive.sum()), int((~positive).sum())
    if scores.shape != (2, len(positive)) or min(m, n) < 2:
        raise InputError(
            f"Scores of the shape {scores.shape} for {m} positive and {n} negative rows.",
            "Give one score per row and method, with two rows of each kind at least.",
        )
    hits, rest = scores[:, positive], scores[:, ~positive]
    rank = rankdata(scores, axis=1)
    # Part of the other kind that each row is rightly above (or below): structural components.
    above = (rank[:, positive] - rankdata(hits, axis=1)) / n
    below = 1 - (rank[:, ~positive] - rankdata(rest, axis=1)) / m
    auc = above.mean(axis=1)
    contrast = np.array([1.0, -1.0])
    variance = contrast @ (np.cov(above) / m + np.cov(below) / n) @ contrast
    error = float(np.sqrt(max(variance, 0.0)))
    gap = float(auc[0] - auc[1])
    if error < 1e-12:  # the two orders are alike in all that counts, or both are without error
        z = 0.0 if abs(gap) < 1e-12 else float(np.copysign(np.inf, gap))
    else:
        z = gap / error
    return DeLong(float(auc[0]), float(auc[1]), error, z, float(2 * norm.sf(abs(z))), m + n)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values (k,) corrected for k comparisons, in the given order.

    Source: Holm, Scandinavian Journal of Statistics 1979 (step-down; family-wise error rate).

    Raises
    ------
    InputError : a p value outside 0 to 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p values {p.tolist()} are not all in 0 to 1.", "Give a list of them.")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
