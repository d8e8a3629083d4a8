"""What belongs to the result that is shown: words, table, display, what-ifs, comparison, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from REACTKDLib.errors import InputError
from REACTKDLib.model_package import ModelPackage

from .compare_view import CompareView
from .context import context_from_slicer_application
from .display_view import DisplayView
from .inputs import Inputs, kept_inputs
from .layout import follow_chart_and_table
from .logic import Request, ShownCase
from .overlay_nodes import COMPARED, WHAT_IF, original_shown, remove_overlay
from .prognosis_nodes import ShownPrognosis
from .region_nodes import SurfaceMaker
from .report_files import Pictures, save_report
from .results_view import ResultsView
from .run_nodes import in_scene, show_only
from .runs import FinishedRun, Runs
from .stored_cases import stored_runs
from .view_pictures import view_pictures
from .volumes import refresh_legends, set_slice_layers
from .what_if_view import WhatIfView


class ResultPanel:
    """Shows one result, or none, in all the groups that belong to it, and its nodes in the views.

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
        self.ui, self._runs, self._read_again, self._say = ui, runs, read_again, say
        self._package: ModelPackage | None = None
        self._made_from: tuple[Inputs, int] | None = None
        self._surfaces: SurfaceMaker | None = None
        self._prognosis: ShownPrognosis | None = None
        self._while_saving = ExitStack()
        self._turn = qt.QTimer()
        self._turn.setInterval(0)
        self._turn.connect("timeout()", self._make_surface)
        self.results = ResultsView(ui)
        self.display = DisplayView(ui)
        self.what_if = WhatIfView(ui, runs, self._read_edited, self._adopt)
        self.compare = CompareView(ui, runs, self._adopt)
        self._groups = (ui.displayGroup, ui.whatIfGroup, ui.compareGroup, ui.reportButton)
        ui.reportButton.connect("clicked()", self.save_report)
        self.clear()

    @property
    def shown(self) -> ShownCase | None:
        """The result that is shown."""
        return self.results.shown

    def show(self, shown: ShownCase, run: FinishedRun | None, package: ModelPackage | None) -> None:
        """Show a result, and it alone; without its run it is one of a saved scene."""
        self.clear()
        context, nodes = context_from_slicer_application(), shown.nodes
        for role in (WHAT_IF, COMPARED):  # a scene may have been saved with them
            remove_overlay(context, nodes, role)
        show_only(context, nodes.run, stored_runs(context))
        # A saved scene is shown as it was: perhaps with the prognosis in the views.
        keep = self._prognosis_nodes(nodes.ct) if run is None else ()
        set_slice_layers(context, nodes.ct, nodes.attention, self.ui.opacitySlider.value, keep)
        refresh_legends(context)
        follow_chart_and_table(context, nodes.chart, nodes.table, keep)
        self._package, self._made_from = package, kept_inputs(nodes.document)
        self.results.show(shown, package)
        self.display.show(nodes)
        self.what_if.show(shown, run)
        self.compare.show(shown, run)
        for group in self._groups:
            group.visible = True
        self._surfaces = SurfaceMaker(nodes.regions)
        self._turn.start()

    def clear(self) -> None:
        """Show no result; its nodes in the scene stay."""
        self._turn.stop()
        self._surfaces = self._made_from = None
        self.ui.staleLabel.visible, self.ui.whatIfGroup.enabled = False, True
        for view in (self.results, self.display, self.what_if, self.compare):
            view.clear()
        for group in self._groups:
            group.visible = False
        self.beside(self._prognosis)

    def beside(self, prognosis: ShownPrognosis | None) -> None:
        """Which prognosis is shown, None for none: opacity and threshold act on its attention too,
        and it is part of the report."""
        self._prognosis = prognosis
        attention = prognosis.nodes.attention if prognosis is not None else None
        attention = attention if in_scene(attention) else None
        self.display.follow(attention)
        self.ui.displayGroup.visible = self.shown is not None or attention is not None
        self.ui.reportButton.visible = self.shown is not None or prognosis is not None

    def compare_inputs(self, inputs: Inputs | None) -> None:
        """Say so where a run would be made from other inputs than what is shown; what-ifs of it
        are not offered then."""
        stale = self.shown is not None and self._is_stale(inputs)
        self.ui.staleLabel.visible = stale
        self.ui.whatIfGroup.enabled = not stale

    def removed(self, node: Any) -> None:
        """A node is gone: without CT, attention, regions or numbers nothing is shown."""
        if self.shown is None:
            return
        nodes = self.shown.nodes
        if node in (nodes.ct, nodes.attention, nodes.regions, nodes.document):
            self.clear()

    def close(self) -> None:
        """Nothing happens later: the widgets are about to go."""
        self._turn.stop()
        self.what_if.close()

    def begin_saving(self) -> None:
        """A scene is saved with the original in its views, or the prognosis, not with a what-if."""
        if self.shown is not None:
            context, nodes = context_from_slicer_application(), self.shown.nodes
            keep = self._prognosis_nodes(nodes.ct)
            self._while_saving.enter_context(original_shown(context, nodes, keep))

    def end_saving(self) -> None:
        """Show what was shown before the scene was saved."""
        self._while_saving.close()

    def save_report(self) -> None:
        """Ask for a file and write the report of case and prognosis into it, as far as they are
        shown; its pictures are of the originals."""
        case, prognosis = self.shown, self._prognosis
        assert case is not None or prognosis is not None, "the button is there only with a result"
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
            written = save_report(
                case.result if case is not None else None,
                titles,
                Path(file),
                prognosis.result if prognosis is not None else None,
                Pictures(
                    lambda: _pictures_of(case.nodes if case is not None else None),
                    lambda: _pictures_of(prognosis.nodes if prognosis is not None else None),
                ),
            )
            self._say(_("Saved: {file}").format(file=", ".join(map(str, written))))

    def _prognosis_nodes(self, ct: Any) -> tuple[Any, ...]:
        """What views may show of the prognosis beside a result of ``ct``."""
        nodes = self._prognosis.nodes if self._prognosis is not None else None
        if nodes is None or nodes.ct not in (None, ct):
            return ()
        return tuple(n for n in (nodes.attention, nodes.chart, nodes.table) if in_scene(n))

    def _is_stale(self, inputs: Inputs | None) -> bool:
        return self._made_from is not None and not self._made_from[0].same_as(inputs)

    def _read_edited(self) -> Request:
        """The request with the segmentation as it is now, and otherwise as that of the result.

        Raises
        ------
        InputError : other inputs are chosen.
        """
        request = self._read_again()
        if self._is_stale(request.inputs):
            raise InputError(_("The inputs are no longer those of this result."), _("Press Apply."))
        return request

    def _adopt(self, shown: ShownCase) -> FinishedRun:
        """The run of a result that came with a saved scene.

        Raises
        ------
        InputError : the inputs are no longer what the result was made from.
        """
        request = self._read_edited()
        if self._made_from is None or request.checksum != self._made_from[1]:
            raise InputError(
                _("The segmentation is no longer that of this result."), _("Press Apply.")
            )
        return self._runs.adopt(request, shown.result)

    def _make_surface(self) -> None:
        """One surface in a turn of the event loop."""
        if self._surfaces is None or not in_scene(self._surfaces.node) or not self._surfaces.step():
            self._turn.stop()
            self._surfaces = None


def _pictures_of(nodes: Any | None) -> dict[str, bytes]:
    """Pictures of the views with the attention of these nodes; none without one in the scene."""
    if nodes is None or not in_scene(nodes.attention) or not in_scene(nodes.ct):
        return {}
    with original_shown(context_from_slicer_application(), nodes):
        return view_pictures()
