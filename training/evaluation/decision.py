"""Decision curves: the net benefit of acting when the stated risk reaches a threshold.

Net benefit = TP / n - FP / n * t / (1 - t), in true positives per patient; treating nobody has 0.
The threshold t says how many false alarms a found case is worth, so its range is a clinical choice.
Bootstrap draws are stratified by class: prevalence is that of the sample in all of them.
Source: Vickers and Elkin, Medical Decision Making 2006.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from REACTKDLib.errors import OptionError

from .bootstrap import Metric
from .checking import checked_pair, checked_weights, weighted_mean


def checked_thresholds(thresholds: np.ndarray) -> np.ndarray:
    """Thresholds (t,), rising, 0 or more and below 1.

    Raises
    ------
    OptionError : anything else.
    """
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if (
        thresholds.ndim != 1
        or thresholds.size == 0
        or not ((thresholds >= 0) & (thresholds < 1)).all()
        or (np.diff(thresholds) <= 0).any()
    ):
        raise OptionError(
            f"Thresholds {thresholds.tolist()} are not rising numbers from 0 to below 1.",
            "Give for example numpy.linspace(0.1, 0.6, 51).",
        )
    return thresholds


def binary_net_benefit(
    event: np.ndarray,
    risk: np.ndarray,
    thresholds: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Net benefit of acting where ``risk`` >= threshold: (draws, t).

    Parameters
    ----------
    event : (n,) bool, what the action is for.
    risk : (n,) its stated probability.
    thresholds : (t,) as :func:`checked_thresholds`.
    weights : (draws, n), or None.
    """
    thresholds = checked_thresholds(thresholds)
    act = np.asarray(risk)[:, None] >= thresholds
    gain = np.where(np.asarray(event, dtype=bool)[:, None], 1.0, -thresholds / (1 - thresholds))
    return weighted_mean(act * gain, checked_weights(weights, len(act)))


def net_benefit(
    classes: Sequence[int], thresholds: np.ndarray, *, treat_all: bool = False
) -> Metric:
    """The metric: net-benefit curve of the event "the class is one of ``classes``".

    One class against the rest, or with ordered classes the upper ones (``range(1, 3)``: moderate
    or worse). Its risk is the sum of their probabilities; with ``treat_all`` everybody is treated.
    """
    chosen = list(classes)

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        labels, probabilities = checked_pair(labels, probabilities)
        if not chosen or not set(chosen) <= set(range(probabilities.shape[1])):
            raise OptionError(
                f"The event is made of the classes {chosen}.",
                f"Name some of 0 to {probabilities.shape[1] - 1}.",
            )
        risk = probabilities[:, chosen].sum(axis=1)
        risk = np.ones_like(risk) if treat_all else risk
        return binary_net_benefit(np.isin(labels, chosen), risk, thresholds, weights)

    return metric


def macro_net_benefit(thresholds: np.ndarray, *, treat_all: bool = False) -> Metric:
    """The metric: mean over classes of the one-against-rest net-benefit curves."""

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        each = [
            net_benefit([c], thresholds, treat_all=treat_all)(labels, probabilities, weights)
            for c in range(np.shape(probabilities)[1])
        ]
        return np.mean(each, axis=0)

    return metric


def mean_net_benefit(curve: Metric, thresholds: np.ndarray) -> Metric:
    """The metric: a curve's mean over the range of its thresholds (trapezoids)."""
    thresholds = checked_thresholds(thresholds)

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        values = curve(labels, probabilities, weights)
        if len(thresholds) == 1:
            return values[:, 0]
        return np.trapezoid(values, thresholds, axis=1) / (thresholds[-1] - thresholds[0])

    return metric
