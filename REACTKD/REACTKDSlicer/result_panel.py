"""What belongs to the result that is shown: words, table, display, what-ifs, comparison, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from REACTKDLib.model_package import ModelPackage

from .compare_view import CompareView
from .display_view import DisplayView
from .logic import Request, ShownCase
from .report_files import save_report
from .results_view import ResultsView
from .runs import FinishedRun, Runs
from .what_if_view import WhatIfView


class ResultPanel:
    """Shows one result, or none, in all the groups that belong to it.

    Parameters
    ----------
    ui : the panel's widgets.
    runs : where what-ifs and other classes are run.
    read_again : the request as the scene has it now.
    say : tells the user how something ended.
    """

    def __init__(
        self,
        ui: Any,
        runs: Runs,
        read_again: Callable[[], Request],
        say: Callable[[str], None],
    ) -> None:
        self._runs, self._read_again, self._say = runs, read_again, say
        self._package: ModelPackage | None = None
        self.results = ResultsView(ui)
        self.display = DisplayView(ui)
        self.what_if = WhatIfView(ui, runs, read_again, self._adopt)
        self.compare = CompareView(ui, runs, self._adopt)
        self._groups = (ui.displayGroup, ui.whatIfGroup, ui.compareGroup, ui.reportButton)
        ui.reportButton.connect("clicked()", self.save_report)
        self.clear()

    @property
    def shown(self) -> ShownCase | None:
        """The result that is shown."""
        return self.results.shown

    def show(self, shown: ShownCase, run: FinishedRun | None, package: ModelPackage | None) -> None:
        """Show a result; without its run it is one of a saved scene."""
        self._package = package
        self.results.show(shown, package)
        self.display.show(shown.nodes)
        self.what_if.show(shown, run)
        self.compare.show(shown, run)
        for group in self._groups:
            group.visible = True

    def clear(self) -> None:
        """Show no result; the nodes in the scene stay."""
        for view in (self.results, self.display, self.what_if, self.compare):
            view.clear()
        for group in self._groups:
            group.visible = False

    def shows(self, node: Any) -> bool:
        """Whether a node is part of what is shown."""
        return self.shown is not None and node in (self.shown.nodes.ct, self.shown.nodes.attention)

    def save_report(self) -> None:
        """Ask for a file and write the report into it."""
        assert self.shown is not None, "the button is there only with a result"
        file = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(),
            _("Save the report"),
            "reactkd_report.html",
            "HTML (*.html);;PDF (*.pdf);;CSV (*.csv)",
        )
        if not file:
            return
        titles = {m.name: m.title for m in self._package.modalities} if self._package else {}
        with slicer.util.tryWithErrorDisplay(_("The report was not saved."), waitCursor=True):
            save_report(self.shown.result, titles, Path(file))
            self._say(_("Saved: {file}").format(file=file))

    def _adopt(self, shown: ShownCase) -> FinishedRun:
        return self._runs.adopt(self._read_again(), shown.result)
