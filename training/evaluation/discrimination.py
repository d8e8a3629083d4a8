"""How well probabilities separate the classes: metrics as ``bootstrap`` describes them."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from REACTKDLib.errors import InputError

from .bootstrap import Estimate, Metric, interval
from .checking import checked_pair, checked_weights


def binary_auc(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Area under the ROC curve, ties counted half: (draws,).

    The probability that a positive row scores higher than a negative one (Mann-Whitney).

    Parameters
    ----------
    positive : (n,) bool.
    scores : (n,) any numbers, higher for positive.
    weights : (draws, n), or None.

    Raises
    ------
    InputError : no positive or no negative row in a draw.
    """
    weights = checked_weights(weights, len(scores))
    _, rank = np.unique(scores, return_inverse=True)
    order = np.argsort(rank, kind="stable")
    starts = np.searchsorted(rank[order], np.arange(rank.max() + 1))
    sorted_weights, sorted_positive = weights[:, order], positive[order]
    # Weight of each group of equal scores, by class.
    hits = np.add.reduceat(sorted_weights * sorted_positive, starts, axis=1)
    rest = np.add.reduceat(sorted_weights * ~sorted_positive, starts, axis=1)
    pairs = hits.sum(axis=1) * rest.sum(axis=1)
    if (pairs == 0).any():
        raise InputError(
            f"{int(positive.sum())} of {len(positive)} rows are positive: no AUC.",
            "Give rows of the class and of others.",
        )
    below = np.cumsum(rest, axis=1) - 0.5 * rest
    return np.einsum("dg,dg->d", hits, below) / pairs


def class_auc(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """One-against-rest AUC of every class: (draws, classes).

    Raises
    ------
    InputError : a class without rows, or arrays that do not fit.
    """
    labels, probabilities = checked_pair(labels, probabilities)
    columns = enumerate(probabilities.T)
    return np.stack([binary_auc(labels == c, p, weights) for c, p in columns], axis=1)


def mean_auc(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Macro AUC, the mean of the one-against-rest AUCs: (draws,). Raises as :func:`class_auc`."""
    return class_auc(labels, probabilities, weights).mean(axis=1)


def one_class_auc(index: int) -> Metric:
    """The metric: one-against-rest AUC of the class ``index``."""

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        labels, probabilities = checked_pair(labels, probabilities)
        return binary_auc(labels == index, probabilities[:, index], weights)

    return metric


def micro_auc(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """AUC of all (row, class) pairs in one list: (draws,). Raises as :func:`class_auc`."""
    labels, probabilities = checked_pair(labels, probabilities)
    classes = probabilities.shape[1]
    truth = labels[:, None] == np.arange(classes)
    each = np.repeat(checked_weights(weights, len(labels)), classes, axis=1)
    return binary_auc(truth.ravel(), probabilities.ravel(), each)


def balanced_accuracy(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Mean over classes of the part of the class that is its most probable class: (draws,).

    Raises
    ------
    InputError : a class without rows, or arrays that do not fit.
    """
    labels, probabilities = checked_pair(labels, probabilities)
    truth = (labels[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels)[:, None]
    weights = checked_weights(weights, len(labels))
    sizes = weights @ truth
    if (sizes == 0).any():
        raise InputError(
            f"Classes have {sizes.min(axis=0).astype(int).tolist()} rows.",
            "Give rows of every class.",
        )
    return (weights @ (truth * right) / sizes).mean(axis=1)


def roc_curves(grid: np.ndarray) -> Metric:
    """The metric: sensitivity at each false-positive rate of ``grid``, (draws, classes + 2, grid).

    One curve per class against the rest, then their mean (macro), then micro. Linear between the
    points of a curve; at a rate where a curve rises vertically, its upper end.

    Parameters
    ----------
    grid : (g,) rising false-positive rates, 0 to 1.
    """

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        labels, probabilities = checked_pair(labels, probabilities)
        weights = checked_weights(weights, len(labels))
        classes = probabilities.shape[1]
        truth = labels[:, None] == np.arange(classes)
        curves = [
            _binary_roc(truth[:, c], probabilities[:, c], grid, weights) for c in range(classes)
        ]
        micro = _binary_roc(
            truth.ravel(), probabilities.ravel(), grid, np.repeat(weights, classes, axis=1)
        )
        return np.stack([*curves, np.mean(curves, axis=0), micro], axis=1)

    return metric


def _binary_roc(
    positive: np.ndarray, scores: np.ndarray, grid: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(weights[:, order] * positive[order], axis=1)[:, last]
    alarms = np.cumsum(weights[:, order] * ~positive[order], axis=1)[:, last]
    if (hits[:, -1] == 0).any() or (alarms[:, -1] == 0).any():
        raise InputError(
            f"{int(positive.sum())} of {len(positive)} rows are positive: no ROC curve.",
            "Give rows of the class and of others.",
        )
    start = np.zeros((len(weights), 1))
    rates = np.concatenate([start, alarms / alarms[:, -1:]], axis=1)
    sensitivity = np.concatenate([start, hits / hits[:, -1:]], axis=1)
    return np.stack([np.interp(grid, x, y) for x, y in zip(rates, sensitivity, strict=True)])


def macro_auc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Macro AUC of logits (n, classes), after softmax."""
    return float(mean_auc(labels, softmax(logits, axis=1))[0])


def macro_auc_interval(
    labels: np.ndarray, logits: np.ndarray, seed: int, repeats: int = 1000
) -> Estimate:
    """Macro AUC of logits (n, classes), after softmax, with its bootstrap interval."""
    return interval(mean_auc, labels, softmax(logits, axis=1), seed, repeats)
