"""Calibration, decision curves and prediction sets against independent libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from dcurves import dca
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore, LACConformityScore
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from REACTKDLib.errors import OptionError
from training.evaluation.bootstrap import draw_weights, interval
from training.evaluation.calibration import (
    FEW_CASES,
    TEMPERATURE_RANGE,
    bin_edges,
    brier_score,
    cautious_temperature,
    classwise_calibration_error,
    error_if_calibrated,
    expected_calibration_error,
    fit_temperature,
    reliability_table,
)
from training.evaluation.conformal import (
    ConformalLimit,
    abstains,
    calibrate_sets,
    check_sets,
    nonconformity,
    prediction_sets,
)
from training.evaluation.decision import (
    binary_net_benefit,
    macro_net_benefit,
    mean_net_benefit,
    net_benefit,
)


def honest(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 3), and labels drawn from them."""
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(0, 1.5, size=(n, 3)), axis=1)
    return (rng.random((n, 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1), p


def sharpened(p: np.ndarray, by: float) -> np.ndarray:
    return softmax(by * np.log(p), axis=1)


# Calibration.


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_errors_are_torchmetrics(bins):
    y, p = honest(200, 0)
    p = sharpened(p, 2.0)
    top = multiclass_calibration_error(torch.tensor(p), torch.tensor(y), 3, n_bins=bins, norm="l1")
    assert expected_calibration_error(bins)(y, p)[0] == pytest.approx(float(top), abs=1e-6)
    each = [
        binary_calibration_error(torch.tensor(p[:, c]), torch.tensor(y == c).int(), bins, "l1")
        for c in range(3)
    ]
    assert classwise_calibration_error(bins)(y, p)[0] == pytest.approx(np.mean(each), abs=1e-6)


def test_calibration_error_of_equal_mass_worked_by_hand():
    p = np.array([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.9, 0.1]])
    y = np.array([0, 1, 0, 0])
    # Two bins of two: (0.65 - 0.5) and (0.85 - 1), each half of the rows.
    assert expected_calibration_error(2, equal_mass=True)(y, p)[0] == pytest.approx(0.15)
    assert expected_calibration_error(1)(y, p)[0] == pytest.approx(0.0)


def test_a_bin_holds_its_lower_edge():
    p = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0], [0.6, 0.4]])
    table = reliability_table(np.zeros(4, dtype=int), p, 4)
    assert [(b.lower, b.upper, b.count) for b in table] == [(0.5, 0.75, 2), (0.75, 1.0, 2)]


def test_equal_mass_bins_are_equally_full():
    _, p = honest(300, 1)
    stated = p.max(axis=1)
    counts, _ = np.histogram(stated, bin_edges(stated, 10, equal_mass=True))
    assert counts.min() >= 29 and counts.max() <= 31
    tied = np.repeat([0.4, 0.9], (55, 50))
    assert len(bin_edges(tied, 10, equal_mass=True)) == 4  # 0, 0.4, 0.9, 1


def test_brier_is_scikit_learns():
    y, p = honest(100, 2)
    expected = brier_score_loss(y, p, scale_by_half=False)
    assert brier_score(y, p)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "metric", [brier_score, expected_calibration_error(5), classwise_calibration_error(5)]
)
def test_weights_are_repeated_rows(metric):
    y, p = honest(50, 3)
    weights = draw_weights(y, 0, 6)
    rows = [np.repeat(np.arange(50), w.astype(int)) for w in weights]
    assert np.allclose(metric(y, p, weights), [metric(y[r], p[r])[0] for r in rows])


@pytest.mark.parametrize("make", [expected_calibration_error, classwise_calibration_error])
def test_only_dishonest_probabilities_leave_the_range_of_calibrated_ones(make):
    y, p = honest(300, 4)
    _, high = error_if_calibrated(make(), p, seed=0)
    assert 0 < make()(y, p)[0] <= high
    sure = sharpened(p, 3.0)
    _, high = error_if_calibrated(make(), sure, seed=0)
    assert make()(y, sure)[0] > 2 * high
    temperature = fit_temperature(y, np.log(sure))
    assert temperature == pytest.approx(3.0, rel=0.2)
    cooled = sharpened(sure, 1 / temperature)
    assert make()(y, cooled)[0] <= error_if_calibrated(make(), cooled, seed=0)[1]


def test_a_temperature_that_nothing_bounds_ends_at_the_range():
    labels, logits = np.array([0, 1]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(labels, logits) == pytest.approx(TEMPERATURE_RANGE[0], rel=0.01)


@pytest.mark.parametrize(("n", "scale"), [(FEW_CASES - 1, 0.2), (FEW_CASES, 0.2), (7, 5.0)])
def test_few_cases_may_take_sureness_away_but_not_give_it(n, scale):
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (n, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=p) for p in chances])
    fitted = fit_temperature(labels, logits * scale)
    cautious = cautious_temperature(labels, logits * scale)
    assert (fitted < 1) == (scale < 1)
    assert cautious == (1.0 if n < FEW_CASES and fitted < 1 else fitted)


def test_the_reliability_table_adds_up_to_the_calibration_error():
    y, p = honest(200, 5)
    p = sharpened(p, 2.0)
    table = reliability_table(y, p, 8)
    assert sum(b.count for b in table) == 200
    assert all(b.lower <= b.stated <= b.upper and b.low <= b.observed <= b.high for b in table)
    gaps = sum(b.count * abs(b.stated - b.observed) for b in table) / 200
    assert gaps == pytest.approx(expected_calibration_error(8)(y, p)[0])
    one = reliability_table(y, p, 1, target=2)
    assert one[0].observed == pytest.approx((y == 2).mean())
    with pytest.raises(OptionError, match="no class 3"):
        reliability_table(y, p, target=3)


# Decision curves.

THRESHOLDS = np.linspace(0.01, 0.95, 48)


@pytest.mark.parametrize("classes", [[0], [1], [2], [1, 2]])
def test_net_benefit_is_dcurves(classes):
    y, p = honest(90, 6)
    event, risk = np.isin(y, classes), p[:, classes].sum(axis=1)
    frame = pd.DataFrame({"event": event, "model": risk})
    found = dca(data=frame, outcome="event", modelnames=["model"], thresholds=THRESHOLDS)
    for name, treat_all in (("model", False), ("all", True)):
        expected = found[found["model"] == name]["net_benefit"].to_numpy()
        mine = net_benefit(classes, THRESHOLDS, treat_all=treat_all)(y, p)[0]
        assert mine == pytest.approx(expected, abs=1e-12)


def test_macro_and_mean_net_benefit():
    y, p = honest(90, 7)
    each = [net_benefit([c], THRESHOLDS)(y, p)[0] for c in range(3)]
    curve = macro_net_benefit(THRESHOLDS)
    assert curve(y, p)[0] == pytest.approx(np.mean(each, axis=0))
    # Treating all at a prevalence of 1/3 on average, integrated by hand.
    t = np.linspace(0.1, 0.5, 2001)
    mean = mean_net_benefit(macro_net_benefit(t, treat_all=True), t)(y, p)[0]
    odds = (-np.log(0.5) + np.log(0.9) - 0.4) / 0.4
    assert mean == pytest.approx(1 / 3 - 2 / 3 * odds, abs=1e-6)
    found = interval(mean_net_benefit(curve, THRESHOLDS), y, p, seed=0)
    assert found.low < found.value < found.high and found.n == 90
    single = mean_net_benefit(net_benefit([0], [0.3]), [0.3])
    assert single(y, p)[0] == net_benefit([0], [0.3])(y, p)[0, 0]


def test_net_benefit_worked_by_hand():
    event, risk = np.array([True, True, False, False]), np.array([0.9, 0.2, 0.5, 0.1])
    # At 0.5 one event and one false alarm of odds 1; at 0.75 the event alone.
    assert binary_net_benefit(event, risk, np.array([0.5, 0.75]))[0] == pytest.approx([0, 0.25])


@pytest.mark.parametrize("thresholds", [[0.2, 1.0], [-0.1], [0.3, 0.2], [], [np.nan]])
def test_impossible_thresholds_are_refused(thresholds):
    with pytest.raises(OptionError, match="not rising"):
        mean_net_benefit(macro_net_benefit(np.array(thresholds)), np.array(thresholds))


def test_an_event_needs_known_classes():
    y, p = honest(20, 8)
    for classes in ([], [3]):
        with pytest.raises(OptionError, match="Name some of 0 to 2"):
            net_benefit(classes, THRESHOLDS)(y, p)


# Prediction sets.


class _Known(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose input already is its probabilities."""

    classes_ = np.arange(3)

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return np.asarray(X)

    def predict(self, X):
        return np.asarray(X).argmax(axis=1)

    def __sklearn_is_fitted__(self) -> bool:
        return True


@pytest.mark.parametrize("coverage", [0.6, 0.9])
def test_lac_sets_are_mapies(coverage):
    y, p = honest(150, 9)
    _, test = honest(200, 10)
    oracle = SplitConformalClassifier(
        _Known(), confidence_level=coverage, conformity_score=LACConformityScore(), prefit=True
    ).conformalize(p, y)
    _, expected = oracle.predict_set(test)
    mine = prediction_sets(test, calibrate_sets(y, p, coverage, "lac"))
    assert np.array_equal(mine, expected[:, :, 0])
    assert 0 < mine.mean() < 1


def test_aps_scores_are_mapies_before_it_randomises_them():
    y, p = honest(150, 9)
    expected, _ = APSConformityScore.get_true_label_cumsum_proba(y, p, np.arange(3))
    assert nonconformity(p, "aps")[np.arange(150), y] == pytest.approx(expected[:, 0])
    limit = calibrate_sets(y, p, 0.7, "aps")
    assert limit.limit == pytest.approx(np.sort(expected[:, 0])[106 - 1])  # ceil(151 * 0.7)
    sets = prediction_sets(p, limit)
    assert np.array_equal(sets, nonconformity(p, "aps") <= limit.limit)
    for row, chosen in zip(p, sets, strict=True):  # the most probable classes, none skipped
        assert row[chosen].min(initial=1) >= row[~chosen].max(initial=0)


def test_scores_worked_by_hand():
    p = np.array([[0.2, 0.5, 0.3]])
    assert nonconformity(p, "lac")[0] == pytest.approx([0.8, 0.5, 0.7])
    assert nonconformity(p, "aps")[0] == pytest.approx([1.0, 0.5, 0.8])
    with pytest.raises(OptionError, match="raps"):
        nonconformity(p, "raps")  # type: ignore[arg-type]


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_the_promise_holds_for_a_bad_model_and_the_expected_range_is_right(score):
    """Labels that the model states wrongly; coverage over many splits follows its law."""
    coverages, inside = [], 0
    for trial in range(200):
        y, p = honest(160, 100 + trial)
        p = sharpened(p, 4.0)
        limit = calibrate_sets(y[:60], p[:60], 0.8, score)
        report = check_sets(y[60:], p[60:], limit)
        coverages.append(report.coverage)
        inside += report.kept
    # The promise is at least 0.8; without ties at most 1 / 61 more.
    assert 0.79 <= np.mean(coverages) <= 0.83
    assert 0.94 <= inside / 200 <= 1.0


def test_another_population_breaks_the_promise_and_it_is_seen():
    y, p = honest(300, 11)
    limit = calibrate_sets(y, p, 0.9)
    shifted, q = honest(200, 12)
    report = check_sets(shifted, sharpened(q, 4.0), limit)
    assert report.coverage < report.expected[0] < 0.9 and not report.kept
    assert check_sets(*honest(200, 13), limit).kept


def test_too_few_patients_for_the_promise_give_full_sets():
    y, p = honest(8, 14)
    limit = calibrate_sets(y, p, 0.9)
    assert limit.limit == np.inf
    report = check_sets(y, p, limit)
    assert (report.coverage, report.mean_size, report.abstained) == (1.0, 3.0, 1.0)
    assert report.sizes == (0, 0, 0, 8) and report.kept
    y, p = honest(9, 14)  # with nine the limit is the largest score
    assert calibrate_sets(y, p, 0.9).limit < np.inf


def test_a_set_abstains_with_all_or_no_class():
    sets = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 0, 1]], dtype=bool)
    assert abstains(sets).tolist() == [True, True, False, False]
    p = np.array([[0.4, 0.35, 0.25], [0.9, 0.05, 0.05]])
    report = check_sets(np.array([0, 0]), p, ConformalLimit("lac", 0.5, 0.8, 50))
    assert report.sizes == (1, 1, 0, 0) and report.abstained == 0.5
    assert report.class_coverage == (0.5, None, None)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90])
def test_impossible_coverage_is_refused(coverage):
    with pytest.raises(OptionError, match="not between"):
        calibrate_sets(*honest(10, 15), coverage)
