"""Two methods of a study, patient by patient: differences with intervals, and DeLong's tests."""

from __future__ import annotations

from REACTKDLib.errors import OptionError

from .evaluation.results import Results, markdown_table
from .study import Study
from .study_gains import gains
from .study_runs import common_runs, finished_runs, labels_of
from .study_tables import delong_rows


def compare(study: Study, method: str, reference: str) -> str:
    """A Markdown table of ``method`` less ``reference`` on the same patients, folds and seeds.

    Macro AUC on every test by CT, net benefit and every score of the explanation (bootstrap over
    patients), and AUC of each class (DeLong, with Holm's correction over the classes and tests).

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
    ]
    return markdown_table(Results(tuple(rows), simulated=study.simulated))
