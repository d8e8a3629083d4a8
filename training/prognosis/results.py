"""Figures of a prognosis study: every method, and the differences between methods.

Every patient has been tested once in a run (a seed and a repeat). The predictions of a run's folds
are pooled, figures are means over runs, and intervals are by bootstrap over patients, stratified by
outcome: they speak of other patients and the same trainings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ..evaluation.binary import (
    accuracy,
    average_precision,
    binary_brier,
    calibration_metric,
    delong_interval,
    f1_score,
)
from ..evaluation.bootstrap import REPEATS, Estimate, Metric, interval
from ..evaluation.calibration import classwise_calibration_error
from ..evaluation.comparison import DeLong, delong_test, holm, paired_difference
from ..evaluation.decision import mean_net_benefit, net_benefit
from ..evaluation.discrimination import balanced_accuracy, one_class_auc
from ..evaluation.results import Results, Row, row_of
from .nested import NestedStudy

__all__ = ["AUROC", "METRICS", "PUBLISHED", "THRESHOLDS", "prognosis_results", "prognosis_table"]

AUROC = "AUROC"
#: Probabilities of the event at which somebody may act; a choice, no clinical recommendation.
THRESHOLDS = np.linspace(0.1, 0.6, 51)

_BENEFIT = f"mean net benefit, thresholds {THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g}"
#: Name -> metric, in the order of every table.
METRICS: Mapping[str, Metric] = {
    AUROC: one_class_auc(1),
    "balanced accuracy": balanced_accuracy,
    "accuracy": accuracy,
    "F1": f1_score,
    "PR-AUC": average_precision,
    "Brier score": binary_brier,
    "expected calibration error": classwise_calibration_error(10),
    "calibration slope": calibration_metric("slope"),
    "calibration intercept": calibration_metric("intercept"),
    _BENEFIT: mean_net_benefit(net_benefit([1], THRESHOLDS), THRESHOLDS),
}
#: What methods are compared in.
_COMPARED = (AUROC, "balanced accuracy", "Brier score", _BENEFIT)

#: What the method's authors report (arXiv 2502.00695), of a cohort of their own. Shown beside our
#: figures and compared with none. Their AUC is probably a balanced accuracy: it was computed from
#: classes, not from probabilities.
PUBLISHED: Mapping[str, str] = {
    "patients": "published figures of another cohort (n = 184)",
    "accuracy": "0.831",
    "F1": "0.781",
    "AUROC": "0.822 (as AUC; probably a balanced accuracy)",
}


def prognosis_results(study: NestedStudy, repeats: int = REPEATS) -> Results:
    """Rows of every method with a finished run: its figures, DeLong's interval of the mean
    probability, the treatment of everybody; then its differences from the references. ``repeats``
    bootstrap draws."""
    runs, labels = study.runs(), np.array(study.cohort.labels)
    rows = [row for name in runs for row in _figures(study, name, runs[name], labels, repeats)]
    if runs:
        everybody = mean_net_benefit(net_benefit([1], THRESHOLDS, treat_all=True), THRESHOLDS)
        first = next(iter(runs.values()))[:1]
        estimate = interval(everybody, labels, first, study.settings.seed, repeats)
        rows.append(
            row_of("treat everybody", study.cohort.name, _BENEFIT, estimate, [study.settings.seed])
        )
    rows += _gains(study, runs, labels, repeats)
    return Results(tuple(rows), simulated=study.cohort.simulated)


def _seeds(study: NestedStudy, method: str) -> list[int]:
    return list(dict.fromkeys(seed for seed, _ in study.run_names(method)))


def _figures(
    study: NestedStudy, method: str, runs: np.ndarray, labels: np.ndarray, repeats: int
) -> Iterator[Row]:
    cohort, seeds = study.cohort.name, _seeds(study, method)
    for name, metric in METRICS.items():
        with np.errstate(invalid="ignore"):
            estimate = interval(metric, labels, runs, study.settings.seed, repeats)
        # A slope is not finite where probabilities separate the outcomes, or are all alike.
        if all(map(math.isfinite, (estimate.value, estimate.low, estimate.high))):
            yield row_of(method, cohort, name, estimate, seeds)
    estimate = delong_interval(labels == 1, runs[:, :, 1].mean(axis=0))
    yield row_of(method, cohort, f"{AUROC} of the mean probability (DeLong)", estimate, seeds)


def _gains(
    study: NestedStudy, runs: Mapping[str, np.ndarray], labels: np.ndarray, repeats: int
) -> Iterator[Row]:
    """Every method less each reference: bootstrap; then DeLong's tests, Holm over all of them."""
    pairs = [
        (method, reference)
        for reference in study.settings.references
        for method in runs
        if reference in runs and method != reference
    ]
    cohort, seed = study.cohort.name, study.settings.seed
    tests: list[DeLong] = []
    for method, reference in pairs:
        for name in _COMPARED:
            d = paired_difference(
                METRICS[name], labels, runs[method], runs[reference], seed, repeats
            )
            estimate = Estimate(d.value, d.low, d.high, d.n)
            title = f"{name}, gain over {reference}"
            yield row_of(method, cohort, title, estimate, _seeds(study, method))
        means = (runs[m][:, :, 1].mean(axis=0) for m in (method, reference))
        tests.append(delong_test(labels == 1, *means))
    corrected = holm(np.array([test.p for test in tests]))
    for (method, reference), test, p in zip(pairs, tests, corrected, strict=True):
        gap, reach = test.first - test.second, 1.959964 * test.standard_error
        said = f"DeLong p {_p_text(test.p)}, Holm {_p_text(float(p))}"
        name = f"{AUROC} of the mean probability, gain over {reference} ({said})"
        estimate = Estimate(gap, gap - reach, gap + reach, test.n)
        yield row_of(method, cohort, name, estimate, _seeds(study, method))


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def prognosis_table(results: Results, reference: str | None = None) -> str:
    """The main figures as a Markdown table, a method per line, 95 % intervals in brackets; last,
    the published figures of another cohort."""
    columns = [AUROC, "balanced accuracy", "accuracy", "F1", "PR-AUC", "Brier score"]
    columns += ["calibration slope"]
    gain = f"{AUROC}, gain over {reference}"
    rows = {(row.method, row.metric): row for row in results.rows}
    methods = list(dict.fromkeys(row.method for row in results.rows if row.metric == AUROC))
    shown = [*columns, *([gain] if reference else [])]
    title = f"method{' (simulated data)' if results.simulated else ''}"
    n = sorted({row.n for row in results.rows})
    header = [f"{title}, n = {' to '.join(map(str, n))}", *shown]
    lines = [header, ["---"] * len(header)]
    for method in methods:
        cells = [_cell(rows.get((method, name)), name == gain) for name in shown]
        lines.append([method.replace("|", r"\|"), *cells])
    lines.append([PUBLISHED["patients"], *(PUBLISHED.get(name, "") for name in shown)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(row: Row | None, signed: bool) -> str:
    if row is None:
        return ""
    form = "+.3f" if signed else ".3f"
    return f"{row.value:{form}} ({row.low:{form}} to {row.high:{form}})"
