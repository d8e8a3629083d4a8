"""How a result is shown: the overlay's opacity and threshold, the graph, the layout."""

from __future__ import annotations

from typing import Any

import slicer

from .context import context_from_slicer_application
from .layout import LAYOUT, show_chart_and_table, show_layout
from .overlay_nodes import COMPARED, WHAT_IF, overlay_node
from .scene_nodes import CaseNodes


class DisplayView:
    """Connects the widgets of the group "Display" with the nodes of the result that is shown.

    The widgets' values are parameters, so a later result is shown in the same way.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self._nodes: CaseNodes | None = None
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

    def clear(self) -> None:
        """There is no result."""
        self._nodes = None

    def _set_opacity(self, opacity: float) -> None:
        if self._nodes is None:
            return
        run = {node.GetID() for node in overlays(self._nodes)}
        scene = slicer.mrmlScene
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
            if composite.GetForegroundVolumeID() in run:
                composite.SetForegroundOpacity(opacity)

    def _set_threshold(self, part: float) -> None:
        if self._nodes is None:
            return
        # One scale for all: overlays of the same run are to be compared.
        top = self._nodes.attention.GetDisplayNode().GetWindowLevelMax()
        for node in overlays(self._nodes):
            node.GetDisplayNode().SetLowerThreshold(part * top)

    def _set_graph(self, visible: bool) -> None:
        if self._nodes is None:
            return
        for node in (self._nodes.glyphs, self._nodes.edges, self._nodes.labels):
            if node is not None:
                node.GetDisplayNode().SetVisibility(visible)

    def _set_edges(self, similarity: float) -> None:
        if self._nodes is None or self._nodes.edges is None:
            return
        display = self._nodes.edges.GetDisplayNode()
        display.SetThresholdRange(similarity, 1.0)
        display.SetThresholdEnabled(similarity > 0)

    def _show_layout(self) -> None:
        if self._nodes is None:
            return
        show_layout(LAYOUT)
        show_chart_and_table(
            context_from_slicer_application(), self._nodes.chart, self._nodes.table
        )


def overlays(nodes: CaseNodes) -> list[Any]:
    """The attention of a run and those of second answers."""
    context = context_from_slicer_application()
    others = (overlay_node(context, nodes.run, role) for role in (WHAT_IF, COMPARED))
    return [node for node in (nodes.attention, *others) if node is not None]
