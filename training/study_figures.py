"""Figures of a study, from its finished units; each says n, and "simulated" when it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .aggregate import CT, OURS, REFERENCE, THRESHOLDS, event_of
from .evaluation.bootstrap import Band, Estimate, Metric, band_over_folds
from .evaluation.calibration import ReliabilityBin, reliability_table
from .evaluation.decision import macro_net_benefit, net_benefit
from .evaluation.figures import (
    COLORS,
    decision_figure,
    dose_figure,
    finish,
    looks,
    new_figure,
    png,
    reliability_figure,
    roc_figure,
)
from .evaluation.figures_cases import embedding_figure
from .evaluation.html_report import ReportFigure
from .evaluation.results import Results
from .study import EXTERNAL, INTERNAL, Study
from .study_runs import Documents, folds_of, labels_of, with_all_classes
from .study_tables import range_text

#: At most this many lines in one figure: no more can be told apart.
LINES = len(COLORS)
#: t-SNE needs as many cases.
_EMBEDDED = 5

Runs = Mapping[str, Documents]


def study_figures(study: Study, runs: Runs, results: Results) -> list[ReportFigure]:
    """All figures but reliability and attention, as far as the finished units go.

    ``runs`` as :func:`training.study_runs.finished_runs` gives them.
    """
    return [
        *_roc(study, runs),
        *_decision(study, runs),
        *_doses(results),
        *_modalities(study, results),
        *_embeddings(study, runs),
    ]


def _shown(names: Sequence[str]) -> list[str]:
    """The first methods of a figure: ours, the reference, then as the study lists them."""
    first = [name for name in (OURS, REFERENCE) if name in names]
    return [*first, *(name for name in names if name not in first)][:LINES]


def _what(simulated: bool, noun: str) -> str:
    return f"simulated {noun}" if simulated else noun


def _legend_beside(figure: Figure) -> None:
    """Move the legend out of the axes: with many methods it hides some."""
    (axes,) = figure.axes
    handles, names = axes.get_legend_handles_labels()
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    figure.legend(handles, names, loc="outside right center", fontsize=7)
    figure.set_size_inches(figure.get_figwidth() + 1.4, figure.get_figheight())


def _roc(study: Study, runs: Runs) -> Iterator[ReportFigure]:
    labels, titles = labels_of(study), [c.title for c in study.spec.classes]
    for key, test in ((CT, INTERNAL), (EXTERNAL, EXTERNAL)):
        for method in (OURS, REFERENCE):
            folds = with_all_classes(folds_of(runs.get(method, ()), key, labels, study))
            if folds:
                title = f"ROC, {method}, {test} test"
                figure = roc_figure(
                    folds, titles, study.settings.seed, title, simulated=study.simulated
                )
                n = sum(len(fold.labels) for fold in folds)
                caption = f"{method}, {test} test by CT alone: n = {n} "
                yield ReportFigure(caption + _what(study.simulated, "patients") + ".", png(figure))


def _decision(study: Study, runs: Runs) -> Iterator[ReportFigure]:
    """Macro and cumulative decision curves, and those of each class, of methods that were tested on
    the same patients."""
    labels, seed = labels_of(study), study.settings.seed
    names = _shown([name for name, own in runs.items() if _patients(own)])
    tested = {
        name: folds_of(runs[name], CT, labels, study)
        for name in names
        if _patients(runs[name]) == _patients(runs[names[0]])
    }
    if not tested:
        return
    event, classes = event_of(study)
    curves: list[tuple[str, Metric, Metric]] = [
        ("macro", macro_net_benefit(THRESHOLDS), macro_net_benefit(THRESHOLDS, treat_all=True))
    ]
    events = [(event, classes)]
    if len(study.spec.classes) > 2:  # of two, one class's curve is that of the event
        events += [(c.title, [number]) for number, c in enumerate(study.spec.classes)]
    for title, chosen in dict(events).items():
        everybody = net_benefit(chosen, THRESHOLDS, treat_all=True)
        curves.append((title, net_benefit(chosen, THRESHOLDS), everybody))
    for title, curve, everybody in curves:
        bands: dict[str, Band] = {
            name: band_over_folds(curve, folds, seed) for name, folds in tested.items()
        }
        all_treated = band_over_folds(everybody, tested[names[0]], seed, repeats=2).value
        figure = decision_figure(
            THRESHOLDS, bands, all_treated, f"Decision curve, {title}", simulated=study.simulated
        )
        _legend_beside(figure)
        n = bands[names[0]].n
        caption = (
            f"Net benefit of CT alone, {title}; n = {n} {_what(study.simulated, 'patients')} of"
            f" the internal test; the band is the 95 % interval of {names[0]}. The range of"
            " thresholds is a choice, not a clinical one."
        )
        yield ReportFigure(caption, png(figure))


def _patients(documents: Documents) -> set[str]:
    """Who was tested by CT alone."""
    return {patient for d in documents for patient in d["probabilities"].get(CT, ())}


def _doses(results: Results) -> Iterator[ReportFigure]:
    curves: dict[str, dict[float, Estimate]] = {}
    for row in results.rows:
        if row.cohort == EXTERNAL and row.dose and row.metric == "macro AUC":
            estimate = Estimate(row.value, row.low, row.high, row.n)
            curves.setdefault(row.method, {})[row.dose] = estimate
    if curves:
        shown = {name: curves[name] for name in _shown(list(curves))}
        figure = dose_figure(shown, "macro AUC", simulated=results.simulated)
        _legend_beside(figure)
        n = max(e.n for points in shown.values() for e in points.values())
        kind = _what(results.simulated, "patients")
        caption = f"External test at falling simulated dose, n = {n} {kind}, 95 % intervals."
        yield ReportFigure(caption, png(figure))


def _modalities(study: Study, results: Results) -> Iterator[ReportFigure]:
    """Macro AUC of the internal test with every set of modalities that the study evaluates."""
    found: dict[str, dict[str, Estimate]] = {}
    for row in results.rows:
        name = row.cohort.removeprefix(f"{INTERNAL}, ")
        if name in study.settings.evaluate and row.metric == "macro AUC":
            estimate = Estimate(row.value, row.low, row.high, row.n)
            found.setdefault(row.method, {})[name] = estimate
    sets = [key for key in study.settings.evaluate if any(key in own for own in found.values())]
    if len(sets) < 2:
        return
    titles = {m.name: m.title for m in study.spec.modalities}
    figure, ((axes,),) = new_figure(1.1 * len(sets) + 1.0, 4.0)
    shown = _shown(list(found))
    shifts = np.linspace(-0.3, 0.3, len(shown)) if len(shown) > 1 else [0.0]
    for (method, look), shift in zip(looks(shown).items(), shifts, strict=True):
        for place, key in enumerate(sets):
            if (e := found[method].get(key)) is not None:
                reach = [[max(e.value - e.low, 0)], [max(e.high - e.value, 0)]]
                axes.errorbar(
                    place + shift,
                    e.value,
                    reach,
                    label=method if key == next(iter(found[method])) else None,
                    capsize=2,
                    markersize=4,
                    color=look["color"],
                    marker=look["marker"],
                    linestyle="none",
                )
    ticks = []
    for key in sets:
        n = range_text(own[key].n for own in found.values() if key in own)
        ticks.append("\n+ ".join(titles[m] for m in key.split("+")) + f"\nn = {n}")
    axes.set_xticks(range(len(sets)), ticks, fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylabel("macro AUC", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    _legend_beside(figure)
    finish(figure, "Missing modalities", "95 % intervals", results.simulated)
    caption = (
        "The same students with the modalities that are named, internal test,"
        f" {_what(results.simulated, 'patients')}, n below each set; 95 % intervals."
    )
    yield ReportFigure(caption, png(figure))


def _embeddings(study: Study, runs: Runs) -> Iterator[ReportFigure]:
    """t-SNE of the pooled features of every fold's test cases, by one seed's students."""
    labels, titles = labels_of(study), [c.title for c in study.spec.classes]
    for method in (OURS, REFERENCE):
        documents = runs.get(method, ())
        seed = documents[0]["seed"] if documents else None
        tables = {d["fold"]: d.get("pooled") or {} for d in documents if d["seed"] == seed}
        folds: list[tuple[np.ndarray, np.ndarray]] = []
        for n in range(study.settings.folds):
            table = tables.get(n, {})
            if len(table) < _EMBEDDED:
                break  # panels are numbered without gaps
            truth = np.array([labels[patient] for patient in table])
            folds.append((truth, np.array(list(table.values()))))
        if folds:
            figure = embedding_figure(
                folds,
                titles,
                study.settings.seed,
                f"Pooled features (t-SNE), {method}",
                simulated=study.simulated,
            )
            n = sum(len(own) for own, _ in folds)
            caption = (
                f"Features of {method}, seed {seed}, by CT alone: n = {n}"
                f" {_what(study.simulated, 'cases')}, each by the student that did not see it."
                " A network of its own per fold; distances between groups mean nothing."
            )
            yield ReportFigure(caption, png(figure))


def reliability(study: Study, runs: Runs) -> list[ReportFigure]:
    """Reliability of two methods, internal CT: every patient once, by one seed's students."""
    labels = labels_of(study)
    tables: dict[str, tuple[ReliabilityBin, ...]] = {}
    patients: list[str] = []
    for method in _shown([name for name, own in runs.items() if _patients(own)])[:2]:
        table: dict[str, np.ndarray] = {}
        for document in runs[method]:
            first = document["seed"] == runs[method][0]["seed"]
            if first and document["fold"] < study.settings.folds:
                table |= document["probabilities"][CT]
        patients = patients or sorted(table)
        if table and sorted(table) == patients:  # else a fold is not finished
            truth = np.array([labels[patient] for patient in table])
            tables[method] = reliability_table(truth, np.array(list(table.values())))
    if not tables:
        return []
    kind = _what(study.simulated, "patients")
    caption = (
        f"Reliability of CT alone, internal test, n = {len(patients)} {kind}, each by the student"
        " of the first seed that did not see them."
    )
    return [ReportFigure(caption, png(reliability_figure(tables, simulated=study.simulated)))]
