"""Stand-ins for Slicer's MRML widgets, on the real scene."""

# ruff: noqa: N801 - the classes have Slicer's names

from __future__ import annotations

import functools
from typing import Any

from PySide6 import QtCore, QtWidgets

from .errors import NotModelledError


class _SceneWidget(QtWidgets.QWidget):
    """A widget that is given the scene and passes it on."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


class qMRMLWidget(_SceneWidget):
    """The root of a module's ``.ui`` file."""

    def mrmlScene(self) -> Any:
        return self._scene


class qSlicerScriptedLoadableModuleWidget(_SceneWidget):
    """The widget that Slicer gives to a scripted module as its parent."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._module_widget: Any = None
        self._entered = False
        self._make: Any = None

    def self(self) -> Any:
        """The Python object of the module's widget."""
        return self._module_widget

    def reload(self) -> None:
        self._module_widget = self._make()

    isEntered = QtCore.Property(bool, lambda self: self._entered)

    def enter(self) -> None:
        self._entered = True
        self._module_widget.enter()

    def exit(self) -> None:
        self._entered = False
        self._module_widget.exit()


def _remove(observations: list[tuple[Any, int]], *destroyed: Any) -> None:
    """Remove observers, also when their widget goes away."""
    for scene, tag in observations:
        scene.RemoveObserver(tag)
    observations.clear()


def _switch(name: str) -> QtCore.Property:
    """A bool property of the node combo box that decides what it lists."""

    def write(self: qMRMLNodeComboBox, value: bool) -> None:
        self._switches[name] = value
        self._refresh()

    return QtCore.Property(bool, lambda self: self._switches[name], write)


def _editing_switch(name: str) -> QtCore.Property:
    """A bool property that offers to edit the scene; on by default, only off is modelled."""

    def write(self: qMRMLNodeComboBox, value: bool) -> None:
        if value:
            raise NotModelledError(f"qMRMLNodeComboBox.{name} = True")
        self._editing.discard(name)

    return QtCore.Property(bool, lambda self: name in self._editing, write)


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Chooses one node of the scene by class."""

    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QtWidgets.QComboBox(self)
        self._box.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.setFocusProxy(self._box)
        self._scene: Any = None
        self._observations: list[tuple[Any, int]] = []
        self.destroyed.connect(functools.partial(_remove, self._observations))
        self._types: list[str] = []
        self._current_id = ""
        self._switches = {"showHidden": False, "showChildNodeTypes": True, "noneEnabled": False}
        self._editing = {"addEnabled", "removeEnabled"}
        self._none_display = "None"
        self._box.activated.connect(lambda row: self._choose(self._box.itemData(row)))

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if self._editing:
            raise NotModelledError(f"qMRMLNodeComboBox with {', '.join(sorted(self._editing))}")
        _remove(self._observations)
        self._scene = scene
        events = (
            scene.NodeAddedEvent,
            scene.NodeRemovedEvent,
            scene.EndCloseEvent,
            scene.EndImportEvent,
            scene.EndBatchProcessEvent,
        )
        self._observations += [
            (scene, scene.AddObserver(event, self._on_scene_changed)) for event in events
        ]
        self._refresh()

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current_id) if self._current_id else None

    def setCurrentNode(self, node: Any) -> None:
        self._choose(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        self._choose(node_id)

    def nodeCount(self) -> int:
        return len(self._nodes())

    def _nodes(self) -> list[Any]:
        """Nodes that may be chosen."""
        if self._scene is None:
            return []
        exact = not self._switches["showChildNodeTypes"]
        found = []
        for index in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(index)
            fits = any(node.GetClassName() == t if exact else node.IsA(t) for t in self._types)
            if fits and (self._switches["showHidden"] or not node.GetHideFromEditors()):
                found.append(node)
        return found

    def _on_scene_changed(self, caller: Any, event: str) -> None:
        if not self._scene.IsBatchProcessing():
            self._refresh()

    def _refresh(self) -> None:
        """Show the nodes of the scene; choose another node when the current one went away."""
        nodes = self._nodes()
        self._box.clear()
        if self._switches["noneEnabled"]:
            self._box.addItem(self._none_display, "")
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
        ids = [node.GetID() for node in nodes]
        if self._current_id in ids:
            self._choose(self._current_id)
        else:
            self._choose(ids[0] if ids and not self._switches["noneEnabled"] else "")

    def _choose(self, node_id: str) -> None:
        allowed = [node.GetID() for node in self._nodes()]
        node_id = node_id if node_id in allowed else ""
        self._box.setCurrentIndex(self._box.findData(node_id))
        if node_id != self._current_id:
            self._current_id = node_id
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(node_id)

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self._refresh()

    def _set_none_display(self, text: str) -> None:
        self._none_display = text
        self._refresh()

    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, _set_types)
    showHidden = _switch("showHidden")
    showChildNodeTypes = _switch("showChildNodeTypes")
    noneEnabled = _switch("noneEnabled")
    addEnabled = _editing_switch("addEnabled")
    removeEnabled = _editing_switch("removeEnabled")
    noneDisplay = QtCore.Property(str, lambda self: self._none_display, _set_none_display)
    currentNodeID = QtCore.Property(str, lambda self: self._current_id, setCurrentNodeID)


CLASSES: dict[str, type] = {
    "qMRMLNodeComboBox": qMRMLNodeComboBox,
    "qMRMLWidget": qMRMLWidget,
    "qSlicerScriptedLoadableModuleWidget": qSlicerScriptedLoadableModuleWidget,
}
