"""Which properties, methods and signals a class of Qt, CTK or Slicer has."""

from __future__ import annotations

import enum
import functools

from harness import ctk_widgets
from harness.surface import qt_class, slicer_names, surface_of
from PySide6 import QtCore
from qt_classes import QtClass, qt_classes

#: Classes and signals of Qt 6 that Qt 5.15 lacks; code must run on both.
QT6_ONLY = {
    *("QChronoTimer", "QPageRanges", "QPermission", "QStringConverter", "QStringDecoder"),
    *("QStringEncoder", "QPdfOutputIntent", "QBindable", "QProperty"),
    *("checkStateChanged(Qt::CheckState)", "defaultPaletteChanged(QPalette)"),
}

#: What PythonQt adds to each object.
_OF_EVERY_OBJECT = {"name", "exec_", "print", "connect", "disconnect", "className", "delete"}


def problem_of_class(name: str) -> str:
    """What is wrong with a widget class named in a ``.ui`` file or on ``ctk``; empty if nothing."""
    if surface_of(name) is not None:
        return ""
    if name in slicer_names()["other_widgets"]:
        return f"{name} cannot be checked: add it to STAND_INS of make_slicer_names.py"
    if name in QT6_ONLY:
        return f"{name} is not in Qt 5"
    return "" if name in qt_classes() else f"there is no class {name}"


def has_property(class_name: str, name: str) -> bool:
    """Whether a class that exists has a property."""
    surface = surface_of(class_name)
    if surface is None:
        return name in _qt(class_name).properties
    own = surface.properties | surface.read_only
    return name in own or name in _qt(surface.qt_base).properties


def has_attribute(class_name: str, name: str) -> bool:
    """Whether Python finds the name on an object of a class that exists."""
    surface = surface_of(class_name)
    qt_name = class_name if surface is None else surface.qt_base
    return (
        name in _OF_EVERY_OBJECT
        or (surface is not None and name in surface.names)
        or name in _qt(qt_name).properties
        or hasattr(qt_class(qt_name), name)
    )


def has_signal(class_name: str, signature: str) -> bool:
    """Whether a class that exists has a signal with this signature."""
    surface, normal = surface_of(class_name), _normal(signature)
    if normal in QT6_ONLY:
        return False
    if surface is None:
        return normal in _qt(class_name).signals
    return normal in surface.signals or normal in _qt(surface.qt_base).signals


def has_slot(class_name: str, signature: str) -> bool:
    """Whether a class that exists has a slot or invokable method with this signature."""
    surface, normal = surface_of(class_name), _normal(signature)
    if surface is None:
        return normal in _qt(class_name).methods
    return normal in surface.methods or normal in _qt(surface.qt_base).methods


def any_class_has_signal(signature: str) -> bool:
    """Whether there is a class with this signal, where the object's class is not known."""
    return _normal(signature) in _all_signals() - QT6_ONLY


def problem_of_qt_name(parts: list[str]) -> str:
    """What is wrong with ``qt.A.b``, given as ["A", "b"]; empty if nothing."""
    if parts[0] == "QUiLoader":  # a library of its own in PySide6
        return ""
    value = qt_class(parts[0])
    if value is None:
        return f"Qt 6 has no {parts[0]}"
    if parts[0] in QT6_ONLY:
        return f"{parts[0]} is not in Qt 5"
    for part in parts[1:]:
        if isinstance(value, type) and issubclass(value, enum.Enum):
            return f"PythonQt has {part} on the class, not on the enum {value.__name__}"
        if part not in _OF_EVERY_OBJECT and not hasattr(value, part):
            return f"{parts[0]} has no {part} in Qt 6"
        value = getattr(value, part, None)
    return ""


def problem_of_ctk_name(parts: list[str]) -> str:
    """What is wrong with ``ctk.ctkA.B``, given as ["ctkA", "B"]; empty if nothing."""
    problem = problem_of_class(parts[0]) if parts[0].startswith("ctk") else "no CTK class"
    if problem or len(parts) == 1:
        return problem
    stand_in = ctk_widgets.CLASSES[parts[0]]
    known = has_attribute(parts[0], parts[1]) or hasattr(stand_in, parts[1])
    return "" if known else f"{parts[0]} has no {parts[1]}"


def _qt(name: str) -> QtClass:
    return qt_classes()[name]


def _normal(signature: str) -> str:
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


@functools.cache
def _all_signals() -> frozenset[str]:
    """The signals of all classes of Qt and of the classes that the harness models."""
    modelled = slicer_names()["classes"].values()
    return frozenset().union(
        *(entry.get("signals", ()) for entry in modelled),
        *(each.signals for each in qt_classes().values()),
    )
