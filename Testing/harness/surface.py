"""What Python can reach of Slicer's and CTK's classes: the names in ``slicer_names.json``.

The stand-ins model a part of it. So an access says which of two things is wrong: a name that the
real class lacks raises AttributeError (the module is wrong), a name that only the stand-in lacks
raises NotModelledError (the harness is incomplete).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from PySide6 import QtCore, QtGui, QtPrintSupport, QtWidgets

from .errors import NotModelledError

#: What the module ``qt`` gives in one namespace.
QT_LIBRARIES = (QtCore, QtGui, QtWidgets, QtPrintSupport)


@functools.cache
def slicer_names() -> dict[str, Any]:
    """The content of ``slicer_names.json``; ``make_slicer_names.py`` says what it holds."""
    text = Path(__file__).with_name("slicer_names.json").read_text(encoding="utf-8")
    names: dict[str, Any] = json.loads(text)
    return names


@dataclass(frozen=True)
class Surface:
    """Names of a class with those of its bases, up to ``qt_base``, which is Qt's own.

    ``signals`` and ``methods`` are normalised signatures. Slots count as methods.
    """

    class_name: str
    qt_base: str
    properties: frozenset[str]
    read_only: frozenset[str]
    signals: frozenset[str]
    methods: frozenset[str]

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """All names that are attributes in Python."""
        return self.properties | self.read_only | _bare(self.signals) | _bare(self.methods)


def _bare(signatures: Iterable[str]) -> frozenset[str]:
    return frozenset(s.partition("(")[0] for s in signatures)


@functools.cache
def surface_of(class_name: str) -> Surface | None:
    """The surface of one of Slicer's or CTK's classes; None for all other classes."""
    classes = slicer_names()["classes"]
    if class_name not in classes:
        return None
    chain, base = [], class_name
    while base in classes:
        chain.append(classes[base])
        base = classes[base]["base"]
    kinds = ("properties", "read_only", "signals", "methods")
    merged = {kind: frozenset(n for entry in chain for n in entry.get(kind, ())) for kind in kinds}
    return Surface(class_name, base, **merged)


def qt_class(name: str) -> Any:
    """A plain Qt class by name; None where Qt has none."""
    found = (getattr(library, name, None) for library in QT_LIBRARIES)
    return next((value for value in found if value is not None), None)


def refuse_unmodelled(stand_in: type, name: str) -> None:
    """Return for names that the real class and its stand-in have, or that are plain Qt.

    Raises
    ------
    NotModelledError : the real class has the name, its stand-in has not.
    AttributeError : the stand-in has the name for itself, the real class does not show it.
    """
    surface = surface_of(stand_in.__name__)
    if surface is None:
        return
    from_qt = any(_is_qt(b) and hasattr(b, name) for b in stand_in.__mro__)
    own = any(name in vars(b) for b in stand_in.__mro__ if not _is_qt(b) and b is not object)
    if name in surface.names:
        if not own and not from_qt:
            raise NotModelledError(f"{surface.class_name}.{name}")
    elif own and not from_qt and not name.startswith("__"):
        raise AttributeError(f"{surface.class_name} has no attribute named {name!r} in Python")


def _is_qt(class_: type) -> bool:
    return class_.__module__.startswith(("PySide6", "Shiboken"))


def qt_signature(qt_object: QtCore.QObject, signature: str) -> str:
    """The signature by which PySide6 knows a signal of an object, also of a plain Qt one.

    PySide6 knows no VTK types: it passes any pointer to one as a Python object.

    Raises
    ------
    NotModelledError : the real class has the signal, its stand-in has not.
    ValueError : the class has no such signal.
    """
    normal = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    surface, meta = surface_of(type(qt_object).__name__), qt_object.metaObject()
    if surface is not None and normal in surface.signals:
        known = re.sub(r"\bvtk\w+\*", "PyObject", normal)
        if meta.indexOfSignal(known) < 0:
            raise NotModelledError(f"signal {normal} of {surface.class_name}")
        return known
    of_qt = meta
    while surface is not None and of_qt.className() != surface.qt_base:
        of_qt = of_qt.superClass()  # a class's own staticMetaObject may be a deleted one
    if of_qt.indexOfSignal(normal) < 0:
        raise ValueError(f"{meta.className()} has no signal {signature!r}")
    return normal


class Modelled:
    """Base of stand-ins that are plain Python objects; ``_real`` names the class of Slicer."""

    _real = ""

    def __getattr__(self, name: str) -> Any:
        refuse_absent(self._real, name)

    def className(self) -> str:
        return self._real


def refuse_absent(class_name: str, name: str) -> NoReturn:
    """Say why a stand-in has no attribute ``name``: NotModelledError or AttributeError."""
    surface = surface_of(class_name)
    assert surface is not None, class_name
    if name in surface.names or (name[:1] != "_" and hasattr(qt_class(surface.qt_base), name)):
        raise NotModelledError(f"{class_name}.{name}")
    raise AttributeError(f"{class_name} has no attribute named {name!r}")
