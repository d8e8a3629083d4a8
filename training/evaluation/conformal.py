"""Prediction sets with a promised coverage, by split-conformal calibration.

The set of a patient holds every class whose score is at most the limit, a quantile of the true
classes' scores on a calibration split that trained nothing. If calibration and test patients are
exchangeable (one row per patient), the set holds the true class with at least the nominal
probability, whatever the model is worth. Another scanner or dose breaks the promise: measure it.
Source: Vovk et al., Algorithmic Learning in a Random World, 2005.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import betabinom

from REACTKDLib.errors import OptionError

from .checking import checked_pair, checked_probabilities

Score = Literal["lac", "aps"]


def nonconformity(probabilities: np.ndarray, score: Score) -> np.ndarray:
    """How strange each class would be: (n, classes), 0 to 1.

    ``lac`` is 1 - probability (Sadinle et al., JASA 2019: smallest sets on average). ``aps`` is the
    sum of the probabilities of all classes at least as probable, without randomisation (Romano et
    al., NeurIPS 2020: sets grow where the model is unsure). With few classes ``aps`` is cautious:
    the least probable class always scores 1, so as soon as the limit is 1 every set is full.

    Raises
    ------
    OptionError : another score.
    """
    probabilities = checked_probabilities(probabilities)
    if score == "lac":
        return 1 - probabilities
    if score == "aps":
        # Exactly summing to 1, so that the least probable classes of all rows tie.
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        sums = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
        scores = np.empty_like(sums)
        np.put_along_axis(scores, order, sums, axis=1)
        return scores
    raise OptionError(f"Unknown score {score!r}.", "Choose lac or aps.")


#: Promised coverage of prediction sets: a choice, as usual as the 95 % of intervals.
COVERAGE = 0.9


@dataclass(frozen=True)
class ConformalLimit:
    """A class is in the set when its ``score`` is at most ``limit`` (infinite: every class is).

    ``coverage`` is the nominal one, ``n`` the number of calibration patients.
    """

    score: Score
    limit: float
    coverage: float
    n: int


def calibrate_sets(
    labels: np.ndarray, probabilities: np.ndarray, coverage: float = COVERAGE, score: Score = "lac"
) -> ConformalLimit:
    """Limit from a calibration split: the ceil((n + 1) * coverage)-th smallest true-class score.

    With fewer than coverage / (1 - coverage) patients no limit keeps the promise but infinity.

    Raises
    ------
    OptionError : coverage outside 0 to 1, unknown score. InputError : arrays that do not fit.
    """
    if not 0 < coverage < 1:
        raise OptionError(f"Coverage {coverage} is not between 0 and 1.", "Give for example 0.9.")
    labels, probabilities = checked_pair(labels, probabilities)
    n = len(labels)
    scores = np.sort(nonconformity(probabilities, score)[np.arange(n), labels])
    rank = _rank(n, coverage)
    return ConformalLimit(score, float(scores[rank - 1]) if rank <= n else np.inf, coverage, n)


def _rank(n: int, coverage: float) -> int:
    # Rounded first: 10 * 0.7 is 7.000000000000001 to a computer.
    return int(np.ceil(round((n + 1) * coverage, 9)))


def prediction_sets(probabilities: np.ndarray, limit: ConformalLimit) -> np.ndarray:
    """Which classes are in each set, (n, classes) bool."""
    # Sums of the same probabilities in another order may differ in the last digits.
    return nonconformity(probabilities, limit.score) <= limit.limit + 1e-12


def abstains(sets: np.ndarray) -> np.ndarray:
    """Where a set says nothing, (n,) bool: every class is in it, or none."""
    sizes = sets.sum(axis=1)
    return (sizes == 0) | (sizes == sets.shape[1])


@dataclass(frozen=True)
class SetReport:
    """How prediction sets did on a test split.

    ``coverage`` is the part of sets that hold the true class, ``class_coverage`` the same within
    each class (None without patients), ``expected`` the central 95 % of coverage if the splits are
    exchangeable, given both sizes; ``kept`` is False when coverage lies below it. ``mean_size`` in
    classes, ``sizes`` the number of sets with 0, 1, ... classes, ``abstained`` the part of
    :func:`abstains`.
    """

    nominal: float
    coverage: float
    expected: tuple[float, float]
    kept: bool
    class_coverage: tuple[float | None, ...]
    mean_size: float
    sizes: tuple[int, ...]
    abstained: float
    n: int


def check_sets(labels: np.ndarray, probabilities: np.ndarray, limit: ConformalLimit) -> SetReport:
    """Measure the sets of a test split against what was promised.

    The number of covered patients follows a beta-binomial law when scores have no ties (Vovk 2012).

    Raises
    ------
    InputError : arrays that do not fit.
    """
    labels, probabilities = checked_pair(labels, probabilities)
    sets = prediction_sets(probabilities, limit)
    n, classes = sets.shape
    covered = sets[np.arange(n), labels]
    rank = _rank(limit.n, limit.coverage)
    if rank <= limit.n:
        law = betabinom(n, rank, limit.n + 1 - rank)
        expected = (float(law.ppf(0.025)) / n, float(law.ppf(0.975)) / n)
    else:
        expected = (1.0, 1.0)
    coverage = float(covered.mean())
    sizes = sets.sum(axis=1)
    return SetReport(
        nominal=limit.coverage,
        coverage=coverage,
        expected=expected,
        kept=coverage >= expected[0],
        class_coverage=tuple(
            float(covered[labels == c].mean()) if (labels == c).any() else None
            for c in range(classes)
        ),
        mean_size=float(sizes.mean()),
        sizes=tuple(int(v) for v in np.bincount(sizes, minlength=classes + 1)),
        abstained=float(abstains(sets).mean()),
        n=n,
    )
