"""Discrimination, bootstrap and comparison against scikit-learn, MLstatkit and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from MLstatkit.delong import Delong_test
from scipy.special import softmax
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from REACTKDLib.errors import InputError
from training.evaluation.bootstrap import (
    Fold,
    band,
    case_interval,
    draw_weights,
    interval,
    interval_over_folds,
    mean_over_runs,
    one_by_one,
)
from training.evaluation.comparison import delong_test, holm, paired_difference
from training.evaluation.discrimination import (
    balanced_accuracy,
    binary_auc,
    class_auc,
    macro_auc,
    macro_auc_interval,
    mean_auc,
    micro_auc,
    one_class_auc,
    roc_curves,
)


def sample(n: int, signal: float, seed: int, digits: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Unbalanced labels (n,) and probabilities (n, 3); few digits make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=(0.5, 0.3, 0.2))
    labels[:3] = 0, 1, 2
    probabilities = softmax(rng.normal(size=(n, 3)) + signal * np.eye(3)[labels], axis=1)
    if digits < 12:
        probabilities[:, :2] = np.round(probabilities[:, :2], digits)
        probabilities[:, 2] = np.maximum(1 - probabilities[:, :2].sum(axis=1), 0)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return labels, probabilities


@pytest.mark.parametrize("digits", [12, 1])
def test_metrics_are_scikit_learns(digits):
    y, p = sample(120, 1.0, 0, digits)
    each = [roc_auc_score(y == c, p[:, c]) for c in range(3)]
    assert class_auc(y, p)[0] == pytest.approx(each)
    assert mean_auc(y, p)[0] == pytest.approx(np.mean(each))
    assert one_class_auc(1)(y, p)[0] == pytest.approx(each[1])
    truth = y[:, None] == np.arange(3)
    assert micro_auc(y, p)[0] == pytest.approx(roc_auc_score(truth, p, average="micro"))
    expected = balanced_accuracy_score(y, p.argmax(axis=1))
    assert balanced_accuracy(y, p)[0] == pytest.approx(expected)


def test_the_macro_auc_of_logits():
    y, p = sample(120, 1.0, 0)
    assert macro_auc(y, np.log(p) + 3.0) == pytest.approx(mean_auc(y, p)[0])


def test_an_auc_worked_by_hand():
    positive = np.array([True, False, True, False])
    scores = np.array([0.9, 0.5, 0.5, 0.1])  # of four pairs three won and one tied
    assert binary_auc(positive, scores)[0] == pytest.approx(3.5 / 4)
    # The tied positive counts three times, the winner once: (1 + 1 + 3 * (1 + 0.5)) / 8.
    assert binary_auc(positive, scores, np.array([[1.0, 1, 3, 1]]))[0] == pytest.approx(6.5 / 8)


@pytest.mark.parametrize(
    "metric",
    [mean_auc, micro_auc, balanced_accuracy, one_class_auc(2), roc_curves(np.arange(3) / 2)],
)
def test_weights_are_repeated_rows(metric):
    y, p = sample(60, 1.0, 1, digits=1)
    weights = draw_weights(y, seed=5, repeats=7)
    rows = [np.repeat(np.arange(len(y)), w.astype(int)) for w in weights]
    expected = np.concatenate([metric(y[r], p[r]) for r in rows])
    assert np.allclose(metric(y, p, weights), expected)


def test_curves_pass_through_scikit_learns_points():
    y, p = sample(90, 1.0, 2, digits=1)
    x, sensitivity, _ = roc_curve(y == 1, p[:, 1], drop_intermediate=False)
    grid = np.unique(x)
    upper = [sensitivity[x == v].max() for v in grid]
    curves = roc_curves(grid)(y, p)[0]
    assert curves.shape == (5, len(grid))
    assert np.allclose(curves[1], upper)
    assert np.allclose(curves[3], curves[:3].mean(axis=0))


def test_draws_keep_the_classes_and_the_random_state():
    y, _ = sample(50, 1.0, 3)
    before = np.random.get_state()[1].copy()
    weights = draw_weights(y, seed=1, repeats=400)
    assert np.array_equal(weights, draw_weights(y, seed=1, repeats=400))
    assert not np.array_equal(weights, draw_weights(y, seed=2, repeats=400))
    assert np.array_equal(before, np.random.get_state()[1])
    for c in range(3):
        assert (weights[:, y == c].sum(axis=1) == (y == c).sum()).all()
    # A row is left out of a draw with probability (1 - 1/m)^m.
    m = (y == 0).sum()
    assert (weights[:, y == 0] == 0).mean() == pytest.approx((1 - 1 / m) ** m, abs=0.02)


def test_patients_come_whole():
    patients = np.array(["a", "b", "a", "c", "b", "a", "d"])
    y = np.array([0, 1, 0, 1, 1, 0, 0])
    weights = draw_weights(y, seed=0, repeats=100, patients=patients)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 0] == weights[:, 5]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 6] == 2).all()  # two patients of class 0
    with pytest.raises(InputError, match="different classes"):
        draw_weights(np.array([0, 1, 1, 1, 1, 0, 0]), 0, patients=patients)


def test_copied_rows_do_not_narrow_the_interval_of_grouped_patients():
    y, p = sample(60, 1.0, 4)
    once = interval(mean_auc, y, p, seed=0)
    grouped = interval(
        mean_auc, np.repeat(y, 4), np.repeat(p, 4, axis=0), 0, patients=np.repeat(np.arange(60), 4)
    )
    naive = interval(mean_auc, np.repeat(y, 4), np.repeat(p, 4, axis=0), 0)
    assert grouped.n == once.n == 60 and naive.n == 240
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.7 * (once.high - once.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Normal scores one standard deviation apart: the true AUC is Phi(1 / sqrt 2)."""
    truth, rng, inside = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(0), 0
    y = np.arange(80) % 2
    for trial in range(200):
        logit = rng.normal(size=80) + y
        p = softmax(np.stack([-logit, logit], axis=1) / 2, axis=1)
        found = interval(one_class_auc(1), y, p, seed=trial, repeats=300)
        inside += found.low <= truth <= found.high
    assert 0.89 <= inside / 200 <= 0.985


def test_runs_are_averaged_within_a_draw():
    y, first = sample(60, 1.0, 5)
    second = np.roll(first, 1, axis=0)
    weights = draw_weights(y, 0, 20)
    both = mean_over_runs(mean_auc, y, np.stack([first, second]), weights)
    assert np.allclose(both, (mean_auc(y, first, weights) + mean_auc(y, second, weights)) / 2)
    same = interval(mean_auc, y, np.stack([first, first]), seed=0)
    assert same == interval(mean_auc, y, first, seed=0)


def test_any_function_is_a_metric():
    y, p = sample(40, 1.0, 6)
    metric = one_by_one(lambda a, b: balanced_accuracy_score(a, b.argmax(axis=1)))
    assert interval(metric, y, p, 3, 50) == pytest.approx(interval(balanced_accuracy, y, p, 3, 50))


def test_folds_are_averaged_and_narrow_the_interval():
    folds = [Fold(*sample(60, 1.0, seed)) for seed in (7, 8, 9)]
    each = [interval(mean_auc, f.labels, f.probabilities, 0) for f in folds]
    all_folds = interval_over_folds(mean_auc, folds, 0)
    assert all_folds.n == 180
    assert all_folds.value == pytest.approx(np.mean([e.value for e in each]))
    widths = [e.high - e.low for e in each]
    expected = np.sqrt(np.sum(np.square(widths))) / 3  # independent patients
    assert all_folds.high - all_folds.low == pytest.approx(expected, rel=0.1)
    with pytest.raises(InputError, match="no fold"):
        interval_over_folds(mean_auc, [], 0)


def test_a_band_is_the_interval_of_each_point():
    y, p = sample(60, 1.0, 10)
    found = band(class_auc, y, p, 0, 200)
    assert found.value.shape == found.low.shape == (3,)
    one = interval(one_class_auc(1), y, p, 0, 200)
    assert (found.value[1], found.low[1], found.high[1]) == (one.value, one.low, one.high)


def test_the_mean_of_case_scores():
    scores = np.random.default_rng(0).normal(2, 1, 400)
    found = case_interval(scores, seed=0)
    assert found.value == pytest.approx(scores.mean()) and found.n == 400
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * scores.std() / 20, rel=0.06)
    assert case_interval(np.stack([scores, scores]), seed=0) == found
    # Between strata of different means nothing varies.
    strata = np.arange(400) % 2
    stratified = case_interval(10.0 * strata, seed=0, strata=strata)
    assert (stratified.low, stratified.high) == (5.0, 5.0)
    with pytest.raises(InputError, match="finite"):
        case_interval(np.array([1.0, np.nan]), 0)


def test_logits_of_before_give_the_same_interval():
    y, p = sample(60, 1.0, 11)
    assert macro_auc_interval(y, np.log(p), 3) == pytest.approx(interval(mean_auc, y, p, 3, 1000))


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.array([0, 1]), np.array([[2.0, -1.0], [0.0, 1.0]]), "down to -1"),
        (np.array([0, 1]), np.array([[0.2, 0.2], [0.0, 1.0]]), "away from 1"),
        (np.array([0, 2]), np.full((2, 2), 0.5), "0 to 2"),
        (np.array([0.0, 1.0]), np.full((2, 2), 0.5), "float64"),
        (np.array([0, 1, 1]), np.full((2, 2), 0.5), "3 labels"),
        (np.array([0, 0]), np.full((2, 2), 0.5), "no AUC"),
        (np.array([0, 1]), np.array([[np.nan, 1.0], [0.0, 1.0]]), "finite"),
    ],
)
def test_what_would_give_a_wrong_figure_is_refused(labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        mean_auc(labels, probabilities)


# Comparison.


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(0)
    y, p = sample(100, 1.0, 12)
    near = softmax(np.log(p) + rng.normal(0, 0.2, p.shape), axis=1)
    found = paired_difference(mean_auc, y, p, near, seed=0)
    assert found.value == pytest.approx(mean_auc(y, p)[0] - mean_auc(y, near)[0])
    alone = interval(mean_auc, y, p, seed=0)
    assert found.high - found.low < 0.5 * (alone.high - alone.low)
    assert found.low <= found.value <= found.high and found.n == 100
    mirrored = paired_difference(mean_auc, y, near, p, seed=0)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert mirrored.p == found.p


def test_p_follows_the_difference():
    y, p = sample(150, 1.5, 13)
    _, poor = sample(150, 0.0, 14)
    better = paired_difference(mean_auc, y, p, poor, seed=0, repeats=999)
    assert better.low > 0 and better.p == pytest.approx(2 / 1000)
    assert paired_difference(mean_auc, y, p, p, seed=0).p == 1.0
    runs = paired_difference(mean_auc, y, np.stack([p, poor]), p, seed=0)
    assert runs.value == pytest.approx(-better.value / 2)
    with pytest.raises(InputError, match="same patients"):
        paired_difference(mean_auc, y, p, poor[1:], seed=0)


def test_p_is_small_as_often_as_it_says_when_nothing_differs():
    rng = np.random.default_rng(1)
    y = np.arange(60) % 3
    small = 0
    for trial in range(200):
        shared = rng.normal(size=(60, 3)) + np.eye(3)[y]
        a, b = (softmax(shared + rng.normal(size=(60, 3)), axis=1) for _ in range(2))
        small += paired_difference(mean_auc, y, a, b, seed=trial, repeats=199).p < 0.1
    assert 0.04 <= small / 200 <= 0.17


@pytest.mark.parametrize("digits", [12, 1])
def test_delong_is_mlstatkits(digits):
    y, a = sample(120, 1.0, 15, digits)
    _, b = sample(120, 0.6, 16, digits)
    b = (a + b) / 2
    for c in range(3):
        found = delong_test(y == c, a[:, c], b[:, c])
        z, p, _, _, first, second, info = Delong_test(
            (y == c).astype(int), a[:, c], b[:, c], return_ci=True, return_auc=True
        )
        assert info["method"] == "delong"
        assert (found.first, found.second) == pytest.approx((first, second))
        assert found.z == pytest.approx(-z, rel=1e-6)  # theirs is second - first
        assert found.p == pytest.approx(p, rel=1e-6)
        assert found.standard_error == pytest.approx(np.sqrt(info["var_diff"]), rel=1e-6)


def test_delong_where_nothing_varies():
    y = np.array([False, False, True, True])
    same = delong_test(y, np.arange(4.0), np.arange(4.0) ** 3)
    assert (same.first, same.second, same.z, same.p) == (1.0, 1.0, 0.0, 1.0)
    opposite = delong_test(y, np.arange(4.0), -np.arange(4.0))
    assert (opposite.first, opposite.second, opposite.p) == (1.0, 0.0, 0.0)
    with pytest.raises(InputError, match="1 positive"):
        delong_test(np.array([True, False, False]), np.arange(3.0), np.arange(3.0))


def test_holm():
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04, which may not fall below the third.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.5])) == pytest.approx([1.0, 1.0])
    with pytest.raises(InputError, match="0 to 1"):
        holm(np.array([0.5, 1.5]))
