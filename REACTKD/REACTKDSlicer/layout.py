"""REACTKD's own view layout: a slice, the graph in 3D, the bar plot and the table of regions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import slicer

from .context import SceneContext
from .run_nodes import RUN_ATTRIBUTE

#: Free numbers begin at 101; this one is high, so that no other extension's is likely to be it.
LAYOUT = 7481

#: Two slice views beside each other, to compare.
COMPARE_LAYOUT = 7482

#: Name of the second of them: a view of its own, so that Slicer's own views stay as they are.
COMPARE_VIEW = "Compare"


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


_RED, _BESIDE = _slice("Red", "Axial", "#F34A33"), _slice(COMPARE_VIEW, "Axial", "#4A7DB5")
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
    COMPARE_LAYOUT: _rows(_RED + _BESIDE, _THREE_D + _TABLE),
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


def show_side_by_side() -> None:
    """Show the layout to compare: both slice views at the same place, scrolled together."""
    show_layout(COMPARE_LAYOUT)
    scene = slicer.mrmlScene
    red, beside = (
        scene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in ("Red", COMPARE_VIEW)
    )
    if red is None or beside is None:
        return
    beside.GetSliceToRAS().DeepCopy(red.GetSliceToRAS())
    # The same scale, mm a pixel, in a view of another size.
    field = [
        red.GetFieldOfView()[axis]
        * beside.GetDimensions()[axis]
        / max(red.GetDimensions()[axis], 1)
        for axis in (0, 1)
    ]
    if min(field) > 0:
        beside.SetFieldOfView(*field, red.GetFieldOfView()[2])
    beside.UpdateMatrices()
    set_linked(True)


def set_linked(linked: bool) -> None:
    """Whether the views of the layout to compare are scrolled and zoomed together, at once."""
    for name in ("Red", COMPARE_VIEW):
        composite = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")
        if composite is not None:
            composite.SetLinkedControl(linked)
            composite.SetHotLinkedControl(linked)


def _layout_node() -> Any:
    scene = slicer.mrmlScene
    return scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def show_chart_and_table(context: SceneContext, chart: Any, table: Any) -> None:
    """Show a chart in all plot views and a table in all table views; None leaves them."""
    selection = context.application_logic.GetSelectionNode()
    if chart is not None:
        selection.SetActivePlotChartID(chart.GetID())
        context.application_logic.PropagatePlotChartSelection()
    if table is not None:
        selection.SetActiveTableID(table.GetID())
        context.application_logic.PropagateTableSelection()


def follow_chart_and_table(
    context: SceneContext, chart: Any, table: Any, keep: Collection[Any] = ()
) -> None:
    """Show a run's chart and table in views that show those of another run, but for ``keep``."""
    scene = context.scene
    for class_name, shown in (
        ("vtkMRMLPlotViewNode", lambda view: view.GetPlotChartNodeID()),
        ("vtkMRMLTableViewNode", lambda view: view.GetTableNodeID()),
    ):
        for n in range(scene.GetNumberOfNodesByClass(class_name)):
            node = scene.GetNodeByID(shown(scene.GetNthNodeByClass(n, class_name)) or "")
            if node not in (None, chart, table, *keep) and node.GetAttribute(RUN_ATTRIBUTE):
                show_chart_and_table(context, chart, table)
                return
