"""The overlay of a what-if, in the place of the original's and on its scale."""

from __future__ import annotations

from typing import Any

from REACTKDLib.types import CaseResult

from .context import SceneContext
from .run_nodes import ROLE_ATTRIBUTE, file_in_folder, nodes_of
from .scene_nodes import CaseNodes
from .volumes import add_volume, fill_image

_ROLE = "what-if attention"


def what_if_node(context: SceneContext, run: str) -> Any | None:
    """The volume node that shows the attention of a run's what-if."""
    return next(
        (n for n in nodes_of(context, run) if n.GetAttribute(ROLE_ATTRIBUTE) == _ROLE), None
    )


def show_what_if(context: SceneContext, case: CaseResult, nodes: CaseNodes) -> Any:
    """Show the attention of a what-if where that of its original is shown; returns its node.

    Colours and window are the original's, so that the two can be compared.
    """
    node = what_if_node(context, nodes.run)
    original = nodes.attention.GetDisplayNode()
    if node is None:
        node = add_volume(context, case.attention, nodes.run, _ROLE)
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
    _exchange(context, nodes.attention, node)
    return node


def hide_what_if(context: SceneContext, nodes: CaseNodes) -> None:
    """Show the original's attention again and remove the what-if's."""
    node = what_if_node(context, nodes.run)
    if node is None:
        return
    _exchange(context, node, nodes.attention)
    hierarchy = context.subject_hierarchy
    item = hierarchy.GetItemByDataNode(node)
    if item != hierarchy.GetInvalidItemID():
        hierarchy.RemoveItem(item, False)
    for n in range(node.GetNumberOfDisplayNodes()):
        context.scene.RemoveNode(node.GetNthDisplayNode(n))
    context.scene.RemoveNode(node)


def _exchange(context: SceneContext, shown: Any, wanted: Any) -> None:
    """Give slice views the volume ``wanted`` as foreground where they have ``shown``."""
    scene = context.scene
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        if composite.GetForegroundVolumeID() == shown.GetID():
            composite.SetForegroundVolumeID(wanted.GetID())
