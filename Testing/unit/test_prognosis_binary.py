"""Figures of a yes-or-no outcome, against the libraries that define them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    roc_auc_score,
)
from sklearn.metrics import (
    f1_score as f1_of_sklearn,
)

from REACTKDLib.errors import InputError
from training.evaluation.binary import (
    accuracy,
    average_precision,
    binary_brier,
    calibration_line,
    calibration_metric,
    delong_interval,
    f1_score,
)
from training.evaluation.bootstrap import draw_weights
from training.prognosis.results import METRICS


def patients(n: int = 90, seed: int = 0, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(int)
    risk = expit(rng.normal(size=n) + 1.2 * labels - 0.6)
    risk = np.round(risk, 1 if ties else 12).clip(0.02, 0.98)
    return labels, np.stack([1 - risk, risk], axis=1)


def repeated(weights: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(weights)), weights.astype(int))


ORACLES = {
    "accuracy": (accuracy, lambda y, p: accuracy_score(y, p > 0.5)),
    "F1": (f1_score, lambda y, p: f1_of_sklearn(y, p > 0.5)),
    "PR-AUC": (average_precision, average_precision_score),
    "Brier score": (binary_brier, brier_score_loss),
    "AUROC": (METRICS["AUROC"], roc_auc_score),
}


@pytest.mark.parametrize("name", ORACLES)
def test_figures_and_their_bootstrap_are_those_of_scikit_learn(name: str) -> None:
    metric, oracle = ORACLES[name]
    labels, probabilities = patients()
    assert METRICS[name](labels, probabilities)[0] == metric(labels, probabilities)[0]
    assert metric(labels, probabilities)[0] == pytest.approx(oracle(labels, probabilities[:, 1]))
    weights = draw_weights(labels, 1, repeats=5)
    for drawn, value in zip(weights, metric(labels, probabilities, weights), strict=True):
        rows = repeated(drawn)
        expected = oracle(labels[rows], probabilities[rows, 1])
        assert value == pytest.approx(expected, abs=1e-12)


def test_nothing_called_an_event_has_no_f1() -> None:
    labels = np.array([0, 1, 0])
    assert f1_score(labels, np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]))[0] == 0


def test_no_event_has_no_precision_recall_curve() -> None:
    with pytest.raises(InputError, match="0 of 2 rows have the event"):
        average_precision(np.zeros(2, int), np.full((2, 2), 0.5))


def test_three_classes_are_refused() -> None:
    with pytest.raises(InputError, match="of 3 classes"):
        accuracy(np.array([0, 1, 2]), np.full((3, 3), 1 / 3))


def test_the_calibration_line_is_a_logistic_regression_without_penalty() -> None:
    labels, probabilities = patients(200, ties=False)
    x = logit(probabilities[:, 1])
    weights = np.concatenate([np.ones((1, 200)), draw_weights(labels, 2, repeats=3)])
    lines = calibration_line(labels, probabilities, weights)
    for drawn, (slope, intercept) in zip(weights, lines, strict=True):
        model = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000)
        model.fit(x[:, None], labels, sample_weight=drawn)
        assert slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
        # Calibration in the large: stated and observed numbers of events agree once shifted by it.
        assert (drawn * expit(x + intercept)).sum() == pytest.approx((drawn * labels).sum())


def test_known_miscalibration_is_found() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=40000)
    labels = (rng.random(40000) < expit(truth)).astype(int)
    risk = expit(2 * truth + 1)  # twice as sure, and shifted
    slope, _ = calibration_line(labels, np.stack([1 - risk, risk], axis=1))[0]
    assert slope == pytest.approx(0.5, abs=0.03)
    shifted = expit(truth + 0.7)
    line = calibration_line(labels, np.stack([1 - shifted, shifted], axis=1))[0]
    assert line == pytest.approx((1, -0.7), abs=0.04)


def test_a_line_without_an_answer_is_no_number() -> None:
    labels = np.array([0, 0, 1, 1])
    separated = np.array([0.1, 0.2, 0.8, 0.9])
    slope = calibration_metric("slope")
    assert np.isnan(slope(labels, np.stack([1 - separated, separated], axis=1))[0])
    alike = np.full((4, 2), 0.5)
    assert np.isnan(slope(labels, alike)[0])
    assert calibration_metric("intercept")(labels, alike)[0] == pytest.approx(0)


def test_delongs_interval_holds_the_auc_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(120) % 3 == 0
    truth = 0.7602499389  # two normal scores one standard deviation apart: Phi(1 / sqrt(2))
    inside = 0
    for _ in range(300):
        found = delong_interval(labels, rng.normal(size=120) + labels)
        inside += found.low <= truth <= found.high
    assert 0.91 <= inside / 300 <= 0.985
    assert delong_interval(np.array([0, 0, 1, 1]) == 1, np.arange(4.0)).high == 1.0
