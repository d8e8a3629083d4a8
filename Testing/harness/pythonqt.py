"""PythonQt's rules over PySide6.

In Slicer, Python sees Qt through PythonQt. The rules that code gets wrong on other bindings:

- a property is an attribute (``button.text``), not a pair of methods;
- dynamic properties and named direct children are attributes; ``name`` is ``objectName``;
- ``connect("clicked(bool)", function)`` takes the C++ signature; a function may take fewer
  arguments than the signal has;
- an unknown attribute raises, on reading and on writing: no attribute is ever created.

Of a stand-in for one of Slicer's or CTK's classes, only what that class shows to Python is there
(``surface``).

Each PySide6 class gets a proxy class with the same name and bases, so ``isinstance`` works. A proxy
holds no state; two proxies of one object are equal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

from .errors import NotModelledError
from .surface import qt_signature, refuse_unmodelled

_PROXY_CLASSES: dict[type, type] = {}

#: (object address, signature) -> functions with their connections, to undo ``connect``.
_CONNECTIONS: dict[tuple[int, str], list[tuple[Callable[..., Any], Any]]] = {}


def wrap(value: Any) -> Any:
    """What Python code in Slicer would get for a value that comes from Qt."""
    if isinstance(value, QtCore.QObject):
        return _adopt(value)
    if isinstance(value, (list, tuple)):
        return type(value)(wrap(item) for item in value)
    return value


def unwrap(value: Any) -> Any:
    """What Qt needs for a value that comes from Python code."""
    if isinstance(value, QtObject):
        return value._qt
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(item) for item in value)
    return value


def proxy_class(qt_class: type) -> type:
    """The proxy class of a PySide6 class (or of a stand-in that derives from one)."""
    if qt_class not in _PROXY_CLASSES:
        bases = tuple(
            proxy_class(base) for base in qt_class.__bases__ if issubclass(base, QtCore.QObject)
        )
        _PROXY_CLASSES[qt_class] = _ProxyType(
            qt_class.__name__, bases or (QtObject,), {"_qt_class": qt_class, "__slots__": ()}
        )
    return _PROXY_CLASSES[qt_class]


def _adopt(qt_object: QtCore.QObject) -> QtObject:
    proxy = object.__new__(proxy_class(type(qt_object)))
    object.__setattr__(proxy, "_qt", qt_object)
    return proxy


def _call(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with unwrapped arguments and a wrapped result."""

    def call(*arguments: Any) -> Any:
        return wrap(function(*(unwrap(a) for a in arguments)))

    return call


class _ProxyType(type):
    """Class attributes: enum values and static methods come from the Qt class."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        if "_qt_class" not in namespace:
            raise NotModelledError(
                f"class {name}: the harness does not model subclasses of Qt classes"
            )

    def __getattr__(cls, name: str) -> Any:
        value = getattr(cls._qt_class, name)
        return _call(value) if callable(value) and not isinstance(value, type) else value


class QtObject(metaclass=_ProxyType):
    """One Qt object seen by PythonQt's rules."""

    __slots__ = ("_qt",)
    _qt_class: type = QtCore.QObject
    _qt: QtCore.QObject

    def __init__(self, *arguments: Any) -> None:
        object.__setattr__(self, "_qt", self._qt_class(*(unwrap(a) for a in arguments)))

    def __getattr__(self, name: str) -> Any:
        qt_object = self._qt
        if name == "name":
            return qt_object.objectName()
        if name == "exec_":
            return _call(qt_object.exec)
        if name == "print":  # PythonQt takes both names, PySide6 only print_
            name = "print_"
        refuse_unmodelled(type(qt_object), name)
        if qt_object.metaObject().indexOfProperty(name) >= 0:
            return wrap(_read_property(qt_object, name))
        if name in (bytes(n.data()).decode() for n in qt_object.dynamicPropertyNames()):
            return wrap(qt_object.property(name))
        if hasattr(type(qt_object), name) and not name.startswith("_"):
            if isinstance(getattr(type(qt_object), name), QtCore.Signal):
                return Signal(self, name)
            value = getattr(qt_object, name)
            return _call(value) if callable(value) else value
        for child in qt_object.children():
            if child.objectName() == name:
                return wrap(child)
        raise AttributeError(f"{self.className()} has no attribute named {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        qt_object = self._qt
        name = "objectName" if name == "name" else name
        refuse_unmodelled(type(qt_object), name)
        index = qt_object.metaObject().indexOfProperty(name)
        if index >= 0 and not qt_object.metaObject().property(index).isWritable():
            raise AttributeError(f"{self.className()}.{name} is read only")
        dynamic = (bytes(n.data()).decode() for n in qt_object.dynamicPropertyNames())
        if index < 0 and name not in dynamic:
            raise AttributeError(
                f"{self.className()} has no attribute named {name!r}, and gets no new ones"
            )
        if isinstance(getattr(type(qt_object), name, None), QtCore.Property):
            setattr(qt_object, name, unwrap(value))  # a stand-in's own: its errors come through
            return
        setter = getattr(qt_object, f"set{name[0].upper()}{name[1:]}", None)
        if callable(setter):
            setter(unwrap(value))
        elif not qt_object.setProperty(name, unwrap(value)) and index >= 0:
            raise TypeError(f"{self.className()}.{name} does not take {value!r}")

    def className(self) -> str:
        return str(self._qt.metaObject().className())

    def connect(self, signature: str, function: Callable[..., Any]) -> bool:
        """Call ``function`` on each emission of the signal with this C++ signature.

        Raises
        ------
        ValueError : the class has no such signal (PythonQt itself only prints a warning).
        NotModelledError : the class has it, its stand-in has not.
        """
        self._connect(qt_signature(self._qt, signature), function)
        return True

    def _connect(self, signal: str, function: Callable[..., Any]) -> None:
        connection = QtCore.QObject.connect(self._qt, QtCore.SIGNAL(signal), _receiver(function))
        _CONNECTIONS.setdefault((self._address, signal), []).append((function, connection))

    def disconnect(self, signature: str, function: Callable[..., Any]) -> bool:
        """Undo one ``connect``; False when there was none."""
        return self._disconnect(qt_signature(self._qt, signature), function)

    def _disconnect(self, signal: str, function: Callable[..., Any]) -> bool:
        made = _CONNECTIONS.get((self._address, signal), [])
        for index, (known, connection) in enumerate(made):
            if known == function:
                del made[index]
                return bool(QtCore.QObject.disconnect(connection))
        return False

    @property
    def _address(self) -> int:
        return int(shiboken6.getCppPointer(self._qt)[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QtObject) and self._address == other._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __repr__(self) -> str:
        return f"{self.className()} ({self._qt.objectName()!r})"


class Signal:
    """A signal as an attribute: ``button.clicked.connect(function)``."""

    def __init__(self, sender: QtObject, name: str) -> None:
        self._sender, self._name = sender, name

    def connect(self, function: Callable[..., Any]) -> None:
        self._sender._connect(self._fullest_signature(), function)

    def disconnect(self, function: Callable[..., Any]) -> None:
        self._sender._disconnect(self._fullest_signature(), function)

    def emit(self, *arguments: Any) -> None:
        getattr(self._sender._qt, self._name).emit(*(unwrap(a) for a in arguments))

    def _fullest_signature(self) -> str:
        """The overload with the most arguments (``clicked(bool)``, not ``clicked()``)."""
        meta = self._sender._qt.metaObject()
        methods = (meta.method(index) for index in range(meta.methodCount()))
        named = [m for m in methods if bytes(m.name().data()).decode() == self._name]
        return bytes(max(named, key=lambda m: m.parameterCount()).methodSignature().data()).decode()


def _read_property(qt_object: QtCore.QObject, name: str) -> Any:
    try:
        return qt_object.property(name)
    except RuntimeError:  # PySide6 converts not every enum property; the getter does
        return getattr(qt_object, name)()


def _receiver(function: Callable[..., Any]) -> Callable[..., None]:
    """``function`` called with as many of the signal's arguments as it takes."""
    takes: float = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            takes = float("inf")
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            takes += 1

    def receive(*arguments: Any) -> None:
        count = int(min(takes, len(arguments)))
        function(*(wrap(a) for a in arguments[:count]))

    return receive
