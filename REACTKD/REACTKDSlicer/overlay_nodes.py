"""Overlays of a second answer, of a what-if or to compare with, on the scale of the first."""

from __future__ import annotations

from typing import Any

from REACTKDLib.types import CaseResult

from .context import SceneContext
from .run_nodes import ROLE_ATTRIBUTE, file_in_folder, nodes_of, remove_node
from .scene_nodes import CaseNodes
from .volumes import add_volume, fill_image

#: Roles of these overlays among the nodes of a run.
WHAT_IF, COMPARED = "what-if attention", "compared attention"


def overlay_node(context: SceneContext, run: str, role: str) -> Any | None:
    """A run's overlay of a role, if there is one."""
    return next((n for n in nodes_of(context, run) if n.GetAttribute(ROLE_ATTRIBUTE) == role), None)


def add_overlay(context: SceneContext, case: CaseResult, nodes: CaseNodes, role: str) -> Any:
    """A volume node with the attention of ``case``, or the one that is there, filled anew.

    Colours and window are those of the run's own overlay, so that the two can be compared.
    """
    node = overlay_node(context, nodes.run, role)
    original = nodes.attention.GetDisplayNode()
    if node is None:
        node = add_volume(context, case.attention, nodes.run, role)
        file_in_folder(context, nodes.run, [node])
    else:
        fill_image(node.GetImageData(), case.attention.array)
        node.GetImageData().Modified()
    node.SetAndObserveTransformNodeID(nodes.ct.GetTransformNodeID())
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(original.GetColorNodeID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(original.GetWindowLevelMin(), original.GetWindowLevelMax())
    largest = max(original.GetUpperThreshold(), float(case.attention.array.max()))
    display.SetThreshold(original.GetLowerThreshold(), largest)
    display.ApplyThresholdOn()
    return node


def show_in_place(context: SceneContext, nodes: CaseNodes, overlay: Any) -> None:
    """Show an overlay where the run's own is shown."""
    _exchange(context, nodes.attention, overlay)


def remove_overlay(context: SceneContext, nodes: CaseNodes, role: str) -> None:
    """Show the run's own overlay where that of a role is shown, and remove the latter."""
    node = overlay_node(context, nodes.run, role)
    if node is not None:
        _exchange(context, node, nodes.attention)
        remove_node(context, node)


def _exchange(context: SceneContext, shown: Any, wanted: Any) -> None:
    """Give slice views the volume ``wanted`` as foreground where they have ``shown``."""
    scene = context.scene
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        if composite.GetForegroundVolumeID() == shown.GetID():
            composite.SetForegroundVolumeID(wanted.GetID())
