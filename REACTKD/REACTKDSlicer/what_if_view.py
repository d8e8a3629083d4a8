"""The group "What if": changes of the study, and what they would have changed in the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from REACTKDLib.dose import DOSES
from REACTKDLib.errors import ReactKDError
from REACTKDLib.types import CaseResult, WhatIf

from . import result_text
from .changes_table import fill_changes_table, prepare_changes_table, ticked_regions
from .context import context_from_slicer_application
from .logic import Request, ShownCase
from .overlay_nodes import WHAT_IF, add_overlay, entitle, remove_overlay, show_in_place
from .runs import Callbacks, FinishedRun, Runs

#: A moment, so that a user may tick several regions, ms.
_DELAY_MS = 300

#: Kind of these questions.
_KIND = "what if"


class WhatIfView:
    """Asks what-ifs of the result that is shown; the latest wish counts.

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
        self._filling = self._edited = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.connect("timeout()", self.start)
        ui.doseComboBox.addItem(_("as it is"), 0.0)
        for photons in DOSES.values():
            ui.doseComboBox.addItem(_("{photons:g} photons").format(photons=photons), photons)
        ui.doseComboBox.connect("currentIndexChanged(int)", self._on_changed)
        ui.whatIfTable.connect("itemChanged(QTableWidgetItem*)", self._on_changed)
        ui.whatIfResetButton.connect("clicked()", self.reset)
        prepare_changes_table(ui.whatIfTable)

    @property
    def changes(self) -> WhatIf:
        """What the widgets say now."""
        photons = self.ui.doseComboBox.itemData(self.ui.doseComboBox.currentIndex)
        return WhatIf(ticked_regions(self.ui.whatIfTable), photons or None)

    def show(self, shown: ShownCase, run: FinishedRun | None) -> None:
        """Offer what-ifs of a result; without its run it is one of a saved scene."""
        self.clear()
        self._shown, self._run = shown, run
        self._fill(shown.result, None)

    def clear(self) -> None:
        """There is no result; nothing of a what-if stays in the scene."""
        self._timer.stop()
        self._runs.forget(_KIND)
        if self._shown is not None:
            remove_overlay(context_from_slicer_application(), self._shown.nodes, WHAT_IF)
        self._shown = self._run = None
        self._edited = False
        self._fill(None, None)

    def reset(self) -> None:
        """Take all changes back and show the original."""
        if self._shown is not None:
            self.show(self._shown, self._run)

    def segmentation_edited(self) -> None:
        """The chosen segmentation has changed."""
        ui = self.ui
        if self._shown is not None and ui.editedCheckBox.checked and ui.whatIfGroup.enabled:
            self._edited = True
            self._timer.start()

    def close(self) -> None:
        """Ask nothing any more: the widgets are about to go."""
        self._timer.stop()

    def start(self) -> None:
        """Ask what the widgets say."""
        if self._shown is None:
            return
        if not self._edited and self.changes == WhatIf():
            self.reset()
            return
        self.ui.whatIfAnswerLabel.text = _("Asking the model…")
        callbacks = Callbacks(lambda stage, done: None, self._on_done, self._on_failed)
        self._runs.ask(_KIND, self._begin, callbacks)

    def _begin(self, callbacks: Callbacks) -> None:
        """Begin with what the widgets and the scene say when the worker is free."""
        assert self._shown is not None, "a result that is cleared forgets its questions"
        if self._edited:
            self._runs.start(self._read_again(), callbacks)
            return
        if self._run is None:
            self._run = self._adopt(self._shown)
        self._runs.what_if(self._run, self.changes, callbacks)

    def _on_changed(self, *ignored: Any) -> None:
        if not self._filling and self._shown is not None:
            self._edited = False
            self._timer.start()

    def _on_done(self, run: FinishedRun) -> None:
        shown = self._shown
        assert shown is not None, "a result that is cleared forgets its questions"
        context = context_from_slicer_application()
        try:
            overlay = add_overlay(context, run.result, shown.nodes, WHAT_IF, _("What if"))
        except ReactKDError as error:
            self._on_failed(error)
            return
        show_in_place(context, shown.nodes, overlay)
        entitle(context, run.result, overlay, _("What if"))
        self._fill(shown.result, run.result)

    def _on_failed(self, error: ReactKDError) -> None:
        """The answer is not there: neither is that of an earlier what-if any more."""
        assert self._shown is not None, "a result that is cleared forgets its questions"
        remove_overlay(context_from_slicer_application(), self._shown.nodes, WHAT_IF)
        self._filling = True
        try:
            ticked = self.changes.hidden
            fill_changes_table(self.ui.whatIfTable, self._shown.result, None, ticked)
        finally:
            self._filling = False
        self.ui.whatIfAnswerLabel.text = str(error)

    def _fill(self, before: CaseResult | None, after: CaseResult | None) -> None:
        """Rows and answer; ticks stay where there is an answer to them."""
        ticked = self.changes.hidden if after is not None and not self._edited else ()
        self._filling = True
        try:
            fill_changes_table(self.ui.whatIfTable, before, after, ticked)
            if after is None:
                self.ui.doseComboBox.setCurrentIndex(0)
            text = result_text.what_if_text(before, after) if before and after else ""
            self.ui.whatIfAnswerLabel.text = text
        finally:
            self._filling = False
