"""All rows of ``results.json`` that the finished units of a study allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from REACTKDLib.networks.student import Student

from .aggregate import explanation_title, mean_by_patient, method_rows
from .evaluation.bootstrap import case_interval
from .evaluation.results import Results, Row, row_of
from .measure import chance_masses
from .study import INTERNAL, Study
from .study_gains import difference_by_patient, gain_rows
from .study_runs import Documents, finished_runs, labels_of

#: In the place of a method: a map that knows where lesions are, which every student is told by the
#: weights of its pooling, and nothing else.
CHANCE = "pooling weights alone"


def study_results(study: Study) -> Results:
    """The rows of every method, then of differences between them; see
    :func:`training.aggregate.method_rows`."""
    labels, runs = labels_of(study), finished_runs(study)
    rows = [row for name, own in runs.items() for row in method_rows(name, own, labels, study)]
    rows += gain_rows(study, runs, labels)
    rows += _chance_rows(study, runs)
    return Results(tuple(rows), simulated=study.simulated)


def _chance_rows(study: Study, runs: Mapping[str, Documents]) -> Iterator[Row]:
    """The attention mass of a map without knowledge, and what each method has more of it."""
    name, seed, cohort = "attention mass", study.settings.seed, f"{INTERNAL}, ct"
    measured: dict[str, dict[str, float]] = {}
    for method, documents in runs.items():
        tables: list[Any] = [d.get("explanation", {}).get(name) or {} for d in documents]
        measured[method] = mean_by_patient(tables)
    patients = {patient for own in measured.values() for patient in own}
    cases = [case for case in study.internal if case.patient in patients]
    layout = Student(study.spec.modality_names, len(study.spec.classes), study.spec.network)
    chance = chance_masses(layout, cases, study.spec)
    if not chance:
        return
    estimate = case_interval(np.array(list(chance.values())), seed)
    yield row_of(CHANCE, cohort, explanation_title(name), estimate, [seed])
    for method, own in measured.items():
        gain = difference_by_patient(own, chance, seed)
        if gain is not None:
            seeds = sorted({document["seed"] for document in runs[method]})
            title = f"{explanation_title(name)}, gain over {CHANCE}"
            yield row_of(method, cohort, title, gain, seeds)
