"""``results.json`` and ``report.html`` of a study, from the units that are finished."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from REACTKDLib import __version__

from .aggregate import CT, THRESHOLDS, explanation_title
from .evaluation.conformal import COVERAGE
from .evaluation.html_report import FlowStep, ReportContent, write_report
from .evaluation.results import Results, Row, write_json, write_results
from .study import EXTERNAL, INTERNAL, Study
from .study_attention import attention_panels
from .study_checklists import checklist_answers
from .study_figures import Runs, reliability, study_figures
from .study_results import study_results
from .study_runs import finished_runs
from .study_tables import delong_rows, readme_table

#: Rows of the report's section on calibration begin with one of these.
_CALIBRATION = ("Brier", "expected calibration", "coverage", "mean size", "abstained")


def write_study(study: Study) -> Results:
    """Write ``results.json``, ``configuration.json``, ``environment.json`` and ``report.html`` into
    the study's folder and print the main table."""
    results = study_results(study)
    folder = study.results
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", results)
    write_json(folder / "configuration.json", study.configuration.document)
    write_json(folder / "environment.json", _environment(study))
    write_report(folder / "report.html", report_content(study, results))
    print(readme_table(results))
    return results


def _environment(study: Study) -> dict[str, Any]:
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
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": str(study.device),
        "threads": torch.get_num_threads(),
    }


def report_content(study: Study, results: Results) -> ReportContent:
    """What ``report.html`` shows.

    Its tables have all figures by CT alone, inside and outside as acquired; other modalities and
    doses are in its figures, and in ``results.json``.
    """
    runs = finished_runs(study)
    attention = attention_panels(study)
    titles = {
        explanation_title(n) for own in runs.values() for d in own for n in d.get("explanation", ())
    }
    inside = f"{INTERNAL}, ct"
    rows = [r for r in results.rows if r.cohort in (inside, EXTERNAL) and r.dose is None]
    explanation = [row for row in rows if row.metric in titles]
    calibration = [row for row in rows if row.metric.startswith(_CALIBRATION)]
    others = {*explanation, *calibration}
    main = [row for row in rows if row not in others] + list(delong_rows(study, runs))
    figures = study_figures(study, runs, results)
    return ReportContent(
        title=f"Study {study.settings.name}{' (simulated data)' if study.simulated else ''}",
        results=Results(tuple(_named(row, study.simulated) for row in main), study.simulated),
        configuration=_configuration(study, attention if isinstance(attention, str) else "shown"),
        flow=_flow(study, runs),
        figures=[*figures, *(attention if isinstance(attention, list) else [])],
        calibration=[_named(row, study.simulated) for row in calibration],
        calibration_figures=reliability(study, runs),
        explanation=[_named(row, study.simulated) for row in explanation],
        answers=checklist_answers(study, runs),
    )


def _named(row: Row, simulated: bool) -> Row:
    """The row as a table shows it, which a reader may copy out of the report."""
    cohort = f"simulated {row.cohort}" if simulated else row.cohort
    return dataclasses.replace(row, cohort=cohort)


def _configuration(study: Study, attention: str) -> dict[str, str]:
    settings, units = study.settings, list(study.units())
    done = sum(study.result_of(unit) is not None for unit in units)
    low, high = THRESHOLDS[0], THRESHOLDS[-1]
    return {
        "images": "simulated" if study.simulated else "of patients",
        "seed": str(settings.seed),
        "folds": f"{settings.folds}, repeated {settings.repeats} times"
        if settings.repeats > 1
        else str(settings.folds),
        "students finished": f"{done} of {len(units)}",
        "digest": study.configuration.digest(),
        "net benefit": f"thresholds {low:g} to {high:g}: a choice, no clinical recommendation",
        "prediction sets": f"{COVERAGE:.0%} promised, calibrated on each student's selection cases;"
        " epoch and temperature were chosen on these too, so the promise holds only nearly",
        "DeLong's test": "mean probabilities of the seeds, differences averaged over folds;"
        " Holm's correction over all its rows",
        "attention figure": attention,
    }


def _flow(study: Study, runs: Runs) -> list[FlowStep]:
    kind = "simulated cases" if study.simulated else "cases"
    documents = [document for own in runs.values() for document in own]
    tested = {patient for d in documents for patient in d["probabilities"].get(CT, ())}
    folds = sorted({document["fold"] for document in documents})
    return [
        FlowStep(f"{kind} of the internal cohort", len(study.internal)),
        FlowStep(f"of these tested, in folds {folds}", len(tested)),
        FlowStep(f"{kind} of the external cohort, all tested", len(study.external)),
    ]
