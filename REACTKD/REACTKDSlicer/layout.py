"""REACTKD's own view layout: a slice, the graph in 3D, the bar plot and the table of regions."""

from __future__ import annotations

from typing import Any

import slicer

from .context import SceneContext

#: Free numbers begin at 101; this one is high, so that no other extension's is likely to be it.
LAYOUT = 7481

#: Two slice views beside each other, to compare.
COMPARE_LAYOUT = 7482


def _view(class_name: str, tag: str, extra: str = "") -> str:
    return f'<item><view class="{class_name}" singletontag="{tag}">{extra}</view></item>'


def _slice(name: str, orientation: str, color: str) -> str:
    return _view(
        "vtkMRMLSliceNode",
        name,
        f'<property name="orientation" action="default">{orientation}</property>'
        f'<property name="viewlabel" action="default">{name[0]}</property>'
        f'<property name="viewcolor" action="default">{color}</property>',
    )


_RED, _YELLOW = _slice("Red", "Axial", "#F34A33"), _slice("Yellow", "Axial", "#EDD54C")
_THREE_D = _view("vtkMRMLViewNode", "1", '<property name="viewlabel" action="default">1</property>')
_PLOT = _view(
    "vtkMRMLPlotViewNode",
    "PlotView1",
    '<property name="viewlabel" action="default">1</property>',
)
_TABLE = _view(
    "vtkMRMLTableViewNode",
    "TableView1",
    '<property name="viewlabel" action="default">T</property>',
)


def _rows(*rows: str) -> str:
    items = "".join(
        f'<item><layout type="horizontal" split="true">{row}</layout></item>' for row in rows
    )
    return f'<layout type="vertical" split="true">{items}</layout>'


_DESCRIPTIONS = {
    LAYOUT: _rows(_RED + _THREE_D, _PLOT + _TABLE),
    COMPARE_LAYOUT: _rows(_RED + _YELLOW, _THREE_D + _TABLE),
}


def show_layout(layout: int) -> None:
    """Show a layout of ours; the user leaves it by Slicer's layout menu."""
    node = _layout_node()
    if node is None:
        return  # no views, as without a main window
    for number, description in _DESCRIPTIONS.items():
        if not node.IsLayoutDescription(number):
            node.AddLayoutDescription(number, description)
    node.SetViewArrangement(layout)


def _layout_node() -> Any:
    scene = slicer.mrmlScene
    return scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def show_chart_and_table(context: SceneContext, chart: Any, table: Any) -> None:
    """Show a chart in all plot views and a table in all table views."""
    selection = context.application_logic.GetSelectionNode()
    selection.SetActivePlotChartID(chart.GetID())
    context.application_logic.PropagatePlotChartSelection()
    selection.SetActiveTableID(table.GetID())
    context.application_logic.PropagateTableSelection()
