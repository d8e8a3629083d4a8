"""How a result is shown: the overlay's opacity and threshold, the graph, the layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import slicer

from .context import context_from_slicer_application
from .layout import LAYOUT, show_chart_and_table, show_layout
from .overlay_nodes import COMPARED, WHAT_IF, overlay_node
from .run_nodes import in_scene
from .scene_nodes import CaseNodes


class DisplayView:
    """Connects the widgets of the group "Display" with the nodes of the result that is shown.

    The widgets' values are parameters, so a later result is shown in the same way. Nodes that the
    user has deleted are left out.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self._nodes: CaseNodes | None = None
        self._prognosis: Any | None = None
        ui.opacitySlider.connect("valueChanged(double)", self._set_opacity)
        ui.thresholdSlider.connect("valueChanged(double)", self._set_threshold)
        ui.graphCheckBox.connect("toggled(bool)", self._set_graph)
        ui.edgeSlider.connect("valueChanged(double)", self._set_edges)
        ui.layoutButton.connect("clicked()", self._show_layout)

    def show(self, nodes: CaseNodes) -> None:
        """Show the nodes of a result as the widgets say."""
        self._nodes = nodes
        self._set_opacity(self.ui.opacitySlider.value)
        self._set_threshold(self.ui.thresholdSlider.value)
        self._set_graph(self.ui.graphCheckBox.checked)
        self._set_edges(self.ui.edgeSlider.value)

    def follow(self, attention: Any | None) -> None:
        """Show the attention of a prognosis as the widgets say; None where there is none."""
        if attention is self._prognosis:
            return
        self._prognosis = attention
        if attention is not None:
            self._set_opacity(self.ui.opacitySlider.value)
            self._set_threshold(self.ui.thresholdSlider.value)

    def clear(self) -> None:
        """There is no result."""
        self._nodes = None

    def _set_opacity(self, opacity: float) -> None:
        shown = overlays(self._nodes) if self._nodes is not None else []
        run = {node.GetID() for node in (*shown, self._prognosis) if in_scene(node)}
        scene = slicer.mrmlScene
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
            if composite.GetForegroundVolumeID() in run:
                composite.SetForegroundOpacity(opacity)

    def _set_threshold(self, part: float) -> None:
        shown = overlays(self._nodes) if self._nodes is not None else []
        for nodes in (shown, [self._prognosis]):
            displays = list(_displays(*nodes))
            for display in displays:
                # One scale for all: overlays of the same run are to be compared.
                display.SetLowerThreshold(part * displays[0].GetWindowLevelMax())

    def _set_graph(self, visible: bool) -> None:
        if self._nodes is None:
            return
        for node in (self._nodes.glyphs, self._nodes.edges, self._nodes.labels):
            if node is not None and in_scene(node):
                for n in range(node.GetNumberOfDisplayNodes()):  # legends too
                    node.GetNthDisplayNode(n).SetVisibility(visible)

    def _set_edges(self, similarity: float) -> None:
        if self._nodes is None:
            return
        for display in _displays(self._nodes.edges):
            display.SetThresholdRange(similarity, 1.0)
            display.SetThresholdEnabled(similarity > 0)

    def _show_layout(self) -> None:
        if self._nodes is None:
            return
        show_layout(LAYOUT)
        chart, table = self._nodes.chart, self._nodes.table
        show_chart_and_table(
            context_from_slicer_application(),
            chart if in_scene(chart) else None,
            table if in_scene(table) else None,
        )


def overlays(nodes: CaseNodes) -> list[Any]:
    """The attention of a run and those of second answers."""
    context = context_from_slicer_application()
    others = (overlay_node(context, nodes.run, role) for role in (WHAT_IF, COMPARED))
    return [node for node in (nodes.attention, *others) if node is not None]


def _displays(*nodes: Any | None) -> Iterator[Any]:
    """The display nodes of those nodes that the scene has; without the first, a legend is it."""
    for node in nodes:
        display = node.GetDisplayNode() if node is not None and in_scene(node) else None
        if display is not None and not display.IsA("vtkMRMLColorLegendDisplayNode"):
            yield display
