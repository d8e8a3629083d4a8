"""Refuse arrays that would give a wrong figure instead of an error."""

from __future__ import annotations

import numpy as np

from REACTKDLib.errors import InputError


def checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels (n,) as integers 0 to ``classes`` - 1.

    Raises
    ------
    InputError : not one axis, empty, not whole numbers, or out of range.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0:
        raise InputError(f"Labels have the shape {labels.shape}.", "Give one label per row.")
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool:
        raise InputError(f"Labels are {labels.dtype}, not integers.", "Give class indices.")
    labels = labels.astype(np.intp)
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"Labels go from {labels.min()} to {labels.max()}; there are {classes} classes.",
            f"Give class indices 0 to {classes - 1}.",
        )
    return labels


def checked_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (..., classes), float64, rows summing to 1.

    Raises
    ------
    InputError : no two classes, not finite, negative, or rows that do not sum to 1 (logits).
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim < 2 or probabilities.shape[-1] < 2:
        raise InputError(
            f"Probabilities have the shape {probabilities.shape}.", "Give (n, classes)."
        )
    if not np.isfinite(probabilities).all():
        raise InputError("Probabilities hold values that are not finite.", "Repair the model.")
    furthest = float(np.abs(probabilities.sum(axis=-1) - 1.0).max())
    if probabilities.min() < 0 or furthest > 1e-3:
        raise InputError(
            f"Probabilities go down to {probabilities.min():g}, and a row's sum is {furthest:g}"
            " away from 1.",
            "Give probabilities: logits go through scipy.special.softmax(logits / T, axis=-1).",
        )
    return probabilities


def checked_pair(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, classes) that belong together.

    Raises
    ------
    InputError : as the two functions above, or another number of rows.
    """
    probabilities = checked_probabilities(probabilities)
    labels = checked_labels(labels, probabilities.shape[-1])
    if probabilities.shape[:-1] != labels.shape:
        raise InputError(
            f"{len(labels)} labels, but probabilities of the shape {probabilities.shape}.",
            "Give (n, classes).",
        )
    return labels, probabilities


def checked_weights(weights: np.ndarray | None, n: int) -> np.ndarray:
    """Row weights (draws, n), float64; None is every row once, (1, n).

    Raises
    ------
    InputError : another number of rows.
    """
    if weights is None:
        return np.ones((1, n))
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != n:
        raise InputError(
            f"Weights have the shape {weights.shape}; there are {n} rows.", "Give (draws, n)."
        )
    return weights


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means over rows: values (n, ...), weights (draws, n) -> (draws, ...)."""
    total = weights.sum(axis=1)
    return np.tensordot(weights, values, axes=1) / total.reshape(-1, *[1] * (values.ndim - 1))
