"""Which nodes belong to which run: marking, the subject hierarchy folder, removal.

Every node that a run makes carries the attributes below, also in a saved scene, so that showing
the run again can replace its nodes and leaves nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from .context import SceneContext

RUN_ATTRIBUTE = "REACTKD.case"
ROLE_ATTRIBUTE = "REACTKD.role"

#: Of display nodes that are hidden only while another run is shown.
_HIDDEN_ATTRIBUTE = "REACTKD.hidden"

_UNSAFE_IN_FILE_NAMES = re.compile(r"[^\w .,()+-]")


def add_node(context: SceneContext, class_name: str, run: str, role: str) -> Any:
    """A new node named after ``run`` and ``role``, marked as belonging to ``run``."""
    node = context.scene.AddNewNodeByClass(class_name, node_name(run, role))
    node.SetAttribute(RUN_ATTRIBUTE, run)
    node.SetAttribute(ROLE_ATTRIBUTE, role)
    return node


def node_name(run: str, role: str) -> str:
    """Name of a node of a run.

    Files in a saved scene are called after their nodes, and Slicer writes an ampersand there in a
    way that it cannot read back; so the name has only letters, digits and harmless signs.
    """
    return _UNSAFE_IN_FILE_NAMES.sub("_", f"{run} {role}")


def in_scene(node: Any | None) -> bool:
    """Whether a node exists and has not been removed."""
    return node is not None and node.GetScene() is not None


def nodes_of(context: SceneContext, run: str) -> list[Any]:
    """The nodes marked as belonging to ``run``, in scene order."""
    scene = context.scene
    nodes = (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
    return [node for node in nodes if node.GetAttribute(RUN_ATTRIBUTE) == run]


def folder_of(context: SceneContext, run: str) -> int | None:
    """Subject hierarchy item of the run's folder, or None."""
    hierarchy = context.subject_hierarchy
    for item in _items(hierarchy):
        if hierarchy.GetItemAttribute(item, RUN_ATTRIBUTE) == run:
            return item
    return None


def file_in_folder(
    context: SceneContext, run: str, nodes: Collection[Any], ct: Any | None = None
) -> int:
    """Put ``nodes`` into the run's subject hierarchy folder; the folder's item.

    A folder that is not there is made beside the node ``ct``: under the patient's study where the
    CT came from DICOM.
    """
    hierarchy = context.subject_hierarchy
    folder = folder_of(context, run)
    if folder is None:
        folder = hierarchy.CreateFolderItem(_study_of(hierarchy, ct), f"REACTKD {run}")
        hierarchy.SetItemAttribute(folder, RUN_ATTRIBUTE, run)
    for node in nodes:
        # The application makes items by itself, slicer-core does not.
        item = hierarchy.GetItemByDataNode(node)
        if item == hierarchy.GetInvalidItemID():
            hierarchy.CreateItem(folder, node)
        else:
            hierarchy.SetItemParent(item, folder)
    return folder


def _study_of(hierarchy: Any, ct: Any | None) -> int:
    """Item under which a node lies; the scene's for a node without one."""
    item = hierarchy.GetItemByDataNode(ct) if ct is not None else hierarchy.GetInvalidItemID()
    if item == hierarchy.GetInvalidItemID():
        return int(hierarchy.GetSceneItemID())
    return int(hierarchy.GetItemParent(item))


def show_only(context: SceneContext, run: str, runs: Collection[str]) -> None:
    """Hide what views show of other ``runs``; show again what was hidden of ``run``."""
    for other in runs:
        for node in nodes_of(context, other):
            if not node.IsA("vtkMRMLDisplayableNode"):
                continue
            for n in range(node.GetNumberOfDisplayNodes()):
                display = node.GetNthDisplayNode(n)
                if display is None:
                    continue
                if other != run and display.GetVisibility():
                    display.SetVisibility(False)
                    display.SetAttribute(_HIDDEN_ATTRIBUTE, "1")
                elif other == run and display.GetAttribute(_HIDDEN_ATTRIBUTE):
                    display.SetVisibility(True)
                    display.RemoveAttribute(_HIDDEN_ATTRIBUTE)


def remove_run(context: SceneContext, run: str, keep: Collection[Any] = ()) -> None:
    """Remove the run's nodes with their display and storage nodes and hierarchy items.

    Nodes in ``keep`` stay. The folder goes too, unless something else was put into it.
    """
    hierarchy = context.subject_hierarchy
    for node in nodes_of(context, run):
        if node in keep:
            continue
        remove_node(context, node)
    folder = folder_of(context, run)
    if folder is not None and hierarchy.GetNumberOfItemChildren(folder) == 0:
        hierarchy.RemoveItem(folder)


def remove_node(context: SceneContext, node: Any) -> None:
    """Remove a node with its display and storage nodes and its hierarchy item."""
    hierarchy = context.subject_hierarchy
    item = hierarchy.GetItemByDataNode(node)
    if item != hierarchy.GetInvalidItemID():
        hierarchy.RemoveItem(item, False)
    for dependent in _dependents(node):
        context.scene.RemoveNode(dependent)
    context.scene.RemoveNode(node)


def _dependents(node: Any) -> list[Any]:
    """Display and storage nodes of ``node``, a legend before the display node it explains."""
    found = []
    if node.IsA("vtkMRMLDisplayableNode"):
        count = node.GetNumberOfDisplayNodes()
        found += [node.GetNthDisplayNode(n) for n in reversed(range(count))]
    if node.IsA("vtkMRMLStorableNode"):
        found += [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
    return [dependent for dependent in found if dependent is not None]


def _items(hierarchy: Any) -> Iterator[int]:
    import vtk

    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    for n in range(items.GetNumberOfIds()):
        yield items.GetId(n)
