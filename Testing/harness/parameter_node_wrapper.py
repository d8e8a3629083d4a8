"""Stand-in for ``slicer.parameterNodeWrapper``, for the types that REACTKD's parameters have.

Values live in the real ``vtkMRMLScriptedModuleNode``: nodes as node references, the rest as strings
(enums by name), so a saved scene keeps them. Anything else raises NotModelledError.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from typing import Any

import slicer
import vtk

from .errors import NotModelledError


class WithinRange:
    """Validator: the value lies between two bounds, both included."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def check(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is outside [{self.minimum}, {self.maximum}]")


class _Parameter:
    """One typed parameter of the wrapper."""

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name = name
        self.type = hint
        self.validators: tuple[WithinRange, ...] = ()
        if typing.get_origin(hint) is typing.Annotated:
            self.type, *annotations = typing.get_args(hint)
            if not all(isinstance(a, WithinRange) for a in annotations):
                raise NotModelledError(f"annotations {annotations} of parameter {name}")
            self.validators = tuple(annotations)
        self.is_node = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        self.is_enum = isinstance(self.type, type) and issubclass(self.type, enum.Enum)
        if not (self.is_node or self.is_enum or self.type in (str, float, bool)):
            raise NotModelledError(f"parameter {name} of type {self.type}")
        if default is None and not self.is_node:
            default = next(iter(self.type)) if self.is_enum else self.type()
        self.default = default

    def is_in(self, node: Any) -> bool:
        if self.is_node:
            return True  # no reference reads as None, which is the default
        return self.name in node.GetParameterNames()

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        if not self.is_in(node):
            self.write(node, self.default)
        text = node.GetParameter(self.name)
        if self.is_enum:
            return self.type[text]
        return text == "True" if self.type is bool else self.type(text)

    def write(self, node: Any, value: Any) -> None:
        if self.is_node:
            if value is not None and not isinstance(value, self.type):
                raise TypeError(f"{self.name} takes {self.type.__name__}, not {value!r}")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if self.type is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, self.type):
            raise TypeError(f"{self.name} takes {self.type.__name__}, not {value!r}")
        for validator in self.validators:
            validator.check(value)
        node.SetParameter(self.name, value.name if self.is_enum else str(value))


class _Connector:
    """Binds one widget to one parameter. ``signal`` is emitted when the user changes it."""

    def __init__(self, signal: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.signal, self.read, self.write = signal, read, write


def _connector(widget: Any, parameter: _Parameter) -> _Connector:
    kind = widget.className()
    if kind == "qMRMLNodeComboBox" and parameter.is_node:
        return _Connector(
            "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode
        )
    if kind == "QComboBox" and parameter.is_enum:
        members = list(parameter.type)
        widget.clear()
        for member in members:
            widget.addItem(member.label() if hasattr(member, "label") else member.name)
        return _Connector(
            "currentIndexChanged(int)",
            lambda: members[widget.currentIndex],
            lambda value: widget.setCurrentIndex(members.index(value)),
        )
    if kind == "QCheckBox" and parameter.type is bool:
        return _Connector("toggled(bool)", lambda: widget.checked, widget.setChecked)
    if kind == "ctkSliderWidget" and parameter.type is float:
        for validator in parameter.validators:
            widget.minimum, widget.maximum = validator.minimum, validator.maximum
        return _Connector("valueChanged(double)", lambda: widget.value, widget.setValue)
    raise NotModelledError(f"connecting a {kind} to parameter {parameter.name} ({parameter.type})")


class _Connection:
    """One ``connectGui``: widgets follow the node, the node follows the widgets."""

    def __init__(self, wrapper: Any, widgets: dict[str, Any]) -> None:
        self._wrapper, self._widgets, self._updating = wrapper, widgets, False
        parameters = wrapper.allParameters
        self._connectors = {n: _connector(w, parameters[n]) for n, w in widgets.items()}
        self._slots = {n: self._slot(n) for n in widgets}
        self._update_widgets()
        for name, widget in widgets.items():
            widget.connect(self._connectors[name].signal, self._slots[name])
        self._tag = wrapper.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._update_widgets()
        )

    def _slot(self, name: str) -> Callable[[], None]:
        def on_changed() -> None:
            if not self._updating:
                setattr(self._wrapper, name, self._connectors[name].read())

        return on_changed

    def _update_widgets(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for name, connector in self._connectors.items():
                connector.write(getattr(self._wrapper, name))
        finally:
            self._updating = False

    def close(self) -> None:
        self._wrapper.RemoveObserver(self._tag)
        for name, widget in self._widgets.items():
            widget.disconnect(self._connectors[name].signal, self._slots[name])


def parameterNodeWrapper(cls: type) -> type:
    """Class decorator: typed access to a parameter node, and its binding to widgets."""
    parameters = {
        name: _Parameter(name, hint, getattr(cls, name, None))
        for name, hint in typing.get_type_hints(cls, include_extras=True).items()
    }

    def init(self: Any, parameter_node: Any) -> None:
        self.parameterNode = parameter_node
        self._connections = {}
        for parameter in parameters.values():
            if not parameter.is_in(parameter_node):
                parameter.write(parameter_node, parameter.default)

    def connect_gui(self: Any, gui: Any) -> int:
        widgets = {}
        for widget in vars(gui).values():
            name = widget.property("SlicerParameterName")
            if name and name not in parameters:
                raise ValueError(f"{widget} names the parameter {name!r}, which does not exist")
            if name:
                widgets[name] = widget
        tag = len(self._connections)
        self._connections[tag] = _Connection(self, widgets)
        return tag

    def forward(method: str) -> Callable[..., Any]:
        return lambda self, *arguments: getattr(self.parameterNode, method)(*arguments)

    members: dict[str, Any] = {
        "allParameters": parameters,
        "__init__": init,
        "connectGui": connect_gui,
        "disconnectGui": lambda self, tag: self._connections.pop(tag).close(),
        **{
            name: forward(name)
            for name in ("AddObserver", "RemoveObserver", "StartModify", "EndModify", "Modified")
        },
        **{name: _property(parameter) for name, parameter in parameters.items()},
    }
    for name, member in members.items():
        setattr(cls, name, member)
    return cls


def _property(parameter: _Parameter) -> property:
    return property(
        lambda self: parameter.read(self.parameterNode),
        lambda self, value: parameter.write(self.parameterNode, value),
    )
