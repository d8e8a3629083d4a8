"""Stand-ins for the layout manager, the view widgets and the main window.

Layouts are real: ``vtkMRMLLayoutLogic`` makes the view nodes of a layout in the scene, and each
slice view has a ``vtkMRMLSliceLogic``. The widgets only lead to them; the views' render windows are
small, and empty but for corner texts. What would only redraw is written down in ``requests``.
"""

# ruff: noqa: N801 - the classes have Slicer's names

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vtk
from PySide6 import QtCore, QtWidgets

from .errors import NotModelledError
from .mrml_widgets import qMRMLWidget
from .pythonqt import proxy_class, wrap


class _ViewWidget(qMRMLWidget):
    """A view of the layout; it belongs to one view node."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._node = node

    def mrmlAbstractViewNode(self) -> Any:
        return self._node


class _View(QtWidgets.QWidget):
    """The drawing part of a view: an off-screen render window that shows corner texts only."""

    def __init__(self, node: Any, request: Callable[[str], None]) -> None:
        super().__init__()
        self._node, self._request = node, request
        self._annotation, self._window = vtk.vtkCornerAnnotation(), None

    def _actors(self) -> list[Any]:
        return [self._annotation]

    def renderWindow(self) -> Any:
        """Made when first asked for: it needs OpenGL."""
        if self._window is None:
            renderer = vtk.vtkRenderer()
            for actor in self._actors():
                renderer.AddViewProp(actor)
            self._window = vtk.vtkRenderWindow()
            self._window.SetOffScreenRendering(1)
            self._window.SetSize(240, 160)
            self._window.AddRenderer(renderer)
        return self._window

    def cornerAnnotation(self) -> Any:
        return self._annotation

    def forceRender(self) -> None:
        self._request(f"forceRender {self._node.GetLayoutName()}")
        self.renderWindow().Render()


class qMRMLSliceView(_View):
    """The drawing part of a slice view, with the corner texts of Slicer's Data Probe."""

    def __init__(self, node: Any, request: Callable[[str], None]) -> None:
        super().__init__(node, request)
        self.overlay = vtk.vtkCornerAnnotation()

    def _actors(self) -> list[Any]:
        return [self._annotation, self.overlay]

    def mrmlSliceNode(self) -> Any:
        return self._node


class qMRMLSliceWidget(_ViewWidget):
    """A slice view: its node, its composite node and its logic are real."""

    def __init__(self, node: Any, logic: Any, request: Callable[[str], None]) -> None:
        super().__init__(node)
        self._logic, self._view = logic, qMRMLSliceView(node, request)

    def mrmlSliceNode(self) -> Any:
        return self._node

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceLogic(self) -> Any:
        return self._logic

    def sliceView(self) -> Any:
        return self._view

    def overlayCornerAnnotation(self) -> Any:
        return self._view.overlay

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    sliceViewName = QtCore.Property(str, lambda self: self._node.GetLayoutName())
    sliceOrientation = QtCore.Property(
        str,
        lambda self: self._node.GetOrientation(),
        lambda self, name: self._node.SetOrientation(name),
    )


class qMRMLThreeDView(_View):
    """The drawing part of a 3D view."""

    def mrmlViewNode(self) -> Any:
        return self._node

    def resetFocalPoint(self) -> None:
        self._request(f"resetFocalPoint {self._node.GetLayoutName()}")


class qMRMLThreeDWidget(_ViewWidget):
    """A 3D view."""

    def __init__(self, node: Any, request: Callable[[str], None]) -> None:
        super().__init__(node)
        self._view = qMRMLThreeDView(node, request)

    def mrmlViewNode(self) -> Any:
        return self._node

    def threeDView(self) -> Any:
        return self._view


class qMRMLPlotWidget(_ViewWidget):
    """A plot view."""

    def mrmlPlotViewNode(self) -> Any:
        return self._node


class qMRMLTableWidget(_ViewWidget):
    """A table view."""

    def mrmlTableViewNode(self) -> Any:
        return self._node


#: Class of the view node -> makes its widget.
_SIMPLE_WIDGETS: dict[str, type] = {
    "vtkMRMLPlotViewNode": qMRMLPlotWidget,
    "vtkMRMLTableViewNode": qMRMLTableWidget,
}


class qSlicerLayoutManager(QtCore.QObject):
    """The layout of the real layout node; views by name or number, as the layout shows them."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self, application_logic: Any) -> None:
        super().__init__()
        import slicer

        self.requests: list[str] = []
        self._scene = application_logic.GetMRMLScene()
        self._slice_logics = application_logic.GetSliceLogics()
        self._application_logic = application_logic
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(self._scene)
        self._widgets: dict[str, _ViewWidget] = {}
        self._shown = self._node.GetViewArrangement()
        self._tag = self._node.AddObserver("ModifiedEvent", self._on_node_modified)
        self._node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    @property
    def _node(self) -> Any:
        return self._logic.GetLayoutNode()

    def _on_node_modified(self, caller: Any, event: str) -> None:
        if self._node.GetViewArrangement() != self._shown:
            self._shown = self._node.GetViewArrangement()
            self._slice_widgets()  # Slicer's views, and so their logics, are there at once
            self._map_views()
            self.layoutChanged.emit(self._shown)

    def _map_views(self) -> None:
        """Each view node knows whether the layout shows it."""
        shown = self._logic.GetViewNodes()
        for n in range(self._scene.GetNumberOfNodesByClass("vtkMRMLAbstractViewNode")):
            node = self._scene.GetNthNodeByClass(n, "vtkMRMLAbstractViewNode")
            node.SetMappedInLayout(int(shown.IsItemPresent(node) > 0))

    def close(self) -> None:
        """Let go of the scene; for the harness."""
        self._node.RemoveObserver(self._tag)
        for widget in self._widgets.values():
            if isinstance(widget, qMRMLSliceWidget):
                widget._logic.SetMRMLScene(None)
        self._slice_logics.RemoveAllItems()
        self._logic.SetMRMLScene(None)

    def mrmlScene(self) -> Any:
        return self._scene

    def layoutLogic(self) -> Any:
        return self._logic

    def mrmlSliceLogics(self) -> Any:
        return self._slice_logics

    def setLayout(self, layout: int) -> None:
        if not self._node.IsLayoutDescription(layout):
            raise NotModelledError(f"layout {layout}, which has no description")
        self._node.SetViewArrangement(layout)

    layout = QtCore.Property(int, lambda self: self._node.GetViewArrangement(), setLayout)

    def sliceViewNames(self) -> list[str]:
        return [node.GetLayoutName() for node in self._nodes("vtkMRMLSliceNode")]

    def sliceWidget(self, name: str) -> Any:
        return self._slice_widgets().get(name)

    def threeDWidget(self, which: int | str) -> Any:
        return self._view("vtkMRMLViewNode", which)

    def plotWidget(self, which: int) -> Any:
        return self._view("vtkMRMLPlotViewNode", which)

    def tableWidget(self, which: int) -> Any:
        return self._view("vtkMRMLTableViewNode", which)

    def resetThreeDViews(self) -> None:
        self.requests.append("resetThreeDViews")

    def resetSliceViews(self) -> None:
        for widget in self._slice_widgets().values():
            widget.fitSliceToBackground()

    threeDViewCount = QtCore.Property(int, lambda self: len(self._nodes("vtkMRMLViewNode")))
    plotViewCount = QtCore.Property(int, lambda self: len(self._nodes("vtkMRMLPlotViewNode")))
    tableViewCount = QtCore.Property(int, lambda self: len(self._nodes("vtkMRMLTableViewNode")))

    def _nodes(self, class_name: str) -> list[Any]:
        """The view nodes of a class that the current layout shows."""
        views = self._logic.GetViewNodes()
        nodes = [views.GetItemAsObject(n) for n in range(views.GetNumberOfItems())]
        return [node for node in nodes if node.GetClassName() == class_name]

    def _slice_widgets(self) -> dict[str, Any]:
        return {
            node.GetLayoutName(): self._widget(node) for node in self._nodes("vtkMRMLSliceNode")
        }

    def _view(self, class_name: str, which: int | str) -> Any:
        """A view by number or name; None where the layout has no such one."""
        nodes = self._nodes(class_name)
        if isinstance(which, str):
            nodes, which = [n for n in nodes if n.GetLayoutName() == which], 0
        return self._widget(nodes[which]) if 0 <= which < len(nodes) else None

    def _widget(self, node: Any) -> _ViewWidget:
        if node.GetID() not in self._widgets:
            self._widgets[node.GetID()] = self._make_widget(node)
        return self._widgets[node.GetID()]

    def _make_widget(self, node: Any) -> _ViewWidget:
        class_name = node.GetClassName()
        if class_name == "vtkMRMLSliceNode":
            return qMRMLSliceWidget(node, self._slice_logic(node), self.requests.append)
        if class_name == "vtkMRMLViewNode":
            return qMRMLThreeDWidget(node, self.requests.append)
        return _SIMPLE_WIDGETS[class_name](node)

    def _slice_logic(self, node: Any) -> Any:
        """A real slice logic of the node, which makes the composite node too."""
        import slicer

        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application_logic)
        logic.SetMRMLScene(self._scene)
        logic.SetSliceNode(node)
        self._slice_logics.AddItem(logic)
        return logic


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Switches modules as a user does: the old one is left, the new one entered."""

    moduleSelected = QtCore.Signal(str)

    def __init__(self, modules: Any) -> None:
        super().__init__()
        self._modules, self._selected = modules, ""

    def selectModule(self, name: str) -> None:
        module = getattr(self._modules, name.lower(), None)
        if module is None:
            raise NotModelledError(f"the module {name}")
        if self._selected == module.name:
            return
        previous = getattr(self._modules, self._selected.lower(), None)
        self._selected = module.name
        for each, action in ((previous, "exit"), (module, "enter")):
            host = each.widgetRepresentation() if each is not None else None
            if host is not None and host.isEntered != (action == "enter"):
                getattr(host, action)()
        self.moduleSelected.emit(module.name)

    selectedModule = QtCore.Property(str, lambda self: self._selected, selectModule)


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The window around the module panel; never shown."""

    def __init__(self, modules: Any) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(modules)
        self.addToolBar(self._selector)

    def moduleSelector(self) -> Any:
        return self._selector


CLASSES: dict[str, type] = {
    "qMRMLSliceView": qMRMLSliceView,
    "qMRMLSliceWidget": qMRMLSliceWidget,
    "qMRMLThreeDWidget": qMRMLThreeDWidget,
    "qSlicerLayoutManager": qSlicerLayoutManager,
    "qSlicerMainWindow": qSlicerMainWindow,
}


def layout_manager(application_logic: Any) -> Any:
    """``slicer.app.layoutManager()``."""
    return proxy_class(qSlicerLayoutManager)(application_logic)


def main_window(modules: Any) -> Any:
    """The window that ``slicer.util.mainWindow()`` finds."""
    return wrap(qSlicerMainWindow(modules))
