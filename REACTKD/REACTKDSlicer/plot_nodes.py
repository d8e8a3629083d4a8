"""The class probabilities as a bar plot: a table, a series and a chart."""

from __future__ import annotations

from typing import Any

from REACTKDLib.types import RESEARCH_USE, CaseResult

from .context import SceneContext
from .run_nodes import add_node

_BLUE = (0.22, 0.49, 0.72)


def add_probability_plot(context: SceneContext, case: CaseResult, run: str) -> tuple[Any, ...]:
    """Chart, series and table of the calibrated probabilities; the chart comes first."""
    import slicer
    import vtk

    table = add_node(context, "vtkMRMLTableNode", run, "probabilities")
    titles, values = vtk.vtkStringArray(), vtk.vtkDoubleArray()
    titles.SetName("Class")
    values.SetName("Probability")
    for info in case.classes:
        titles.InsertNextValue(info.title)
        values.InsertNextValue(case.probabilities[info.name])
    table.AddColumn(titles)
    table.AddColumn(values)
    table.SetLocked(True)
    series = add_node(context, "vtkMRMLPlotSeriesNode", run, "probability bars")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetYColumnName("Probability")
    series.SetLabelColumnName("Class")
    series.SetColor(*_BLUE)
    chart = add_node(context, "vtkMRMLPlotChartNode", run, "probability chart")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle(f"{case.task_title}\n{RESEARCH_USE}")
    chart.SetYAxisTitle("Probability")
    chart.SetXAxisTitle("")
    chart.SetLegendVisibility(False)
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 1.0)
    return chart, series, table
