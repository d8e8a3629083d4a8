"""Several sets of parameters in one scene: the module's parameter nodes."""

from __future__ import annotations

from typing import Any

import slicer

MODULE = "REACTKD"

_CLASS = "vtkMRMLScriptedModuleNode"


def parameter_nodes() -> list[Any]:
    """All parameter nodes of the module in the scene, the module's own first."""
    scene = slicer.mrmlScene
    nodes = (
        scene.GetNthNodeByClass(n, _CLASS) for n in range(scene.GetNumberOfNodesByClass(_CLASS))
    )
    own = [node for node in nodes if node.GetAttribute("ModuleName") == MODULE]
    return sorted(own, key=lambda node: not is_default(node))


def is_default(node: Any) -> bool:
    """Whether a node is the one that the module makes by itself."""
    return bool(node.GetSingletonTag() == MODULE)


def new_parameter_node(like: Any) -> Any:
    """A new parameter node with the values of another."""
    scene = slicer.mrmlScene
    node = scene.CreateNodeByClass(_CLASS)
    node.UnRegister(None)
    node.SetName(scene.GenerateUniqueName(f"{MODULE} parameters"))
    node = scene.AddNode(node)
    node.SetAttribute("ModuleName", MODULE)
    node.SetModuleName(MODULE)
    for name in like.GetParameterNames():
        node.SetParameter(name, like.GetParameter(name))
    for n in range(like.GetNumberOfNodeReferenceRoles()):
        role = like.GetNthNodeReferenceRole(n)
        node.SetNodeReferenceID(role, like.GetNodeReferenceID(role))
    return node
