"""Figures with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from sklearn.metrics import roc_auc_score


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval and the number of patients."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}, n = {self.n})"


def macro_auc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean of the one-against-rest AUCs; ``labels`` (n,), ``logits`` (n, classes)."""
    probabilities = softmax(logits, axis=1)
    return float(
        np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in range(logits.shape[1])])
    )


def macro_auc_interval(
    labels: np.ndarray, logits: np.ndarray, seed: int, repeats: int = 1000
) -> Estimate:
    """Macro AUC with a percentile bootstrap over patients, stratified by class."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == c) for c in range(logits.shape[1])]
    values = []
    for _ in range(repeats):
        drawn = np.concatenate([rng.choice(g, len(g)) for g in groups])
        values.append(macro_auc(labels[drawn], logits[drawn]))
    low, high = np.percentile(values, (2.5, 97.5))
    return Estimate(macro_auc(labels, logits), float(low), float(high), len(labels))


#: Bounds of a fitted temperature; a fit that ends at one of them calibrates nothing.
TEMPERATURE_RANGE = (0.05, 20.0)


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Temperature in ``TEMPERATURE_RANGE`` with the least cross entropy of softmax(logits / T).

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits / np.exp(log_temperature), axis=1)
        return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-300).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
    return float(np.exp(found.x))
