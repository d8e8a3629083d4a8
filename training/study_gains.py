"""Methods of a study side by side on the same patients, folds and seeds: rows of differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from .aggregate import (
    CT,
    NET_BENEFIT,
    OURS,
    REFERENCE,
    THRESHOLDS,
    cohorts_of,
    explanation_title,
    mean_by_patient,
)
from .evaluation.bootstrap import Estimate, Fold, case_interval
from .evaluation.comparison import Difference, paired_contrast, paired_difference
from .evaluation.decision import macro_net_benefit, mean_net_benefit
from .evaluation.discrimination import mean_auc
from .evaluation.results import Row, row_of
from .study import EXTERNAL, INTERNAL, Study
from .study_runs import Documents, common_runs, folds_of, with_all_classes


def gain_rows(
    study: Study, runs: Mapping[str, Documents], labels: Mapping[str, int]
) -> Iterator[Row]:
    """Every method less the reference, our method less every other, and what each loses with
    dose."""
    for method, documents in runs.items():
        yield from dose_losses(method, documents, labels, study)
        if method != REFERENCE and REFERENCE in runs:
            yield from gains(method, documents, REFERENCE, runs[REFERENCE], labels, study)
    if OURS in runs:
        for other, reference in runs.items():
            if other not in (OURS, REFERENCE):
                yield from gains(OURS, runs[OURS], other, reference, labels, study)
            if other != OURS:
                yield from _loss_differences(OURS, runs[OURS], other, reference, labels, study)


def gains(
    method: str,
    documents: Documents,
    other: str,
    reference: Documents,
    labels: Mapping[str, int],
    study: Study,
) -> Iterator[Row]:
    """``method`` less another on the same patients, folds and seeds: macro AUC on every test by CT,
    net benefit as acquired, scores of the explanation."""
    first, second = common_runs(documents, reference)
    seeds = sorted({document["seed"] for document in first})
    benefit = mean_net_benefit(macro_net_benefit(THRESHOLDS), THRESHOLDS)
    for key, cohort, dose in cohorts_of(study, documents):
        if key.startswith(INTERNAL) and key != CT:
            continue
        own, others = (folds_of(x, key, labels, study) for x in (first, second))
        if not own or not others:  # a baseline has not every test
            continue
        for name, metric, usable in (
            ("macro AUC", mean_auc, with_all_classes),
            (f"{NET_BENEFIT}, macro", benefit, list),
        ):
            if name == "macro AUC" or key in (CT, EXTERNAL):
                pairs = list(zip(usable(own), usable(others), strict=True))
                found = [
                    paired_difference(metric, a.labels, a.probabilities, b.probabilities, seed=n)
                    for n, (a, b) in enumerate(pairs)
                ]
                if found:
                    title = f"{name}, gain over {other}"
                    yield row_of(method, cohort, title, _mean_of(found), seeds, dose)
    yield from _explanation_gains(method, first, other, second, study)


def _explanation_gains(
    method: str, first: Documents, other: str, second: Documents, study: Study
) -> Iterator[Row]:
    for name in dict.fromkeys(name for d in first for name in d.get("explanation", ())):
        own, others = (
            mean_by_patient(d.get("explanation", {}).get(name, {}) for d in documents)
            for documents in (first, second)
        )
        seeds = sorted({d["seed"] for d in first if d.get("explanation", {}).get(name)})
        estimate = difference_by_patient(own, others, study.settings.seed)
        if estimate is not None:
            title = f"{explanation_title(name)}, gain over {other}"
            yield row_of(method, f"{INTERNAL}, ct", title, estimate, seeds)


def difference_by_patient(
    first: Mapping[str, float], second: Mapping[str, float], seed: int
) -> Estimate | None:
    """Mean difference of scores over the patients that have both; None where none has."""
    patients = sorted(set(first) & set(second))
    if not patients:
        return None
    return case_interval(np.array([first[p] - second[p] for p in patients]), seed)


def dose_losses(
    method: str, documents: Documents, labels: Mapping[str, int], study: Study
) -> Iterator[Row]:
    """Macro AUC that a method loses outside between the highest dose and every other."""

    def loss(high: Fold, low: Fold, n: int) -> Difference:
        return paired_difference(
            mean_auc, high.labels, high.probabilities, low.probabilities, seed=n
        )

    yield from _by_dose(method, [documents], f"macro AUC{_loss_name(study)}", loss, labels, study)


def _loss_differences(
    method: str,
    documents: Documents,
    other: str,
    reference: Documents,
    labels: Mapping[str, int],
    study: Study,
) -> Iterator[Row]:
    """What ``method`` loses with dose less what another loses: below 0 it falls more slowly."""

    def contrast(high: Fold, low: Fold, other_high: Fold, other_low: Fold, n: int) -> Difference:
        return paired_contrast(
            mean_auc,
            high.labels,
            plus=[high.probabilities, other_low.probabilities],
            minus=[low.probabilities, other_high.probabilities],
            seed=n,
        )

    both = common_runs(documents, reference)
    title = f"macro AUC{_loss_name(study)}, less the loss of {other}"
    yield from _by_dose(method, both, title, contrast, labels, study)


def _loss_name(study: Study) -> str:
    photons = study.settings.doses.photons
    return f" lost since {max(photons):g} photons" if photons else ""


def _by_dose(
    method: str,
    documents: Sequence[Documents],
    title: str,
    compare: Callable[..., Difference],
    labels: Mapping[str, int],
    study: Study,
) -> Iterator[Row]:
    """A row for every dose but the highest. ``compare`` gets the fold at the highest and at the
    row's dose of each of ``documents``, and a seed."""
    doses = sorted(study.settings.doses.photons, reverse=True)
    if not study.external or not documents[0]:
        return
    seeds = sorted({document["seed"] for document in documents[0]})

    def folds(own: Documents, dose: float) -> list[Fold]:
        return with_all_classes(folds_of(own, f"{EXTERNAL} {dose!r}", labels, study))

    for dose in doses[1:]:
        tables = [table for own in documents for table in (folds(own, doses[0]), folds(own, dose))]
        if not all(tables):  # a baseline has no external test
            continue
        found = [compare(*group, n) for n, group in enumerate(zip(*tables, strict=True))]
        yield row_of(method, EXTERNAL, title, _mean_of(found), seeds, dose)


def _mean_of(differences: Sequence[Difference]) -> Estimate:
    """Mean over folds, which hold different patients: half-widths add in quadrature."""
    value = float(np.mean([d.value for d in differences]))
    count = len(differences)
    low = float(np.sqrt(np.sum([(d.value - d.low) ** 2 for d in differences]))) / count
    high = float(np.sqrt(np.sum([(d.high - d.value) ** 2 for d in differences]))) / count
    return Estimate(value, value - low, value + high, sum(d.n for d in differences))
