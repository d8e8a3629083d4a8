"""Stand-ins for CTK widgets: the properties, slots and signals that REACTKD's panel uses."""

# ruff: noqa: N801 - the classes have CTK's names

from __future__ import annotations

from dataclasses import dataclass, field

from PySide6 import QtCore, QtGui, QtWidgets

from . import ctk_path_line_edit, ctk_range
from .errors import NotModelledError

_HEADER_HEIGHT = 24


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header with a title; a click folds the layout below it away."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred
        )
        self.setContentsMargins(0, _HEADER_HEIGHT, 0, 0)
        self.clicked.connect(lambda: self.setCollapsed(not self._collapsed))

    def isCollapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not collapsed)
        self.setMaximumHeight(_HEADER_HEIGHT if collapsed else 16777215)
        self.contentsCollapsed.emit(collapsed)

    collapsed = QtCore.Property(bool, isCollapsed, setCollapsed)

    def sizeHint(self) -> QtCore.QSize:
        content = self.layout().sizeHint() if self.layout() else QtCore.QSize(100, 0)
        height = _HEADER_HEIGHT if self._collapsed else max(content.height(), _HEADER_HEIGHT)
        return QtCore.QSize(content.width(), height)

    def minimumSizeHint(self) -> QtCore.QSize:
        content = self.layout().minimumSize() if self.layout() else QtCore.QSize(0, 0)
        return QtCore.QSize(content.width(), self.sizeHint().height())

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, self.width(), _HEADER_HEIGHT - 2)
        painter.fillRect(header, self.palette().button())
        font = painter.font()
        font.setBold(True)
        painter.setFont(font)
        arrow = (
            "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
            if self._collapsed
            else ("\N{BLACK DOWN-POINTING SMALL TRIANGLE}")
        )
        painter.drawText(
            header.adjusted(6, 0, 0, 0),
            int(QtCore.Qt.AlignmentFlag.AlignVCenter),
            f"{arrow}  {self.text()}",
        )


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box, both on one float ``value``."""

    valueChanged = QtCore.Signal(float)

    _STEPS = 1000

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, self._STEPS)
        self._spin_box = QtWidgets.QDoubleSpinBox(self)
        self._spin_box.setRange(0.0, 99.0)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin_box)
        self.setFocusProxy(self._slider)
        self._slider.valueChanged.connect(self._on_slider)
        self._spin_box.valueChanged.connect(self._on_spin_box)

    def _on_slider(self, step: int) -> None:
        low, high = self._spin_box.minimum(), self._spin_box.maximum()
        self._spin_box.setValue(low + (high - low) * step / self._STEPS)

    def _on_spin_box(self, value: float) -> None:
        low, high = self._spin_box.minimum(), self._spin_box.maximum()
        blocker = QtCore.QSignalBlocker(self._slider)
        self._slider.setValue(round(self._STEPS * (value - low) / (high - low)))
        blocker.unblock()
        self.valueChanged.emit(value)

    def setValue(self, value: float) -> None:
        self._spin_box.setValue(value)

    value = QtCore.Property(float, lambda self: self._spin_box.value(), setValue)
    minimum = QtCore.Property(
        float,
        lambda self: self._spin_box.minimum(),
        lambda self, value: self._spin_box.setMinimum(value),
    )
    maximum = QtCore.Property(
        float,
        lambda self: self._spin_box.maximum(),
        lambda self, value: self._spin_box.setMaximum(value),
    )
    singleStep = QtCore.Property(
        float,
        lambda self: self._spin_box.singleStep(),
        lambda self, value: self._spin_box.setSingleStep(value),
    )
    decimals = QtCore.Property(
        int,
        lambda self: self._spin_box.decimals(),
        lambda self, value: self._spin_box.setDecimals(value),
    )
    suffix = QtCore.Property(
        str,
        lambda self: self._spin_box.suffix(),
        lambda self, value: self._spin_box.setSuffix(value),
    )


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box; ``scrollWheelEffect`` says whether the wheel changes it."""

    NeverScroll, AlwaysScroll, ScrollWithFocus, ScrollWithNoVScrollBar = range(4)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._effect = self.AlwaysScroll

    def _set_effect(self, effect: int) -> None:
        if effect not in (self.NeverScroll, self.AlwaysScroll):
            raise NotModelledError(f"ctkComboBox.scrollWheelEffect {effect}")
        self._effect = effect

    scrollWheelEffect = QtCore.Property(int, lambda self: self._effect, _set_effect)

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
        if self._effect == self.AlwaysScroll:
            super().wheelEvent(event)
        else:
            event.ignore()


@dataclass
class Dialogs:
    """What message boxes said, and what the test answers: one standard button per question."""

    answers: list[QtWidgets.QMessageBox.StandardButton] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def clear(self) -> None:
        self.answers.clear()
        self.texts.clear()


#: The dialogs of the running test; ``application.installed`` empties it.
DIALOGS = Dialogs()


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box that the test answers. One that it did not expect fails the test."""

    def exec(self) -> int:
        DIALOGS.texts.append(self.text())
        if not DIALOGS.answers:
            raise AssertionError(f"unexpected dialog: {self.text()}")
        return DIALOGS.answers.pop(0)


CLASSES: dict[str, type] = {
    "ctkCollapsibleButton": ctkCollapsibleButton,
    "ctkComboBox": ctkComboBox,
    "ctkMessageBox": ctkMessageBox,
    "ctkSliderWidget": ctkSliderWidget,
    **ctk_path_line_edit.CLASSES,
    **ctk_range.CLASSES,
}
