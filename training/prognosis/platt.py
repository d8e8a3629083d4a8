"""Calibration of log odds with few patients: slope and intercept, held by what is likely before.

Platt scaling (Platt 1999) fits P(event) = expit(slope * logit + intercept) by maximum likelihood.
A few dozen patients say little about two numbers, and patients who happen to be all right ask for
an infinite slope. So both have a prior: the logarithm of the slope is normal around 0, the
intercept normal around the one that the training's sampling implies, each with standard deviation
:data:`SPREAD`. With many patients the prior has no influence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["SPREAD", "Platt", "fit_platt"]

#: One standard deviation is a factor of 1.65 of the slope, or of the odds. Our decision.
SPREAD = 0.5


@dataclass(frozen=True)
class Platt:
    """``calibrated = slope * logit + intercept``, log odds to log odds."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated log odds of any shape."""
        return self.slope * logits + self.intercept


def fit_platt(labels: np.ndarray, logits: np.ndarray, expected: float = 0.0) -> Platt:
    """The most probable calibration (maximum a posteriori).

    Parameters
    ----------
    labels : (n,), 0 or 1. logits : (n,), log odds of 1.
    expected : intercept before anything is seen: where a network was trained with as many events
        as others, the log odds of an event in the population that it came from.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    event, x = np.asarray(labels) == 1, np.asarray(logits, dtype=np.float64)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        slope, intercept = np.exp(theta[0]), theta[1]
        z = slope * x + intercept
        wrong = expit(z) - event
        value = np.logaddexp(0, np.where(event, -z, z)).sum()
        value += (theta[0] ** 2 + (intercept - expected) ** 2) / (2 * SPREAD**2)
        gradient = np.array([slope * (wrong @ x), wrong.sum()])
        gradient += np.array([theta[0], intercept - expected]) / SPREAD**2
        return float(value), gradient

    found = minimize(loss, np.array([0.0, expected]), jac=True, method="BFGS")
    return Platt(float(np.exp(found.x[0])), float(found.x[1]))
