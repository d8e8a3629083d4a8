"""The class probabilities as a bar plot: a table, a series and a chart."""

from __future__ import annotations

import textwrap
from typing import Any

from REACTKDLib import case_report_words as words
from REACTKDLib.types import RESEARCH_USE, CaseResult

from .context import SceneContext
from .run_nodes import add_node
from .translation import tr as _

_BLUE = (0.22, 0.49, 0.72)
_TITLE_SIZE = 14
_TITLE_CHARACTERS = 60  # a line of the title, in a view of a quarter of the screen


def set_lines(case: CaseResult) -> list[str]:
    """The prediction set in words, and the warnings, in lines that fit over a plot."""
    texts = [words.set_sentence(case)]
    texts += [notice.text for notice in words.other_notices(case) if notice.severity == "warning"]
    return [line for text in texts for line in textwrap.wrap(text, _TITLE_CHARACTERS)]


def add_probability_plot(context: SceneContext, case: CaseResult, run: str) -> tuple[Any, ...]:
    """Chart, series and table of the calibrated probabilities; the chart comes first."""
    import slicer
    import vtk

    table = add_node(context, "vtkMRMLTableNode", run, "probabilities")
    titles, values = vtk.vtkStringArray(), vtk.vtkDoubleArray()
    titles.SetName(_("Class"))
    values.SetName(_("Probability"))
    for info in case.classes:
        titles.InsertNextValue(info.title)
        values.InsertNextValue(case.probabilities[info.name])
    table.AddColumn(titles)
    table.AddColumn(values)
    table.SetLocked(True)
    series = add_node(context, "vtkMRMLPlotSeriesNode", run, "probability bars")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetYColumnName(_("Probability"))
    series.SetLabelColumnName(_("Class"))
    series.SetColor(*_BLUE)
    chart = add_node(context, "vtkMRMLPlotChartNode", run, "probability chart")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    # The bars alone would look like an answer where the model abstains.
    chart.SetTitle("\n".join((words.headline(case), *set_lines(case), RESEARCH_USE)))
    chart.SetTitleFontSize(_TITLE_SIZE)
    chart.SetYAxisTitle(_("Probability"))
    chart.SetXAxisTitle("")
    chart.SetLegendVisibility(False)
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 1.0)
    return chart, series, table
