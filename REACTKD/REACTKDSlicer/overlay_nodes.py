"""Overlays of a second answer, of a what-if or to compare with, on the scale of the first."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from REACTKDLib.types import CaseResult

from .context import SceneContext
from .run_nodes import (
    ROLE_ATTRIBUTE,
    RUN_ATTRIBUTE,
    file_in_folder,
    in_scene,
    node_name,
    nodes_of,
    remove_node,
)
from .scene_nodes import CaseNodes, check_grid
from .volumes import (
    add_attention_legend,
    add_volume,
    attention_title,
    entitle_legend,
    fill_image,
    legend_of,
    refresh_legends,
)

#: Roles of these overlays among the nodes of a run.
WHAT_IF, COMPARED = "what-if attention", "compared attention"


def overlay_node(context: SceneContext, run: str, role: str) -> Any | None:
    """A run's overlay of a role, if there is one."""
    return next((n for n in nodes_of(context, run) if n.GetAttribute(ROLE_ATTRIBUTE) == role), None)


def add_overlay(
    context: SceneContext, case: CaseResult, nodes: CaseNodes, role: str, title: str
) -> Any:
    """A volume node with the attention of ``case``, or the one that is there, filled anew.

    Colours and window are those of the run's own overlay, so that the two can be compared.
    ``title`` is part of its name, which slice views show in a corner.

    Raises
    ------
    InputError : the CT has another grid than the attention.
    """
    check_grid(case, nodes.ct)
    node = overlay_node(context, nodes.run, role)
    if node is not None and node.GetImageData().GetDimensions() != case.attention.geometry.size:
        remove_overlay(context, nodes, role)
        node = None
    original = nodes.attention.GetDisplayNode()
    if node is None:
        node = add_volume(context, case.attention, nodes.run, role)
        file_in_folder(context, nodes.run, [node])
        for part in (node, node.GetDisplayNode()):  # a question's answer, not a result
            part.SetSaveWithScene(False)
    else:
        fill_image(node.GetImageData(), case.attention.array)
        node.GetImageData().Modified()
    node.SetName(node_name(nodes.run, title))
    node.SetAndObserveTransformNodeID(nodes.ct.GetTransformNodeID())
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(original.GetColorNodeID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(original.GetWindowLevelMin(), original.GetWindowLevelMax())
    largest = max(original.GetUpperThreshold(), float(case.attention.array.max()))
    display.SetThreshold(original.GetLowerThreshold(), largest)
    display.ApplyThresholdOn()
    return node


def entitle(context: SceneContext, case: CaseResult, overlay: Any, title: str) -> Any:
    """The legend of an overlay, headed by ``title``; after the overlay is shown."""
    legend = legend_of(context, overlay) or add_attention_legend(context, case, overlay)
    entitle_legend(legend, f"{title}\n{attention_title(case)}".strip())
    legend.SetSaveWithScene(overlay.GetSaveWithScene())
    return legend


def show_in_place(context: SceneContext, nodes: CaseNodes, overlay: Any) -> None:
    """Show an overlay where the run's own is shown."""
    _exchange(context, nodes.attention, overlay)


def remove_overlay(context: SceneContext, nodes: CaseNodes, role: str) -> None:
    """Show the run's own overlay where that of a role is shown, and remove the latter."""
    node = overlay_node(context, nodes.run, role)
    if node is not None:
        _exchange(context, node, nodes.attention)
        remove_node(context, node)


@contextmanager
def original_shown(
    context: SceneContext, nodes: CaseNodes, keep: Collection[Any] = ()
) -> Iterator[None]:
    """Meanwhile slice views show the run's CT and attention where they show a second answer, be it
    an overlay of the same run or another run, but for the overlays ``keep``."""
    left = (None, nodes.attention, *keep)
    before = []
    for composite in _composites(context):
        foreground = context.scene.GetNodeByID(composite.GetForegroundVolumeID() or "")
        if foreground in left or not foreground.GetAttribute(RUN_ATTRIBUTE):
            continue
        before.append(
            (composite, composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
        )
        composite.SetBackgroundVolumeID(nodes.ct.GetID())
        composite.SetForegroundVolumeID(nodes.attention.GetID())
    refresh_legends(context)
    try:
        yield
    finally:
        for composite, background, foreground_id in before:
            composite.SetBackgroundVolumeID(background)
            composite.SetForegroundVolumeID(foreground_id)
        refresh_legends(context)


def _exchange(context: SceneContext, shown: Any, wanted: Any) -> None:
    """Give slice views the volume ``wanted`` as foreground where they have ``shown``."""
    for composite in _composites(context):
        if composite.GetForegroundVolumeID() == shown.GetID():
            composite.SetForegroundVolumeID(wanted.GetID() if in_scene(wanted) else None)
    refresh_legends(context)


def _composites(context: SceneContext) -> Iterator[Any]:
    scene = context.scene
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        yield scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
