"""From the finished units of a method to rows of ``results.json``, with intervals over patients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from .evaluation.bootstrap import (
    Estimate,
    Fold,
    Metric,
    band_over_folds,
    case_interval,
    interval_over_folds,
)
from .evaluation.calibration import brier_score, expected_calibration_error
from .evaluation.conformal import COVERAGE, abstains, prediction_sets
from .evaluation.decision import macro_net_benefit, mean_net_benefit, net_benefit
from .evaluation.discrimination import balanced_accuracy, class_auc, mean_auc, micro_auc
from .evaluation.results import Row, row_of
from .study import EXTERNAL, INTERNAL, Study
from .study_runs import Documents, folds_of, with_all_classes

#: The method of the study, and the one that every other is compared with.
OURS, REFERENCE = "REACT-KD", "no distillation"

#: Risks at which somebody may act, as in most decision curves. A choice of ours, not a clinical
#: one: no guideline names a threshold for these classes.
THRESHOLDS = np.linspace(0.1, 0.6, 51)
#: Key of the internal test by CT alone.
CT = f"{INTERNAL} ct"
#: Ends the name of a metric of the mean probability of all students.
TOGETHER = ", mean probability of all students"
NET_BENEFIT = f"net benefit, mean of thresholds {THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g}"


def cohorts_of(study: Study, documents: Documents) -> Iterator[tuple[str, str, float | None]]:
    """Key in a document, name in the table, dose."""
    inside = [f"{INTERNAL} {key}" for key in study.settings.evaluate]
    # A baseline has the modalities of its features, whatever the study evaluates.
    inside += [key for d in documents for key in d["probabilities"] if key.startswith(INTERNAL)]
    for key in dict.fromkeys(inside):
        yield key, key.replace(f"{INTERNAL} ", f"{INTERNAL}, "), None
    if not study.external:
        return
    yield EXTERNAL, EXTERNAL, None
    for photons in study.settings.doses.photons:
        yield f"{EXTERNAL} {photons!r}", EXTERNAL, photons


def event_of(study: Study) -> tuple[str, list[int]]:
    """The event of the cumulative decision curve, the second class or a later one: title, classes.

    Classes are ordered; of two, it is the positive one."""
    titles = [c.title for c in study.spec.classes]
    return ("at least " if len(titles) > 2 else "") + titles[1], list(range(1, len(titles)))


def _separation(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Macro and micro AUC, balanced accuracy, AUC of every class: all of the same draws."""
    each = class_auc(labels, probabilities, weights)
    micro = micro_auc(labels, probabilities, weights)
    balanced = balanced_accuracy(labels, probabilities, weights)
    return np.column_stack([each.mean(axis=1), micro, balanced, each])


def _together(metrics: Iterable[Metric]) -> Metric:
    chosen = list(metrics)

    def metric(
        labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        return np.column_stack([one(labels, probabilities, weights) for one in chosen])

    return metric


def method_rows(
    method: str, documents: Documents, labels: Mapping[str, int], study: Study
) -> Iterator[Row]:
    """The rows of one method that its finished units allow.

    The internal test is each patient once, by the student whose fold held the patient out; metrics
    are averaged over folds and seeds. The external test is every patient by every student, and by
    the mean probability of all of them.
    Intervals are bootstraps over patients: they speak of other patients, not of other trainings.
    A fold or seed that is not there yet is left out; ``seeds`` and ``n`` of the row tell.
    Where folds are repeated, see :func:`training.study_runs.folds_of`.
    """
    seeds = sorted({document["seed"] for document in documents})
    separation = ["macro AUC", "micro AUC", "balanced accuracy"]
    separation += [f"AUC, {c.title}" for c in study.spec.classes]
    event, classes = event_of(study)
    others: dict[str, Metric] = {
        "Brier score": brier_score,
        "expected calibration error": expected_calibration_error(),
        f"{NET_BENEFIT}, macro": mean_net_benefit(macro_net_benefit(THRESHOLDS), THRESHOLDS),
        f"{NET_BENEFIT}, {event}": mean_net_benefit(net_benefit(classes, THRESHOLDS), THRESHOLDS),
    }
    for key, cohort, dose in cohorts_of(study, documents):
        folds = folds_of(documents, key, labels, study)
        # Other modalities and doses are told by few figures: all would be thousands of rows.
        most = key in (CT, EXTERNAL)
        names = list(others) if most else ["Brier score"]
        for wanted, metric, usable in (
            (separation if most else separation[:3], _separation, with_all_classes(folds)),
            (names, _together(others[name] for name in names), folds),
        ):
            if usable:
                band = band_over_folds(metric, usable, study.settings.seed)
                for n, name in enumerate(wanted):
                    value, low, high = (float(v[n]) for v in (band.value, band.low, band.high))
                    estimate = Estimate(value, low, high, band.n)
                    yield row_of(method, cohort, name, estimate, seeds, dose)
        if key == EXTERNAL and len(documents) > 1:
            yield from _together_rows(method, with_all_classes(folds), seeds, study)
        if key == CT or key.startswith(EXTERNAL):
            for name, scores in _set_scores(documents, key, labels).items():
                estimate = _over_patients(scores, study.settings.seed, labels)
                yield row_of(method, cohort, name, estimate, seeds, dose)
    for name in dict.fromkeys(name for d in documents for name in d.get("explanation", ())):
        own = [d for d in documents if d["explanation"].get(name)]
        if own:
            scores = mean_by_patient(d["explanation"][name] for d in own)
            estimate = _over_patients(scores, study.settings.seed)
            seeds = sorted({document["seed"] for document in own})  # some are of one seed only
            yield row_of(method, f"{INTERNAL}, ct", explanation_title(name), estimate, seeds)


def _together_rows(
    method: str, folds: Sequence[Fold], seeds: Sequence[int], study: Study
) -> Iterator[Row]:
    """What the mean probability of all students reaches outside, where none has seen a case."""
    means = [Fold(fold.labels, fold.probabilities.mean(axis=0)) for fold in folds]
    if means:
        for name, metric in (("macro AUC", mean_auc), ("Brier score", brier_score)):
            estimate = interval_over_folds(metric, means, study.settings.seed)
            yield row_of(method, EXTERNAL, f"{name}{TOGETHER}", estimate, seeds)


def explanation_title(name: str) -> str:
    """What a score of the explanation is called in a row."""
    known = name in ("attention mass", "pointing game")
    return f"{name} in the responsible region" if known else name


def _set_scores(
    documents: Documents, key: str, labels: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """Name -> patient -> mean over students, of what their prediction sets do."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for document in documents:
        table = document["probabilities"].get(key)
        if not table:
            continue
        sets = prediction_sets(np.array(list(table.values())), document["limit"])
        truth = np.array([labels[patient] for patient in table])
        name = f"{COVERAGE:.0%} prediction sets".replace("%", " %")
        for title, values in (
            (f"coverage of {name}", sets[np.arange(len(sets)), truth]),
            (f"mean size of {name}", sets.sum(axis=1)),
            (f"abstained by {name}", abstains(sets)),
        ):
            found[title].append(dict(zip(table, values.astype(float), strict=True)))
    return {title: mean_by_patient(tables) for title, tables in found.items()}


def _over_patients(
    scores: Mapping[str, float], seed: int, labels: Mapping[str, int] | None = None
) -> Estimate:
    strata = None if labels is None else np.array([labels[patient] for patient in scores])
    return case_interval(np.array(list(scores.values())), seed, strata=strata)


def mean_by_patient(tables: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Patient -> mean over the tables that have the patient."""
    found: dict[str, list[float]] = defaultdict(list)
    for table in tables:
        for patient, value in table.items():
            found[patient].append(value)
    return {patient: float(np.mean(values)) for patient, values in found.items()}
