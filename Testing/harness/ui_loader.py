"""``qt.QUiLoader``: the real Qt loader, with stand-ins for ctk and qMRML classes.

Slicer's ``.ui`` files connect ``mrmlSceneChanged(vtkMRMLScene*)`` to
``setMRMLScene(vtkMRMLScene*)``. PySide6 knows no such C++ type, so the loader takes the connections
out of the file and makes them itself.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctk_widgets, mrml_widgets
from .errors import NotModelledError
from .pythonqt import QtObject, wrap

STAND_INS: dict[str, type] = {**ctk_widgets.CLASSES, **mrml_widgets.CLASSES}


class _QtUiLoader(QtUiTools.QUiLoader):
    """Makes stand-ins where the file names a class that is not Qt's."""

    def createWidget(
        self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = ""
    ) -> QtWidgets.QWidget:
        if class_name in STAND_INS:
            widget: QtWidgets.QWidget = STAND_INS[class_name](parent)
            widget.setObjectName(name)
            return widget
        if re.match(r"ctk|q(MRML|Slicer)", class_name):
            raise NotModelledError(f"widget class {class_name} in a .ui file")
        return super().createWidget(class_name, parent, name)


class QUiLoader:
    """The part of ``qt.QUiLoader`` that ``slicer.util.loadUI`` uses."""

    def load(self, file: QtObject) -> Any:
        """The widget of an open ``qt.QFile``.

        Raises
        ------
        RuntimeError : Qt cannot read the file.
        NotModelledError : the file needs something that the harness lacks.
        """
        document = ElementTree.fromstring(bytes(file._qt.readAll().data()))
        connections = document.find("connections")
        if connections is not None:
            document.remove(connections)
        data = QtCore.QByteArray(ElementTree.tostring(document))
        buffer = QtCore.QBuffer(data)
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        loader = _QtUiLoader()
        widget = loader.load(buffer)
        if widget is None:
            raise RuntimeError(loader.errorString())
        for connection in connections if connections is not None else ():
            _connect(widget, connection)
        return wrap(widget)


def _connect(root: QtWidgets.QWidget, connection: ElementTree.Element) -> None:
    """Make one connection of the file; names and signatures must exist."""
    names = {
        part: connection.findtext(part, "") for part in ("sender", "signal", "receiver", "slot")
    }
    sender, receiver = (_find(root, names[part]) for part in ("sender", "receiver"))
    slot = getattr(wrap(receiver), names["slot"].partition("(")[0])
    wrap(sender).connect(names["signal"], lambda value: slot(value))


def _find(root: QtWidgets.QWidget, name: str) -> QtWidgets.QWidget:
    found = root if root.objectName() == name else root.findChild(QtWidgets.QWidget, name)
    if found is None:
        raise ValueError(f"a connection of the .ui file names {name!r}, which is not in it")
    return found
