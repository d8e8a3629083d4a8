"""``results.json`` and ``report.html`` of a prognosis study. No row of them is of one patient."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from REACTKDLib import __version__

from ..evaluation.bootstrap import REPEATS, band
from ..evaluation.calibration import reliability_table
from ..evaluation.decision import net_benefit
from ..evaluation.figures import COLORS, decision_figure, png, reliability_figure
from ..evaluation.html_report import FlowStep, ReportContent, ReportFigure, write_report
from ..evaluation.results import Results, write_json, write_results
from .cohort import modalities_of
from .nested import NestedStudy
from .results import PUBLISHED, THRESHOLDS, prognosis_results, prognosis_table
from .simulated import attainable, simulate_outcome

__all__ = ["attainable_figures", "report_content", "write_prognosis_study"]

_CALIBRATION = ("Brier", "expected calibration", "calibration")


def write_prognosis_study(study: NestedStudy, repeats: int = REPEATS) -> Results:
    """Write ``results.json``, ``configuration.json``, ``environment.json`` and ``report.html`` into
    the study's folder, for simulated patients ``attainable.json`` too; print the main table.
    ``repeats`` bootstrap draws."""
    results = prognosis_results(study, repeats)
    folder = study.results
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", results)
    write_json(folder / "configuration.json", study.configuration.document)
    write_json(folder / "environment.json", _environment())
    if study.settings.simulated is not None:
        write_json(folder / "attainable.json", attainable_figures(study))
    write_report(folder / "report.html", report_content(study, results, repeats))
    print(table_of(study, results))
    return results


def table_of(study: NestedStudy, results: Results) -> str:
    """The main table, with gains over the first reference."""
    references = study.settings.references
    return prognosis_table(results, references[0] if references else None)


def attainable_figures(study: NestedStudy) -> dict[str, Any]:
    """What the best possible predictor of each set of modalities reaches on a simulated study."""
    simulated = study.settings.simulated
    assert simulated is not None  # asked for simulated studies only
    outcomes = [simulate_outcome(index, simulated.seed) for index in range(simulated.count)]
    sets = {
        "+".join(names): {k: round(v, 4) for k, v in figures.items()}
        for names, figures in attainable(outcomes).items()
    }
    return {"simulated": True, "n": simulated.count, "AUROC": sets}


def _environment() -> dict[str, Any]:
    import sklearn

    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=Path(__file__).parent,
        check=False,
    ).stdout.strip()
    return {
        "reactkd": __version__,
        "commit": commit,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def report_content(study: NestedStudy, results: Results, repeats: int = REPEATS) -> ReportContent:
    """What ``report.html`` shows."""
    cohort, labels = study.cohort, np.array(study.cohort.labels)
    runs = study.runs()
    calibration = [row for row in results.rows if row.metric.startswith(_CALIBRATION)]
    calibration = [row for row in calibration if "gain over" not in row.metric]
    # No more lines can be told apart; the first methods are those that a study is about.
    drawn = dict(list(runs.items())[: len(COLORS)])
    figures = []
    if drawn:
        curve, everybody = (net_benefit([1], THRESHOLDS, treat_all=a) for a in (False, True))
        bands = {k: band(curve, labels, v, study.settings.seed, repeats) for k, v in drawn.items()}
        treated = everybody(labels, next(iter(drawn.values()))[0])[0]
        figure = decision_figure(THRESHOLDS, bands, treated, simulated=cohort.simulated)
        caption = f"Net benefit of acting on the risk of {cohort.event}, n = {len(labels)}"
        figures.append(ReportFigure(_said(caption, study), png(figure)))
    return ReportContent(
        title=_said(study.settings.title, study),
        results=Results(
            tuple(row for row in results.rows if row not in calibration), cohort.simulated
        ),
        configuration=_configuration(study, repeats),
        flow=_flow(study),
        figures=figures,
        calibration=calibration,
        calibration_figures=[_reliability(study, drawn, labels)] if drawn else [],
        answers=_answers(study),
    )


def _said(text: str, study: NestedStudy) -> str:
    return f"{text} (simulated data)" if study.cohort.simulated else text


def _reliability(
    study: NestedStudy, runs: Mapping[str, np.ndarray], labels: np.ndarray
) -> ReportFigure:
    tables = {
        name: reliability_table(
            labels,
            np.stack([1 - (risk := own[:, :, 1].mean(axis=0)), risk], axis=1),
            bins=5,
            equal_mass=True,
            target=1,
        )
        for name, own in runs.items()
    }
    figure = reliability_figure(tables, simulated=study.cohort.simulated)
    caption = f"Stated and observed risk of {study.cohort.event}, mean probability of all runs"
    return ReportFigure(_said(f"{caption}, n = {len(labels)}", study), png(figure))


def _configuration(study: NestedStudy, repeats: int) -> dict[str, str]:
    s, cohort = study.settings, study.cohort
    units = list(study.units())
    done = sum(study.result_of(unit) is not None for unit in units)
    found = {
        "event": cohort.event,
        "outer folds": f"{s.folds}, repeated {s.repeats} times, seed {s.seed}",
        "inner parts": str(s.inner_parts),
        "trainings finished": f"{done} of {len(units)}",
        "intervals": f"95 %, {repeats} bootstrap draws of patients, stratified by outcome;"
        " predictions of all outer folds pooled",
        "net benefit": f"thresholds {THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g}: a choice, no clinical"
        " recommendation",
        **cohort.notes,
    }
    if s.simulated is not None:
        for names, figures in attainable_figures(study)["AUROC"].items():
            found[f"attainable AUROC, {names} (simulated truth)"] = (
                f"{figures['as measured']:.3f}; {figures['latents']:.3f} if each latent were known"
                " exactly"
            )
    texts = "; ".join(f"{k} {v}" for k, v in PUBLISHED.items() if k != "patients")
    return {**found, PUBLISHED["patients"]: f"{texts}. Not comparable: other patients."}


def _flow(study: NestedStudy) -> list[FlowStep]:
    kind = "simulated patients" if study.cohort.simulated else "patients"
    has: Counter[str] = Counter(m for c in study.cohort.cases for m in modalities_of(c.arrays))
    return [
        FlowStep(kind, len(study.cohort.cases)),
        FlowStep(f"of these with {study.cohort.event}", sum(study.cohort.labels)),
        *(FlowStep(f"of these with {name}", count) for name, count in has.items()),
    ]


def _answers(study: NestedStudy) -> dict[str, str]:
    """Checklist item -> what the run itself knows."""
    s = study.settings
    scaling = (
        "Clinical variables and radiomics are scaled, features chosen and, for methods that know"
        " no missing values, medians imputed with an indicator, all fitted inside the training"
        " patients of each fold."
    )
    return {
        "claim-9": scaling,
        "claim-19": f"{s.folds} outer folds, stratified by outcome, {s.repeats} times; of the other"
        f" folds' patients one in {s.inner_parts} selects, or an inner cross-validation of"
        f" {s.inner_parts} parts chooses.",
        "claim-20": "Patients (groups, where a manifest has them); none on two sides of a split.",
        "tripod-7": scaling,
        "tripod-11": "No patient is left out for a missing value. " + scaling,
    }
