"""What the finished units of a study say of its cases: calibrated probabilities, by fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from REACTKDLib.errors import InputError

from .evaluation.bootstrap import Fold
from .evaluation.calibration import cautious_temperature
from .evaluation.conformal import COVERAGE, calibrate_sets
from .study import INTERNAL, SELECTION, Study

Documents = Sequence[dict[str, Any]]


def labels_of(study: Study) -> dict[str, int]:
    """Patient -> class, of both cohorts."""
    return {case.patient: case.label for case in (*study.internal, *study.external)}


def finished_runs(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Method -> :func:`calibrated` documents of its finished units; methods without are absent.

    Of repeated folds, those of a repeat that is not complete are left out.
    """
    labels = labels_of(study)
    runs = {}
    for method in study.settings.seeds:
        found = [d for unit in study.units([method]) if (d := study.result_of(unit)) is not None]
        if study.settings.repeats > 1:
            folds = study.settings.folds
            there = {(d["seed"], d["fold"]) for d in found}
            found = [
                d
                for d in found
                if all((d["seed"], d["fold"] // folds * folds + n) in there for n in range(folds))
            ]
        if found:
            runs[method] = [calibrated(document, labels) for document in found]
    return runs


def calibrated(document: dict[str, Any], labels: Mapping[str, int]) -> dict[str, Any]:
    """A unit's document with ``probabilities``: cohort -> patient -> (classes,), at the
    ``temperature`` fitted on its selection cases, and the ``limit`` of prediction sets that these
    give. ``labels`` patient -> class."""
    table = document["logits"][SELECTION]
    truth, logits = np.array([labels[p] for p in table]), np.array(list(table.values()))
    temperature = cautious_temperature(truth, logits)
    probabilities = {
        cohort: {p: softmax(np.array(row) / temperature) for p, row in table.items()}
        for cohort, table in document["logits"].items()
        if cohort != SELECTION
    }
    limit = calibrate_sets(truth, softmax(logits / temperature, axis=1), COVERAGE)
    found = {"temperature": temperature, "limit": limit, "probabilities": probabilities}
    return {**document, **found}


def folds_of(
    documents: Documents, cohort: str, labels: Mapping[str, int], study: Study
) -> list[Fold]:
    """The test cases of every fold with one run per seed; the external cohort is one fold, with one
    run per student. A fold in which no patient has the modalities is left out; a method that was
    not measured on a cohort (a baseline) has no fold of it.

    Repeated folds are too small to be measured one by one: the folds of one repeat and seed
    together are one run over all patients, and the internal cohort is one fold too.
    """
    inside, pooled = cohort.startswith(INTERNAL), study.settings.repeats > 1
    groups: dict[int, dict[Any, dict[str, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    for document in documents:
        seed, fold = document["seed"], document["fold"]
        place = fold if inside and not pooled else 0
        run = (seed, fold // study.settings.folds if inside and pooled else fold)
        groups[place][run].update(document["probabilities"].get(cohort, {}))
    folds = []
    for tables in (list(runs.values()) for runs in groups.values()):
        patients = sorted(tables[0])
        if any(set(table) != set(patients) for table in tables):
            raise InputError(
                f"Runs of {cohort} have different patients.", "Remove the older units."
            )
        if patients:
            values = np.stack([[table[p] for p in patients] for table in tables])
            folds.append(Fold(np.array([labels[p] for p in patients]), values))
    return folds


def with_all_classes(folds: Sequence[Fold]) -> list[Fold]:
    """Folds in which every class has a patient: without, there is no AUC."""
    return [f for f in folds if len(np.unique(f.labels)) == np.shape(f.probabilities)[-1]]


def common_runs(own: Documents, other: Documents) -> tuple[Documents, Documents]:
    """The documents of two methods with the same seeds and folds."""
    both = {(d["seed"], d["fold"]) for d in own} & {(d["seed"], d["fold"]) for d in other}
    first, second = ([d for d in x if (d["seed"], d["fold"]) in both] for x in (own, other))
    return first, second
