"""Stand-ins for CTK's widgets with two values: a slider, and the slider with two spin boxes."""

# ruff: noqa: N801 - the classes have CTK's names

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

from .errors import NotModelledError

_HANDLE_WIDTH = 6


class _Range(QtWidgets.QWidget):
    """Two values in order, within bounds; each signal is emitted only for a change."""

    minimumValueChanged = QtCore.Signal(float)
    maximumValueChanged = QtCore.Signal(float)
    valuesChanged = QtCore.Signal(float, float)
    rangeChanged = QtCore.Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._bounds = (0.0, 99.0)
        self._values = (0.0, 99.0)
        self._step = 1.0

    def setRange(self, low: float, high: float) -> None:
        if low > high:
            raise NotModelledError(f"{type(self).__name__} with a range from {low} to {high}")
        if (low, high) != self._bounds:
            self._bounds = (low, high)
            self.rangeChanged.emit(low, high)
            self._take(*self._values)
        self._show()

    def setValues(self, low: float, high: float) -> None:
        if low > high:
            raise NotModelledError(f"{type(self).__name__} with values from {low} to {high}")
        self._take(low, high)

    def setMinimumValue(self, low: float) -> None:
        self.setValues(low, self._values[1])

    def setMaximumValue(self, high: float) -> None:
        self.setValues(self._values[0], high)

    def _take(self, low: float, high: float) -> None:
        before, (smallest, largest) = self._values, self._bounds
        self._values = tuple(min(max(v, smallest), largest) for v in (low, high))
        self._show()
        if self._values == before:
            return
        if self._values[0] != before[0]:
            self.minimumValueChanged.emit(self._values[0])
        if self._values[1] != before[1]:
            self.maximumValueChanged.emit(self._values[1])
        self.valuesChanged.emit(*self._values)

    def _show(self) -> None:
        self.update()

    def _set_step(self, step: float) -> None:
        self._step = step
        self._show()

    minimum = QtCore.Property(
        float,
        lambda self: self._bounds[0],
        lambda self, value: self.setRange(value, max(value, self._bounds[1])),
    )
    maximum = QtCore.Property(
        float,
        lambda self: self._bounds[1],
        lambda self, value: self.setRange(min(value, self._bounds[0]), value),
    )
    minimumValue = QtCore.Property(float, lambda self: self._values[0], setMinimumValue)
    maximumValue = QtCore.Property(float, lambda self: self._values[1], setMaximumValue)
    singleStep = QtCore.Property(float, lambda self: self._step, _set_step)


class ctkDoubleRangeSlider(_Range):
    """Two handles on one groove. It is painted, but takes no mouse."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._orientation = QtCore.Qt.Orientation.Horizontal

    def _set_orientation(self, orientation: QtCore.Qt.Orientation) -> None:
        if orientation != QtCore.Qt.Orientation.Horizontal:
            raise NotModelledError("a vertical ctkDoubleRangeSlider")

    orientation = QtCore.Property(
        QtCore.Qt.Orientation, lambda self: self._orientation, _set_orientation
    )

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(100, 22)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter, middle = QtGui.QPainter(self), self.height() // 2
        low, high = (self._position(value) for value in self._values)
        painter.fillRect(QtCore.QRect(0, middle - 1, self.width(), 3), self.palette().mid())
        painter.fillRect(QtCore.QRect(low, middle - 1, high - low, 3), self.palette().highlight())
        for left in (low, high):
            handle = QtCore.QRect(left, middle - 7, _HANDLE_WIDTH, 14)
            painter.fillRect(handle, self.palette().button())
            painter.drawRect(handle)

    def _position(self, value: float) -> int:
        """Left edge of the handle at ``value``, pixels."""
        smallest, largest = self._bounds
        part = (value - smallest) / (largest - smallest) if largest > smallest else 0.0
        return round(part * (self.width() - _HANDLE_WIDTH - 1))


class ctkRangeWidget(_Range):
    """The slider between two spin boxes."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = ctkDoubleRangeSlider(self)
        self._boxes = (QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self))
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._boxes[0])
        layout.addWidget(self._slider)
        layout.addWidget(self._boxes[1])
        self.setFocusProxy(self._boxes[0])
        self._show()
        self._boxes[0].valueChanged.connect(self.setMinimumValue)
        self._boxes[1].valueChanged.connect(self.setMaximumValue)

    def _take(self, low: float, high: float) -> None:
        decimals = self._boxes[0].decimals()  # the boxes round, so the values are what they show
        super()._take(round(low, decimals), round(high, decimals))

    def _show(self) -> None:
        """Bring slider and boxes up to date; each box ends where the other begins."""
        self._slider.setRange(*self._bounds)
        self._slider.setValues(*self._values)
        limits = ((self._bounds[0], self._values[1]), (self._values[0], self._bounds[1]))
        for box, limit, value in zip(self._boxes, limits, self._values, strict=True):
            blocker = QtCore.QSignalBlocker(box)
            box.setRange(*limit)
            box.setValue(value)
            box.setSingleStep(self._step)
            blocker.unblock()

    def setDecimals(self, decimals: int) -> None:
        for box in self._boxes:
            box.setDecimals(decimals)
        self._show()

    def _set_prefix(self, prefix: str) -> None:
        for box in self._boxes:
            box.setPrefix(prefix)

    def _set_suffix(self, suffix: str) -> None:
        for box in self._boxes:
            box.setSuffix(suffix)

    decimals = QtCore.Property(int, lambda self: self._boxes[0].decimals(), setDecimals)
    prefix = QtCore.Property(str, lambda self: self._boxes[0].prefix(), _set_prefix)
    suffix = QtCore.Property(str, lambda self: self._boxes[0].suffix(), _set_suffix)


CLASSES: dict[str, type] = {
    "ctkDoubleRangeSlider": ctkDoubleRangeSlider,
    "ctkRangeWidget": ctkRangeWidget,
}
