"""From finished units to the rows of ``results.json``, with intervals over patients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from REACTKDLib.errors import InputError

from .evaluation.bootstrap import Estimate, Fold, Metric, case_interval, interval_over_folds
from .evaluation.calibration import brier_score, fit_temperature
from .evaluation.comparison import Difference, paired_difference
from .evaluation.discrimination import balanced_accuracy, mean_auc, micro_auc
from .evaluation.results import Results, Row, row_of
from .study import EXTERNAL, INTERNAL, SELECTION, Study

METRICS: Mapping[str, Metric] = {
    "macro AUC": mean_auc,
    "micro AUC": micro_auc,
    "balanced accuracy": balanced_accuracy,
    "Brier score": brier_score,
}

#: Method that the others are compared with.
REFERENCE = "no distillation"


def study_results(study: Study) -> Results:
    """All rows that the finished units allow.

    The internal test is each patient once, by the student whose fold held the patient out; metrics
    are averaged over folds and seeds. The external test is every patient by every student.
    Intervals are bootstraps over patients: they speak of other patients, not of other trainings.
    A fold or seed that is not there yet is left out; ``seeds`` and ``n`` of the row tell.
    """
    labels = {case.patient: case.label for case in (*study.internal, *study.external)}
    rows: list[Row] = []
    runs: dict[str, list[dict[str, Any]]] = {}
    for method in study.settings.methods:
        found = [study.result_of(unit) for unit in study.units([method])]
        runs[method] = [calibrated(document, labels) for document in found if document]
    for method, documents in runs.items():
        if documents:
            rows += _rows(method, documents, labels, study)
    if runs.get(REFERENCE):
        for method in runs:
            if method != REFERENCE and runs[method]:
                rows += _gains(method, runs[method], runs[REFERENCE], labels, study)
    return Results(tuple(rows), simulated=study.simulated)


def calibrated(document: dict[str, Any], labels: Mapping[str, int]) -> dict[str, Any]:
    """A unit's document with ``probabilities``: cohort -> patient -> (classes,), at the
    ``temperature`` fitted on its selection cases. ``labels`` patient -> class."""
    patients, logits = _table(document["logits"][SELECTION])
    temperature = fit_temperature(np.array([labels[p] for p in patients]), logits)
    probabilities = {
        cohort: {p: softmax(np.array(row) / temperature) for p, row in table.items()}
        for cohort, table in document["logits"].items()
        if cohort != SELECTION
    }
    return {**document, "temperature": temperature, "probabilities": probabilities}


def _table(rows: Mapping[str, Sequence[float]]) -> tuple[list[str], np.ndarray]:
    return list(rows), np.array(list(rows.values()))


def _cohorts(study: Study) -> Iterator[tuple[str, str, float | None]]:
    """Key in a document, name in the table, dose."""
    for key in study.settings.evaluate:
        yield f"{INTERNAL} {key}", f"{INTERNAL}, {key}", None
    if not study.external:
        return
    yield EXTERNAL, EXTERNAL, None
    for photons in study.settings.doses.photons:
        yield f"{EXTERNAL} {photons!r}", EXTERNAL, photons


def _folds(
    documents: Sequence[dict[str, Any]], cohort: str, labels: Mapping[str, int]
) -> list[Fold]:
    """The test cases of every fold with one run per seed; the external cohort is one fold."""
    groups: dict[int, list[Mapping[str, np.ndarray]]] = defaultdict(list)
    for document in documents:
        place = document["fold"] if cohort.startswith(INTERNAL) else 0
        groups[place].append(document["probabilities"][cohort])
    folds = []
    for tables in groups.values():
        patients = sorted(tables[0])
        if any(set(table) != set(patients) for table in tables):
            raise InputError(
                f"Runs of {cohort} have different patients.", "Remove the older units."
            )
        runs = np.stack([[table[p] for p in patients] for table in tables])
        folds.append(Fold(np.array([labels[p] for p in patients]), runs))
    return folds


def _rows(
    method: str, documents: Sequence[dict[str, Any]], labels: Mapping[str, int], study: Study
) -> Iterator[Row]:
    seeds = sorted({document["seed"] for document in documents})
    for key, cohort, dose in _cohorts(study):
        folds = _folds(documents, key, labels)
        for name, metric in METRICS.items():
            estimate = interval_over_folds(metric, folds, study.settings.seed)
            yield row_of(method, cohort, name, estimate, seeds, dose)
    for name in ("attention mass", "pointing game"):
        scores = _mean_by_patient(document["explanation"][name] for document in documents)
        if not scores:
            continue
        estimate = case_interval(np.array(list(scores.values())), study.settings.seed)
        yield row_of(
            method, f"{INTERNAL}, ct", f"{name} in the responsible region", estimate, seeds
        )


def _mean_by_patient(tables: Iterator[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for table in tables:
        for patient, value in table.items():
            found[patient].append(value)
    return {patient: float(np.mean(values)) for patient, values in found.items()}


def _gains(
    method: str,
    documents: Sequence[dict[str, Any]],
    reference: Sequence[dict[str, Any]],
    labels: Mapping[str, int],
    study: Study,
) -> Iterator[Row]:
    """Gains in macro AUC over the reference, on the same patients, folds and seeds."""
    both = {(d["seed"], d["fold"]) for d in documents} & {(d["seed"], d["fold"]) for d in reference}
    if not both:
        return
    own = [d for d in documents if (d["seed"], d["fold"]) in both]
    other = [d for d in reference if (d["seed"], d["fold"]) in both]
    seeds = sorted({seed for seed, _ in both})
    for key, cohort, dose in _cohorts(study):
        if key.startswith(INTERNAL) and key != f"{INTERNAL} ct":
            continue
        differences = [
            paired_difference(mean_auc, a.labels, a.probabilities, b.probabilities, seed=n)
            for n, (a, b) in enumerate(
                zip(_folds(own, key, labels), _folds(other, key, labels), strict=True)
            )
        ]
        name = f"macro AUC, gain over {REFERENCE}"
        yield row_of(method, cohort, name, _mean_of(differences), seeds, dose)


def _mean_of(differences: Sequence[Difference]) -> Estimate:
    """Mean over folds, which hold different patients: half-widths add in quadrature."""
    value = float(np.mean([d.value for d in differences]))
    count = len(differences)
    low = float(np.sqrt(np.sum([(d.value - d.low) ** 2 for d in differences]))) / count
    high = float(np.sqrt(np.sum([(d.high - d.value) ** 2 for d in differences]))) / count
    return Estimate(value, value - low, value + high, sum(d.n for d in differences))
