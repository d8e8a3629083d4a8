"""Figures of curves: ROC, decision, reliability, dose. Drawn in memory; no display is needed.

Colours are those of Okabe and Ito, told apart with any colour vision; lines differ in style too.
Every figure says n, and "simulated" when it is.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from REACTKDLib.errors import InputError

from .bootstrap import Band, Estimate, Fold, band_over_folds, interval_over_folds
from .calibration import ReliabilityBin
from .discrimination import mean_auc, micro_auc, one_class_auc, roc_curves
from .results import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B")
_DASHES = ((1, 1), (5, 1, 1, 1, 1, 1), (7, 2), (3, 3), (9, 1, 2, 1))
STYLES = ("-", "--", "-.", *((0, dashes) for dashes in _DASHES))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_GREY = "#777777"


def new_figure(
    width: float, height: float, columns: int = 1, heights: Sequence[float] = (1,)
) -> tuple[Figure, np.ndarray]:
    """An empty figure of so many inches, and its axes (rows, columns).

    ``heights`` : relative heights of the rows, which share the x axis of their column.
    """
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(heights), columns, squeeze=False, sharex="col", height_ratios=list(heights)
    )
    return figure, axes


def finish(figure: Figure, title: str, n: str, simulated: bool) -> Figure:
    """Title on top, with "simulated" if so; n and the research notice below."""
    figure.suptitle(f"{title} (simulated data)" if simulated else title, fontsize=10)
    figure.supxlabel(f"{n}. Research use only.", fontsize=7, color=_GREY)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG; drawn anew from the same data it gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def save_png(figure: Figure, path: Path | str) -> None:
    """Write the figure whole or not at all; raises OutputError."""
    write_atomically(Path(path), png(figure))


def looks(names: Sequence[str]) -> dict[str, dict]:
    """Colour, line style and marker by name; raises InputError for more than eight names."""
    if not 0 < len(names) <= len(COLORS):
        raise InputError(
            f"{len(names)} lines in a figure.",
            f"Draw 1 to {len(COLORS)}: no more can be told apart.",
        )
    return {
        name: {"color": color, "linestyle": style, "marker": marker}
        for name, color, style, marker in zip(names, COLORS, STYLES, MARKERS, strict=False)
    }


def _line(look: Mapping[str, object]) -> dict:
    return {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.5}


def _plain(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def roc_figure(
    folds: Sequence[Fold],
    class_titles: Sequence[str],
    seed: int,
    title: str = "ROC",
    *,
    simulated: bool,
) -> Figure:
    """ROC of every class against the rest, micro and macro: means over folds.

    Legend: AUC (mean over folds) with its 95 % bootstrap interval; the band is the pointwise 95 %
    interval of the macro curve.

    Raises
    ------
    InputError : the number of titles is not that of the classes, a fold without some class.
    """
    grid = np.linspace(0, 1, 201)
    curves = band_over_folds(roc_curves(grid), folds, seed)
    if len(curves.value) != len(class_titles) + 2:
        raise InputError(
            f"{len(class_titles)} titles for {len(curves.value) - 2} classes.", "Give one each."
        )
    names = [*class_titles, "macro", "micro"]
    metrics = [*(one_class_auc(c) for c in range(len(class_titles))), mean_auc, micro_auc]
    figure, ((axes,),) = new_figure(4.6, 4.6)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
    for number, (name, look) in enumerate(looks(names).items()):
        auc = interval_over_folds(metrics[number], folds, seed)
        label = f"{name} {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
        x, y = np.append(0, grid), np.append(0, curves.value[number])
        axes.plot(
            x, y, label=label, **_line(look) | ({"linewidth": 2.5} if name == "macro" else {})
        )
        if name == "macro":
            low, high = curves.low[number], curves.high[number]
            axes.fill_between(grid, low, high, color=look["color"], alpha=0.15, linewidth=0)
    _plain(axes, "1 - specificity", "sensitivity")
    axes.set_aspect("equal")
    axes.legend(fontsize=7, loc="lower right", title="AUC (95 % interval)", title_fontsize=7)
    folded = f", mean over {len(folds)} folds" if len(folds) > 1 else ""
    return finish(figure, title, f"n = {curves.n} patients{folded}", simulated)


def decision_figure(
    thresholds: np.ndarray,
    curves: Mapping[str, Band],
    treat_all: np.ndarray,
    title: str = "Decision curve",
    *,
    simulated: bool,
) -> Figure:
    """Net benefit of methods on the same patients, beside treating all and none.

    Parameters
    ----------
    thresholds : (t,).
    curves : method -> its net benefit; the band of the first is drawn, those of the others would
        hide it.
    treat_all : (t,) net benefit of treating all.

    Raises
    ------
    InputError : no curve, more than eight, or different n.
    """
    n = {band.n for band in curves.values()}
    figure, ((axes,),) = new_figure(5.0, 4.0)
    for number, (name, look) in enumerate(looks(list(curves)).items()):
        band = curves[name]
        axes.plot(thresholds, band.value, label=name, zorder=3, **_line(look))
        if number == 0:
            axes.fill_between(
                thresholds, band.low, band.high, color=look["color"], alpha=0.15, linewidth=0
            )
    if len(n) > 1:
        raise InputError(f"Curves of {sorted(n)} patients.", "Compare on the same patients.")
    axes.plot(thresholds, treat_all, color=_GREY, linewidth=1, label="treat all")
    axes.axhline(0, color=_GREY, linewidth=1, linestyle=":", label="treat none")
    top = max(float(np.max(band.high)) for band in curves.values())
    axes.set_ylim(-0.25 * max(top, 0.05), 1.1 * max(top, 0.05))
    axes.set_xlim(float(thresholds[0]), float(thresholds[-1]))
    _plain(axes, "threshold probability", "net benefit")
    axes.legend(fontsize=7)
    return finish(figure, title, f"n = {n.pop()} patients", simulated)


def reliability_figure(
    tables: Mapping[str, Sequence[ReliabilityBin]],
    title: str = "Reliability",
    *,
    simulated: bool,
) -> Figure:
    """Observed frequency against stated probability with 95 % Wilson intervals; counts below.

    Parameters
    ----------
    tables : name -> ``calibration.reliability_table``, e.g. before and after temperature scaling.

    Raises
    ------
    InputError : no table, more than eight, or different numbers of rows.
    """
    n = {sum(b.count for b in table) for table in tables.values()}
    if len(n) > 1:
        raise InputError(f"Tables of {sorted(n)} rows.", "Compare on the same patients.")
    figure, ((axes,), (below,)) = new_figure(4.4, 5.0, heights=(4, 1))
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
    for name, look in looks(list(tables)).items():
        table = tables[name]
        stated, observed = [b.stated for b in table], [b.observed for b in table]
        reach = [[b.observed - b.low for b in table], [b.high - b.observed for b in table]]
        axes.errorbar(
            stated, observed, np.maximum(reach, 0), label=name, capsize=2, markersize=4, **look
        )
        below.bar(
            [b.lower for b in table],
            [b.count for b in table],
            [b.upper - b.lower for b in table],
            align="edge",
            fill=False,
            edgecolor=look["color"],
            linestyle=look["linestyle"],
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _plain(axes, "", "observed frequency")
    _plain(below, "stated probability", "rows")
    axes.legend(fontsize=7, loc="upper left")
    return finish(figure, title, f"n = {n.pop()} rows, 95 % intervals", simulated)


def dose_figure(
    series: Mapping[str, Mapping[float, Estimate]],
    metric: str,
    title: str = "Falling dose",
    *,
    simulated: bool,
) -> Figure:
    """A metric of several methods against the dose, with 95 % intervals; dose falls to the right.

    Parameters
    ----------
    series : method -> photons per ray -> estimate.

    Raises
    ------
    InputError : no method or more than eight, a dose that is not positive.
    """
    doses = sorted({dose for points in series.values() for dose in points})
    if not doses or doses[0] <= 0:
        raise InputError(f"Doses {doses} are not photons per ray.", "Give numbers above 0.")
    figure, ((axes,),) = new_figure(5.0, 4.0)
    # Side by side within 12 % of a decade, so that intervals can be told apart.
    shifts = np.linspace(0.06, -0.06, len(series)) if len(series) > 1 else [0.0]
    for (name, look), shift in zip(looks(list(series)).items(), shifts, strict=True):
        points = sorted(series[name].items())
        values = np.array([e.value for _, e in points])
        reach = [values - [e.low for _, e in points], [e.high for _, e in points] - values]
        x = np.array([dose for dose, _ in points]) * 10.0**shift
        axes.errorbar(x, values, np.maximum(reach, 0), label=name, capsize=2, markersize=4, **look)
    axes.set_xscale("log")
    axes.invert_xaxis()
    _plain(axes, "photons per ray", metric)
    axes.legend(fontsize=7)
    counts = {e.n for points in series.values() for e in points.values()}
    n = " to ".join(str(v) for v in sorted({min(counts), max(counts)}))
    return finish(figure, title, f"n = {n} patients per point, 95 % intervals", simulated)
