"""The group "What if": changes of the study, and what they would have changed in the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from REACTKDLib.errors import ReactKDError
from REACTKDLib.types import CaseResult, WhatIf

from . import result_text
from .context import context_from_slicer_application
from .logic import Request, ShownCase
from .runs import Callbacks, FinishedRun, Runs
from .what_if_nodes import hide_what_if, show_what_if

#: Columns; then what-if and change.
_REGION, _BEFORE = range(2)

#: A moment, so that a user may tick several regions, ms.
_DELAY_MS = 300

#: Photons per ray of the doses that can be chosen, as in REACT-KD.
_PHOTONS = (1e6, 5e4, 1e4, 1e3, 5e2)


class WhatIfView:
    """Runs what-ifs of the result that is shown, the latest wish last, one at a time.

    Parameters
    ----------
    ui : the panel's widgets.
    runs : where they are run.
    read_again : the request as the scene has it now, for edits of the segmentation.
    adopt : the finished run of a result that came with a saved scene, made when it is needed.
    """

    def __init__(
        self,
        ui: Any,
        runs: Runs,
        read_again: Callable[[], Request],
        adopt: Callable[[ShownCase], FinishedRun],
    ) -> None:
        self.ui, self._runs = ui, runs
        self._read_again, self._adopt = read_again, adopt
        self._shown: ShownCase | None = None
        self._run: FinishedRun | None = None
        self._waiting = self._filling = False
        self._edited = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.connect("timeout()", self.start)
        ui.doseComboBox.addItem(_("as it is"), 0.0)
        for photons in _PHOTONS:
            ui.doseComboBox.addItem(_("{photons:g} photons").format(photons=photons), photons)
        ui.doseComboBox.connect("currentIndexChanged(int)", self._on_changed)
        ui.whatIfTable.connect("itemChanged(QTableWidgetItem*)", self._on_changed)
        ui.whatIfResetButton.connect("clicked()", self.reset)
        table = ui.whatIfTable
        table.verticalHeader().hide()
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(_REGION, qt.QHeaderView.Stretch)

    @property
    def changes(self) -> WhatIf:
        """What the widgets say now."""
        table = self.ui.whatIfTable
        names = [table.item(n, _REGION) for n in range(table.rowCount)]
        hidden = [i.data(qt.Qt.UserRole) for i in names if i.checkState() == qt.Qt.Checked]
        photons = self.ui.doseComboBox.itemData(self.ui.doseComboBox.currentIndex)
        return WhatIf(tuple(hidden), photons or None)

    def show(self, shown: ShownCase, run: FinishedRun | None) -> None:
        """Offer what-ifs of a result; without its run it is one of a saved scene."""
        self.clear()
        self._shown, self._run = shown, run
        self._fill(shown.result, None)

    def clear(self) -> None:
        """There is no result."""
        self._timer.stop()
        self._shown = self._run = None
        self._waiting = self._edited = False
        self._fill(None, None)

    def reset(self) -> None:
        """Take all changes back and show the original."""
        shown, run = self._shown, self._run
        if shown is None:
            return
        hide_what_if(context_from_slicer_application(), shown.nodes)
        self.show(shown, run)

    def segmentation_edited(self) -> None:
        """The chosen segmentation has changed."""
        if self._shown is not None and self.ui.editedCheckBox.checked:
            self._edited = True
            self._timer.start()

    def start(self) -> None:
        """Run what the widgets say, now or when what runs has ended."""
        shown = self._shown
        if shown is None:
            return
        if self._runs.busy:
            self._waiting = True
            return
        self._waiting = False
        changes = self.changes
        if not self._edited and changes == WhatIf():
            self.reset()
            return
        self.ui.whatIfAnswerLabel.text = _("Asking the model…")
        callbacks = Callbacks(lambda stage, done: None, self._on_done, self._on_failed)
        try:
            if self._edited:
                self._runs.start(self._read_again(), callbacks)
            else:
                if self._run is None:
                    self._run = self._adopt(shown)
                self._runs.what_if(self._run, changes, callbacks)
        except ReactKDError as error:
            self._on_failed(error)

    def _on_changed(self, *ignored: Any) -> None:
        if not self._filling and self._shown is not None:
            self._edited = False
            self._timer.start()

    def _on_done(self, run: FinishedRun) -> None:
        shown = self._shown
        if shown is not None and not self._waiting:
            show_what_if(context_from_slicer_application(), run.result, shown.nodes)
            self._fill(shown.result, run.result)
        self._go_on()

    def _on_failed(self, error: ReactKDError) -> None:
        self.ui.whatIfAnswerLabel.text = str(error)
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self.start()

    def _fill(self, before: CaseResult | None, after: CaseResult | None) -> None:
        """Rows and answer; ticks stay where the rows do."""
        table, ticked = self.ui.whatIfTable, set(self.changes.hidden)
        self._filling = True
        try:
            rows = result_text.change_rows(before, after) if before is not None else ()
            table.setRowCount(len(rows))
            for n, row in enumerate(rows):
                name = qt.QTableWidgetItem(row.name)
                name.setToolTip(row.name)
                name.setData(qt.Qt.UserRole, row.region_id)
                name.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
                hidden = after is not None and row.region_id in ticked
                name.setCheckState(qt.Qt.Checked if hidden else qt.Qt.Unchecked)
                table.setItem(n, _REGION, name)
                for column, value in enumerate((row.before, row.after, row.change), _BEFORE):
                    table.setItem(n, column, _number(value))
            if after is None:
                self.ui.doseComboBox.setCurrentIndex(0)
            text = result_text.what_if_line(before, after) if before and after else ""
            self.ui.whatIfAnswerLabel.text = text
        finally:
            self._filling = False


def _number(value: float | None) -> Any:
    item = qt.QTableWidgetItem("" if value is None else f"{round(value, 2) + 0.0:+.2f}")
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item
