"""``qt.QUiLoader``: the real Qt loader, with stand-ins for ctk and qMRML classes.

Slicer's ``.ui`` files connect ``mrmlSceneChanged(vtkMRMLScene*)`` to
``setMRMLScene(vtkMRMLScene*)``. PySide6 knows no such C++ type, so the loader takes the connections
out of the file and makes them itself. The same holds for properties of stand-ins with values of
enums, such as ``ctkPathLineEdit::Dirs``.
"""

from __future__ import annotations

import functools
import operator
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctk_widgets, mrml_widgets
from .errors import NotModelledError
from .pythonqt import QtObject, wrap
from .surface import qt_class, surface_of

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
        enum_values = list(_take_enum_values(document))
        data = QtCore.QByteArray(ElementTree.tostring(document))
        buffer = QtCore.QBuffer(data)
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        loader = _QtUiLoader()
        widget = loader.load(buffer)
        if widget is None:
            raise RuntimeError(loader.errorString())
        for name, key, value in enum_values:
            setattr(wrap(_find(widget, name)), key, value)
        for connection in connections if connections is not None else ():
            _connect(widget, connection)
        return wrap(widget)


def _take_enum_values(document: ElementTree.Element) -> Iterator[tuple[str, str, Any]]:
    """Widget, property and value of the stand-ins' own enum properties, taken out of the file."""
    for element in document.iter("widget"):
        surface = surface_of(element.get("class", ""))
        own = surface.properties if surface is not None else frozenset()
        for each in element.findall("property"):
            text = each.findtext("set") or each.findtext("enum")
            if text is not None and each.get("name") in own:
                element.remove(each)
                yield element.get("name", ""), each.get("name", ""), _enum_value(text)


def _enum_value(text: str) -> Any:
    """The value that ``ctkPathLineEdit::Dirs|ctkPathLineEdit::NoDot`` stands for."""
    values = []
    for part in text.split("|"):
        class_name, _, key = part.strip().partition("::")
        values.append(getattr(STAND_INS.get(class_name) or qt_class(class_name), key))
    return functools.reduce(operator.or_, values)


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
