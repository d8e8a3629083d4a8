"""Do probabilities mean what they say: temperature, calibration errors, Brier score, reliability.

Calibration errors are biased upwards in small samples, and a bootstrap sample adds to the bias:
their percentile interval lies too high. ``error_if_calibrated`` says what a perfectly calibrated
model would show with as many patients; an error inside that range is no evidence of
miscalibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import binomtest

from REACTKDLib.errors import OptionError

from .bootstrap import Metric, percentile_ends
from .checking import (
    checked_labels,
    checked_pair,
    checked_probabilities,
    checked_weights,
    weighted_mean,
)

#: Bounds of a fitted temperature; a fit that ends at one of them calibrates nothing.
TEMPERATURE_RANGE = (0.05, 20.0)
#: Below this many cases a temperature below 1 is not believed.
FEW_CASES = 30


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Temperature in ``TEMPERATURE_RANGE`` with the least cross entropy of softmax(logits / T).

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    logits = np.asarray(logits, dtype=np.float64)
    labels = checked_labels(labels, logits.shape[1])

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits / np.exp(log_temperature), axis=1)
        return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-300).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
    return float(np.exp(found.x))


def cautious_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """:func:`fit_temperature`, but with fewer than ``FEW_CASES`` cases never below 1.

    A handful of cases that happen to be all right asks for the smallest temperature there is:
    certainty that nothing bears out. So few may take sureness away, not give it. Our decision.
    """
    temperature = fit_temperature(labels, logits)
    return temperature if len(labels) >= FEW_CASES else max(1.0, temperature)


def brier_score(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Mean squared distance of probabilities and truth, summed over classes, 0 to 2: (draws,).

    Source: Brier, Monthly Weather Review 1950 (the form for several classes).
    """
    labels, probabilities = checked_pair(labels, probabilities)
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    each = ((probabilities - truth) ** 2).sum(axis=1)
    return weighted_mean(each, checked_weights(weights, len(labels)))


def bin_edges(stated: np.ndarray, bins: int, equal_mass: bool) -> np.ndarray:
    """Edges of bins over stated probabilities (n,): equally wide in 0 to 1, or equally full.

    Equally full bins lose those that ties leave empty. A bin holds its lower edge.

    Raises
    ------
    OptionError : no bin.
    """
    if bins < 1:
        raise OptionError(f"{bins} bins.", "Use one bin or more; 10 is usual.")
    if not equal_mass:
        return np.linspace(0.0, 1.0, bins + 1)
    inner = np.quantile(stated, np.linspace(0, 1, bins + 1)[1:-1], method="median_unbiased")
    return np.unique(np.concatenate([[0.0], inner, [1.0]]))


def _bin_of(stated: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.searchsorted(edges[1:-1], stated, side="right")


def _binned_error(
    stated: np.ndarray, happened: np.ndarray, weights: np.ndarray, bins: int, equal_mass: bool
) -> np.ndarray:
    """Sum over bins of |sum of (stated - happened)| / n: (draws,)."""
    edges = bin_edges(stated, bins, equal_mass)
    member = _bin_of(stated, edges)[:, None] == np.arange(len(edges) - 1)
    gaps = np.abs(weights @ (member * (stated - happened)[:, None]))
    return gaps.sum(axis=1) / weights.sum(axis=1)


def expected_calibration_error(bins: int = 10, equal_mass: bool = False) -> Metric:
    """The metric: mean gap between the top probability and its accuracy over bins (ECE).

    The bins are those of all rows in every bootstrap draw.
    Source: Naeini et al., AAAI 2015; equal mass: Nixon et al., CVPR workshops 2019.
    """

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        labels, probabilities = checked_pair(labels, probabilities)
        stated, happened = _top(labels, probabilities)
        weights = checked_weights(weights, len(labels))
        return _binned_error(stated, happened, weights, bins, equal_mass)

    return metric


def classwise_calibration_error(bins: int = 10, equal_mass: bool = False) -> Metric:
    """The metric: mean over classes of the gap between a class's probability and its frequency.

    Source: Kull et al., NeurIPS 2019.
    """

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        labels, probabilities = checked_pair(labels, probabilities)
        weights = checked_weights(weights, len(labels))
        errors = [
            _binned_error(p, labels == c, weights, bins, equal_mass)
            for c, p in enumerate(probabilities.T)
        ]
        return np.mean(errors, axis=0)

    return metric


def _top(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def error_if_calibrated(
    metric: Metric, probabilities: np.ndarray, seed: int, repeats: int = 500
) -> tuple[float, float]:
    """Central 95 % of a calibration metric when labels are drawn from the probabilities themselves.

    Source: consistency resampling, Broecker and Smith, Weather and Forecasting 2007.
    """
    probabilities = checked_probabilities(probabilities)
    steps = np.cumsum(probabilities, axis=1)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        drawn = (rng.random((len(steps), 1)) * steps[:, -1:] > steps[:, :-1]).sum(axis=1)
        values.append(metric(drawn, probabilities)[0])
    low, high = percentile_ends(np.array(values))
    return float(low), float(high)


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose stated probability lies in ``lower`` to ``upper``.

    ``stated`` is their mean probability, ``observed`` the part in which it came true, ``low`` and
    ``high`` its 95 % Wilson interval, ``count`` the number of rows.
    """

    lower: float
    upper: float
    count: int
    stated: float
    observed: float
    low: float
    high: float


def reliability_table(
    labels: np.ndarray,
    probabilities: np.ndarray,
    bins: int = 10,
    equal_mass: bool = False,
    target: int | None = None,
) -> tuple[ReliabilityBin, ...]:
    """Stated probability beside observed frequency, bin by bin; empty bins are left out.

    ``target`` None is the top probability and whether it was right; else the class's probability
    and whether the row is of the class.

    Raises
    ------
    InputError : arrays that do not fit. OptionError : no bin, or no such class.
    """
    labels, probabilities = checked_pair(labels, probabilities)
    if target is None:
        stated, happened = _top(labels, probabilities)
    elif 0 <= target < probabilities.shape[1]:
        stated, happened = probabilities[:, target], labels == target
    else:
        raise OptionError(
            f"There is no class {target}.", f"Give 0 to {probabilities.shape[1] - 1} or None."
        )
    edges = bin_edges(stated, bins, equal_mass)
    member = _bin_of(stated, edges)
    rows = []
    for number in np.unique(member):
        inside = member == number
        count, right = int(inside.sum()), int(happened[inside].sum())
        wilson = binomtest(right, count).proportion_ci(0.95, method="wilson")
        rows.append(
            ReliabilityBin(
                float(edges[number]),
                float(edges[number + 1]),
                count,
                float(stated[inside].mean()),
                right / count,
                float(wilson.low),
                float(wilson.high),
            )
        )
    return tuple(rows)
