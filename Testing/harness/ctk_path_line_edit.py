"""Stand-in for ``ctkPathLineEdit``: a path to type, and its history in the settings."""

# ruff: noqa: N801 - the class has CTK's name

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

_HISTORY_LENGTH = 10
_Filter = QtCore.QDir.Filter


class ctkPathLineEdit(QtWidgets.QWidget):
    """An editable combo box: its text is the path, its items are the paths chosen before.

    Whether the path exists is not checked, and ``browse`` opens no dialog.
    """

    currentPathChanged = QtCore.Signal(str)

    # The flags have the values of QDir's, by these names.
    Dirs, Files, Drives = _Filter.Dirs, _Filter.Files, _Filter.Drives
    NoSymLinks, AllEntries = _Filter.NoSymLinks, _Filter.AllEntries
    Readable, Writable, Executable = _Filter.Readable, _Filter.Writable, _Filter.Executable
    Hidden, System = _Filter.Hidden, _Filter.System
    NoDot, NoDotDot, NoDotAndDotDot = _Filter.NoDot, _Filter.NoDotDot, _Filter.NoDotAndDotDot

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QtWidgets.QComboBox(self)
        self._box.setEditable(True)
        self._box.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self._button = QtWidgets.QToolButton(self)
        self._button.setText("\N{HORIZONTAL ELLIPSIS}")
        self._button.setEnabled(False)  # browsing is not modelled
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box, 1)
        layout.addWidget(self._button)
        self.setFocusProxy(self._box)
        self._filters = _Filter.AllEntries | _Filter.NoDotAndDotDot | _Filter.Readable
        self._name_filters: list[str] = []
        self._key = ""
        self._box.editTextChanged.connect(self.currentPathChanged.emit)

    def setCurrentPath(self, path: str) -> None:
        self._box.setEditText(path)

    def addCurrentPathToHistory(self) -> None:
        """Put the path first in the history; without a key, nothing is stored."""
        path = self._box.currentText()
        if not self._key or not path:
            return
        paths = [path, *(p for p in self._history() if p != path)][:_HISTORY_LENGTH]
        QtCore.QSettings().setValue(self._key, paths)
        self._offer(paths)

    def retrieveHistory(self) -> None:
        """Offer the stored paths and show the newest."""
        paths = self._history()
        self._offer(paths)
        if paths:
            self.setCurrentPath(paths[0])

    def _history(self) -> list[str]:
        stored = QtCore.QSettings().value(self._key) if self._key else None
        return [stored] if isinstance(stored, str) else list(stored or ())

    def _offer(self, paths: list[str]) -> None:
        shown = self._box.currentText()
        blocker = QtCore.QSignalBlocker(self._box)
        self._box.clear()
        self._box.addItems(paths)
        self._box.setEditText(shown)
        blocker.unblock()

    def _set_key(self, key: str) -> None:
        self._key = key
        self.retrieveHistory()

    def _set_filters(self, filters: _Filter) -> None:
        self._filters = filters

    def _set_name_filters(self, patterns: list[str]) -> None:
        self._name_filters = list(patterns)

    currentPath = QtCore.Property(str, lambda self: self._box.currentText(), setCurrentPath)
    settingKey = QtCore.Property(str, lambda self: self._key, _set_key)
    filters = QtCore.Property("QVariant", lambda self: self._filters, _set_filters)
    nameFilters = QtCore.Property("QStringList", lambda self: self._name_filters, _set_name_filters)
    showBrowseButton = QtCore.Property(
        bool,
        lambda self: not self._button.isHidden(),
        lambda self, shown: self._button.setVisible(shown),
    )


CLASSES: dict[str, type] = {"ctkPathLineEdit": ctkPathLineEdit}
