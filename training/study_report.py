"""``results.json`` and ``report.html`` of a study, from the units that are finished."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from REACTKDLib import __version__

from .aggregate import REFERENCE, calibrated, study_results
from .evaluation.bootstrap import Estimate
from .evaluation.calibration import ReliabilityBin, reliability_table
from .evaluation.figures import dose_figure, png, reliability_figure
from .evaluation.html_report import FlowStep, ReportContent, ReportFigure, write_report
from .evaluation.results import Results, Row, write_json, write_results
from .study import EXTERNAL, INTERNAL, Study

#: At most this many lines in one figure.
_LINES = 7


def write_study(study: Study) -> Results:
    """Write ``results.json``, ``configuration.json``, ``environment.json`` and ``report.html`` into
    the study's folder and print the main table."""
    results = study_results(study)
    folder = study.results
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", results)
    write_json(folder / "configuration.json", study.configuration.document)
    write_json(folder / "environment.json", _environment(study))
    write_report(folder / "report.html", _content(study, results))
    print(summary(results))
    return results


def summary(results: Results) -> str:
    """The main figures as a Markdown table: CT alone inside and outside, and the explanation."""
    columns = {
        "internal CT, macro AUC": (f"{INTERNAL}, ct", "macro AUC"),
        "external CT, macro AUC": (EXTERNAL, "macro AUC"),
        "gain, internal CT": (f"{INTERNAL}, ct", f"macro AUC, gain over {REFERENCE}"),
        "attention mass": (f"{INTERNAL}, ct", "attention mass in the responsible region"),
    }
    lines = [
        f"| method{' (simulated)' if results.simulated else ''} | "
        + " | ".join(columns)
        + " | seeds |",
        "|---" * 6 + "|",
    ]
    for method in dict.fromkeys(row.method for row in results.rows):
        own = {r.metric + r.cohort: r for r in results.rows if r.method == method and not r.dose}
        cells = [_cell(own.get(metric + cohort)) for cohort, metric in columns.values()]
        seeds = max((len(r.seeds) for r in own.values()), default=0)
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {seeds} |")
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f}, n = {row.n})" if row else ""


def _environment(study: Study) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
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


def _content(study: Study, results: Results) -> ReportContent:
    settings = study.settings
    done = [unit for unit in study.units() if study.result_of(unit) is not None]
    explanation = tuple(r for r in results.rows if "responsible region" in r.metric)
    calibration = tuple(r for r in results.rows if r.metric == "Brier score")
    others = {*explanation, *calibration}
    folds = sorted({unit.fold for unit in done})
    return ReportContent(
        title=f"Study {settings.name}",
        results=Results(tuple(r for r in results.rows if r not in others), results.simulated),
        configuration={
            "seed": str(settings.seed),
            "folds": str(settings.folds),
            "students finished": f"{len(done)} of {len(list(study.units()))}",
            "digest": study.configuration.digest(),
        },
        flow=(
            FlowStep("cases of the internal cohort", len(study.internal)),
            FlowStep(f"of these tested, in folds {folds}", _tested(results)),
            FlowStep("cases of the external cohort, all tested", len(study.external)),
        ),
        figures=tuple(_figures(results, len(study.external))),
        calibration=calibration,
        calibration_figures=tuple(_reliability(study)),
        explanation=explanation,
        answers={},
    )


def _tested(results: Results) -> int:
    return max((r.n for r in results.rows if r.cohort == f"{INTERNAL}, ct"), default=0)


def _figures(results: Results, external: int) -> list[ReportFigure]:
    curves: dict[str, dict[float, Estimate]] = {}
    for row in results.rows:
        if row.cohort == EXTERNAL and row.dose and row.metric == "macro AUC":
            estimate = Estimate(row.value, row.low, row.high, row.n)
            curves.setdefault(row.method, {})[row.dose] = estimate
    if not curves:
        return []
    shown = dict(list(curves.items())[:_LINES])
    figure = dose_figure(shown, "macro AUC", simulated=results.simulated)
    kind = "simulated cohort" if results.simulated else "cohort"
    caption = f"External {kind} at falling simulated dose, n = {external}, 95 % intervals."
    return [ReportFigure(caption, png(figure))]


def _reliability(study: Study) -> list[ReportFigure]:
    """Reliability of the first seed and fold of the first methods, internal CT."""
    labels = {case.patient: case.label for case in study.internal}
    tables: dict[str, tuple[ReliabilityBin, ...]] = {}
    count = 0
    for unit in study.units():
        document = study.result_of(unit)
        if document is None or unit.method in tables or len(tables) >= 2:
            continue
        table = calibrated(document, labels)["probabilities"][f"{INTERNAL} ct"]
        truth = np.array([labels[patient] for patient in table])
        tables[unit.method] = reliability_table(truth, np.array(list(table.values())))
        count = len(truth)
    if not tables:
        return []
    kind = "simulated cases" if study.simulated else "cases"
    caption = f"Reliability of CT alone, one fold and seed, n = {count} {kind}."
    figure = reliability_figure(tables, simulated=study.simulated)
    return [ReportFigure(caption, png(figure))]
