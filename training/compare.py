"""Two methods of a study, patient by patient: differences with intervals, and DeLong's tests."""

from __future__ import annotations

import numpy as np

from REACTKDLib.errors import OptionError

from .aggregate import explanation_title, gains, mean_by_patient
from .evaluation.bootstrap import case_interval
from .evaluation.results import Results, Row, markdown_table, row_of
from .study import INTERNAL, Study
from .study_runs import Documents, common_runs, finished_runs, labels_of
from .study_tables import delong_rows


def compare(study: Study, method: str, reference: str) -> str:
    """A Markdown table of ``method`` less ``reference`` on the same patients, folds and seeds.

    Macro AUC on every test by CT (bootstrap over patients), AUC of each class (DeLong, with Holm's
    correction over the classes and tests), and every score of the explanation (bootstrap).

    Raises
    ------
    OptionError : one of the two has no finished student, or they have none in common.
    """
    runs = finished_runs(study)
    for name in (method, reference):
        if name not in runs:
            raise OptionError(
                f"{name!r} has no finished student.", f"Choose from {sorted(runs)}, or distil it."
            )
    own, other = common_runs(runs[method], runs[reference])
    if not own:
        raise OptionError(
            f"{method!r} and {reference!r} share no seed and fold.",
            "Distil more of their students.",
        )
    rows = [
        *gains(method, own, reference, other, labels_of(study), study),
        *delong_rows(study, runs, method, reference),
        *_explanation_rows(method, own, reference, other, study),
    ]
    return markdown_table(Results(tuple(rows), simulated=study.simulated))


def _explanation_rows(
    method: str, own: Documents, reference: str, other: Documents, study: Study
) -> list[Row]:
    seeds = sorted({document["seed"] for document in own})
    rows = []
    for name in dict.fromkeys(name for d in own for name in d.get("explanation", ())):
        first, second = (
            mean_by_patient(d.get("explanation", {}).get(name, {}) for d in documents)
            for documents in (own, other)
        )
        patients = sorted(set(first) & set(second))
        if patients:
            differences = np.array([first[p] - second[p] for p in patients])
            estimate = case_interval(differences, study.settings.seed)
            title = f"{explanation_title(name)}, gain over {reference}"
            rows.append(row_of(method, f"{INTERNAL}, ct", title, estimate, seeds))
    return rows
