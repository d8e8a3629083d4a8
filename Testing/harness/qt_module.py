"""The module ``qt``: Qt's classes in one namespace, seen by PythonQt's rules."""

from __future__ import annotations

import types
from typing import Any

from PySide6 import QtCore

from .pythonqt import proxy_class
from .surface import qt_class
from .ui_loader import QUiLoader

#: What the running test's code wanted to open outside Slicer; ``installed`` empties it.
OPENED: list[str] = []


class QDesktopServices:
    """Opens nothing: a test sees the addresses in ``harness.opened``."""

    @staticmethod
    def openUrl(url: QtCore.QUrl) -> bool:
        OPENED.append(url.toString())
        return True


class QtModule(types.ModuleType):
    """The names of QtCore, QtGui, QtWidgets and QtPrintSupport; an unknown one raises.

    Classes that derive from QObject are proxies. The others (``QByteArray``, ``QPrinter``) are
    PySide6's own: PythonQt shows them by the same methods.
    """

    def __getattr__(self, name: str) -> Any:
        value = qt_class(name)
        if value is None:
            raise AttributeError(f"qt has no name {name!r}")
        is_object = isinstance(value, type) and issubclass(value, QtCore.QObject)
        return proxy_class(value) if is_object else value


def make_qt_module() -> QtModule:
    qt = QtModule("qt")
    qt.QUiLoader, qt.QDesktopServices = QUiLoader, QDesktopServices
    return qt
