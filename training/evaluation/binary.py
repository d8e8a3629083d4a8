"""Figures of a yes-or-no outcome: metrics as ``bootstrap`` describes them; class 1 is the event.

``labels`` (n,), ``probabilities`` (n, 2), ``weights`` (draws, n) -> (draws,).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from REACTKDLib.errors import InputError

from .bootstrap import Estimate, Metric
from .calibration import brier_score
from .checking import checked_pair, checked_weights, weighted_mean
from .comparison import delong_test

__all__ = [
    "accuracy",
    "average_precision",
    "binary_brier",
    "calibration_line",
    "calibration_metric",
    "delong_interval",
    "f1_score",
]

#: Steps of Newton's method; it is at a fixed point after about ten, or runs away (separated).
_STEPS = 60
#: Stated probabilities of exactly 0 or 1 have no logit; these are as good.
_SURE = 1e-12


def _checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row has the event, and its stated probability."""
    labels, probabilities = checked_pair(labels, probabilities)
    if probabilities.shape[1] != 2:
        raise InputError(
            f"Probabilities of {probabilities.shape[1]} classes.",
            "Give those of two, the event second.",
        )
    return labels == 1, probabilities[:, 1]


def accuracy(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Part of the rows whose more probable outcome came true; of equals, no event."""
    event, risk = _checked(labels, probabilities)
    right = (risk > 0.5) == event
    return weighted_mean(right.astype(np.float64), checked_weights(weights, len(event)))


def f1_score(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """F1 of the event at one half: 2 TP / (2 TP + FP + FN); 0 where nothing is or is called one."""
    event, risk = _checked(labels, probabilities)
    weights = checked_weights(weights, len(event))
    called = risk > 0.5
    both = weights @ (called & event)
    either = weights @ called.astype(np.float64) + weights @ event.astype(np.float64)
    return np.where(either > 0, 2 * both / np.where(either > 0, either, 1.0), 0.0)


def average_precision(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Area under the precision-recall curve: sum of precision times the step in recall.

    Equal scores are one step; the curve is not interpolated, which would be optimistic (Davis and
    Goadrich, ICML 2006).

    Raises
    ------
    InputError : no event in a draw.
    """
    event, risk = _checked(labels, probabilities)
    weights = checked_weights(weights, len(event))
    order = np.argsort(-risk, kind="stable")
    last = np.append(np.flatnonzero(np.diff(risk[order])), len(order) - 1)
    hits = np.cumsum(weights[:, order] * event[order], axis=1)[:, last]
    called = np.cumsum(weights[:, order], axis=1)[:, last]
    if (hits[:, -1] == 0).any():
        raise InputError(
            f"{int(event.sum())} of {len(event)} rows have the event: no precision-recall curve.",
            "Give rows with the event.",
        )
    steps = np.diff(hits, axis=1, prepend=0.0)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return (steps * precision).sum(axis=1) / hits[:, -1]


def binary_brier(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Mean squared distance of the event's probability and truth, 0 to 1 (half of Brier's sum)."""
    _checked(labels, probabilities)
    return brier_score(labels, probabilities, weights) / 2


def calibration_line(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Slope and intercept of the calibration in log odds: (draws, 2).

    Slope: ``b`` of the logistic regression logit P(event) = a + b logit(p); below 1, probabilities
    are too extreme. Intercept: ``a`` of the regression with b = 1, calibration in the large; below
    0, risks are stated too high. Where a draw has no finite answer (classes that the probabilities
    separate, or probabilities that are all alike) the figure is NaN.
    Source: Cox 1958; Van Calster et al., BMC Medicine 2019.
    """
    event, risk = _checked(labels, probabilities)
    weights = checked_weights(weights, len(event))
    x = logit(np.clip(risk, _SURE, 1 - _SURE))
    centre, scale = x.mean(), max(float(x.std()), 1e-9)
    z = (x - centre) / scale  # the same line, better conditioned
    columns = np.stack([np.ones_like(z), z], axis=1)
    slope = _newton(columns, np.zeros_like(z), event, weights)[:, 1] / scale
    large = _newton(columns[:, :1], x, event, weights)[:, 0]
    both = (weights @ event > 0) & (weights @ ~event > 0)
    finite = np.stack([both & ~_separated(x, event, weights), both], axis=1)
    return np.where(finite, np.stack([slope, large], axis=1), np.nan)


def _separated(x: np.ndarray, event: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether all drawn events lie on one side of all other drawn rows, or at the border: (draws,).
    Then, and only then, a logistic regression on one column has no finite slope."""
    drawn = weights > 0

    def end(rows: np.ndarray, pick: np.ufunc, nothing: float) -> np.ndarray:
        return pick.reduce(np.where(drawn & rows, x, nothing), axis=1)

    above = end(event, np.minimum, np.inf) >= end(~event, np.maximum, -np.inf)
    below = end(event, np.maximum, -np.inf) <= end(~event, np.minimum, np.inf)
    return above | below


def _newton(
    columns: np.ndarray, offset: np.ndarray, event: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Coefficients (draws, k) of the weighted logistic regression on ``columns`` (n, k)."""
    beta = np.zeros((len(weights), columns.shape[1]))
    for _ in range(_STEPS):
        p = expit(beta @ columns.T + offset)
        gradient = (weights * (event - p)) @ columns
        hessian = np.einsum("dn,nj,nk->djk", weights * p * (1 - p), columns, columns)
        hessian += 1e-10 * np.eye(columns.shape[1])
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        # Newton's method may jump too far from a bad start; shorter steps reach the same place.
        length = np.linalg.norm(step, axis=1, keepdims=True)
        beta = beta + step * np.minimum(1.0, 2.0 / np.maximum(length, 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    return beta


def calibration_metric(which: str) -> Metric:
    """``slope`` or ``intercept`` of :func:`calibration_line` as a metric of its own."""
    column = ("slope", "intercept").index(which)

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        return calibration_line(labels, probabilities, weights)[:, column]

    return metric


def delong_interval(positive: np.ndarray, scores: np.ndarray) -> Estimate:
    """AUC of scores with DeLong's 95 % interval, cut off at 0 and 1.

    A constant score has an AUC of one half without error: the test against it has the error of
    ``scores`` alone. Raises as :func:`delong_test`.
    """
    found = delong_test(positive, scores, np.zeros(len(np.asarray(scores))))
    reach = float(norm.ppf(0.975)) * found.standard_error
    low, high = max(0.0, found.first - reach), min(1.0, found.first + reach)
    return Estimate(found.first, low, high, found.n)
