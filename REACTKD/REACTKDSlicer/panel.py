"""The module's panel: widgets on one side, parameters and runs on the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from REACTKDLib.errors import InputError, ReactKDError
from REACTKDLib.types import RESEARCH_USE

from .context import context_from_slicer_application
from .dependencies import (
    InstallationDeclined,
    SlicerInstaller,
    ensure_dependencies,
    note_after_restart,
)
from .inputs import inputs_of
from .logic import Request, ShownCase, read_request, show_result, validation
from .model_card_window import ModelCardWindow
from .options_view import OptionsView
from .parameter_sets_view import ParameterSetsView
from .parameters import ReactKDParameters
from .prognosis_panel import PrognosisPanel
from .region_nodes import show_outline_only
from .requirements import REQUIREMENTS, Requirement
from .result_panel import ResultPanel
from .run_progress import RunProgress
from .runs import Callbacks, FinishedRun, Runs
from .segments_table import SegmentsTable
from .stored_cases import stored_case, stored_run_of


class Panel(VTKObservationMixin):
    """Connects the widgets of ``REACTKD.ui`` with a parameter node and the runs.

    Parameters
    ----------
    ui : the widgets by name, as ``slicer.util.childWidgetVariables`` gives them.
    make_parameters : gives the scene's parameters, made if they are absent.
    runs : where runs are done.
    ensure : makes the packages available that a run needs; whether it installed any.
    """

    def __init__(
        self,
        ui: Any,
        make_parameters: Callable[[], ReactKDParameters],
        runs: Runs | None = None,
        ensure: Callable[[Collection[Requirement]], bool] = lambda needed: ensure_dependencies(
            SlicerInstaller(), needed
        ),
    ) -> None:
        super().__init__()
        self.ui = ui
        self.runs, self.ensure = runs or Runs(), ensure
        self._request: Request | None = None
        self.parameters: ReactKDParameters | None = None
        self._connection = 0
        self._sets = ParameterSetsView(ui, make_parameters, self._on_parameters_chosen)
        self.options = OptionsView(ui)
        self._entered = False
        self.results = ResultPanel(ui, self.runs, self._read_again, self._say)
        self.prognosis = PrognosisPanel(
            ui, self.runs, lambda needed: self.ensure(needed), self.update, self._show_log
        )
        self._segments = SegmentsTable(
            ui.segmentsTable,
            self._on_role_chosen,
            self.update,
            self.results.what_if.segmentation_edited,
        )
        self.model_card = ModelCardWindow(ui.modelCardButton, lambda: self.options.package)
        self._progress = RunProgress(ui.progressBar, self._say, self._show_log)
        ui.researchUseLabel.text = RESEARCH_USE
        ui.applyButton.connect("clicked()", self._on_apply_clicked)
        ui.totalSegmentatorButton.connect("clicked()", self._on_total_segmentator)
        ui.segmentEditorButton.connect("clicked()", self._on_segment_editor)
        ui.logGroup.connect("contentsCollapsed(bool)", self._show_log)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._on_scene_start_close)
        self.addObserver(scene, scene.StartSaveEvent, self._on_scene_start_save)
        self.addObserver(scene, scene.EndSaveEvent, self._on_scene_end_save)
        # After closing and after loading a scene; late, so that the selectors know its nodes.
        self.addObserver(scene, scene.EndBatchProcessEvent, self._on_scene_replaced, priority=-1.0)
        self.addObserver(scene, scene.NodeRemovedEvent, self._on_node_removed)
        self.update()

    def enter(self) -> None:
        """Follow the scene's parameters; called when the module is shown."""
        self._entered = True
        self._connect_parameters()
        if note := note_after_restart():
            self._say(note)

    def exit(self) -> None:
        """Stop following the parameters; called when the module is left."""
        self._entered = False
        self._disconnect_parameters()

    def cleanup(self) -> None:
        """Forget scene and parameters, end the worker; called before the module is unloaded."""
        self.cancel()
        self.prognosis.close()
        self.results.close()
        self.runs.close()
        self.model_card.close()
        self.exit()
        self.removeObservers()

    def update(self) -> None:
        """Bring the panel up to date with the parameters."""
        self._sets.show(self.parameters)
        self.options.show(self.parameters)
        parameters, package = self.parameters, self.options.package
        segmentation = parameters.segmentation if parameters else None
        rules = package.role_rules if package else ()
        chosen = parameters.chosen_roles() if parameters else {}
        self._segments.show(segmentation, rules, chosen)
        self.ui.segmentsTable.visible = self.ui.segmentsLabel.visible = segmentation is not None
        self.ui.totalSegmentatorButton.visible = _has_module("totalsegmentator")
        running = self._request is not None
        self.prognosis.update(parameters, running)
        self.results.beside(self.prognosis.view.shown)
        free = not running and not self.prognosis.running
        self.ui.inputsGroup.enabled = self.ui.optionsGroup.enabled = free
        # The run and its result belong to these parameters.
        self.ui.parametersComboBox.enabled = self.ui.newParametersButton.enabled = free
        self.ui.applyButton.text = _("Cancel") if running else _("Apply")
        self.ui.progressBar.visible = running
        if running:
            self.ui.applyButton.enabled = True
            self._progress.show()
            return
        ready, reason = validation(parameters, package) if parameters else (False, "")
        if ready and self.prognosis.running:
            ready, reason = False, _("A prognosis is being computed; Apply waits for its end.")
        self.ui.applyButton.enabled = ready
        self._say(self.options.problem or reason)
        if parameters is not None:
            self.results.compare_inputs(inputs_of(parameters, package))

    def apply(self) -> None:
        """Begin a run with the current parameters; when it fails, the panel says why."""
        parameters = self.parameters
        assert parameters is not None, "Apply is enabled only while parameters are shown"
        if self._request is not None or self.prognosis.running:
            self._say(_("A run is under way; cancel it first."))
            return
        if self.runs.busy:
            self.runs.cancel()  # a what-if
        self.results.clear()
        with slicer.util.tryWithErrorDisplay(_("REACTKD stopped."), waitCursor=True):
            try:
                if self.ensure(REQUIREMENTS):
                    self.runs.close()  # a worker that runs does not see what was installed
                request = read_request(parameters, slicer.mrmlScene)
                self._begin(request)
                self.runs.start(
                    request, Callbacks(self._progress.advance, self._on_done, self._on_failed)
                )
            except ReactKDError as error:
                self._on_failed(error)
            except BaseException:
                self._end(_("REACTKD stopped unexpectedly; the Python console shows why."))
                raise

    def cancel(self) -> None:
        """Stop the run that is under way, if there is one; the scene is as before it."""
        if self._request is not None:
            self.runs.cancel()
            self._end(_("Cancelled; the scene is as it was."))

    def _on_apply_clicked(self) -> None:
        if self._request is None:
            self.apply()
        else:
            self.cancel()

    def _begin(self, request: Request) -> None:
        self._request = request
        self._progress.begin()
        self.update()

    def _end(self, text: str) -> None:
        """Back to where Apply may be pressed; ``text`` says how the run ended."""
        self._progress.end()
        self._request = None
        self._show_log()
        self.update()
        if text:
            self._say(text)

    def _on_done(self, run: FinishedRun) -> None:
        problem = _("REACTKD stopped unexpectedly; the Python console shows why.")
        try:
            with slicer.util.tryWithErrorDisplay(_("REACTKD stopped."), waitCursor=True):
                context = context_from_slicer_application()
                shown = show_result(run.request, run.result, context, surfaces=False)
                show_outline_only(self.parameters.segmentation if self.parameters else None)
                problem = ""
        finally:
            self._end(problem)
        self.results.show(shown, run, run.request.package)
        self.update()

    def _on_failed(self, error: ReactKDError) -> None:
        self._end(str(error))
        if not isinstance(error, InstallationDeclined):
            slicer.util.errorDisplay(str(error))

    def _restore_result(self) -> None:
        """Show the results that the scene has of the chosen CT with these parameters."""
        self.prognosis.restore()
        if self._request is not None or self.parameters is None:
            return
        context, parameters = context_from_slicer_application(), self.parameters
        run = stored_run_of(context.scene, parameters.ct, parameters.parameterNode)
        shown = self.results.shown
        if parameters.ct is None or run in (None, shown and shown.nodes.run):
            return
        try:
            self.results.show(ShownCase(*stored_case(context, run)), None, self.options.package)
        except InputError as error:
            self._say(str(error))
        else:
            self.update()

    def _read_again(self) -> Request:
        """What Apply would run now, for the class that is explained."""
        assert self.parameters is not None
        assert self.results.shown is not None
        request = read_request(self.parameters, slicer.mrmlScene)
        return dataclasses.replace(request, target=self.results.shown.result.target)

    def _show_log(self, collapsed: bool = False) -> None:
        if not self.ui.logGroup.collapsed:
            text = self.runs.worker.log()
            if text != self.ui.logText.plainText:
                self.ui.logText.setPlainText(text)

    def _connect_parameters(self) -> None:
        if self.parameters is None:
            self.parameters = self._sets.current()
            self.options.choose_default(self.parameters)
            self._connection = self.parameters.connectGui(self.ui)
            self.addObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._on_modified)
        self.update()
        self._restore_result()

    def _disconnect_parameters(self) -> None:
        if self.parameters is None:
            return
        self.parameters.disconnectGui(self._connection)
        self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._on_modified)
        self.parameters = None
        self.update()

    def _say(self, text: str) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.visible = bool(text)
        self.ui.applyButton.toolTip = text or _("Run the model on the chosen CT.")

    def _on_modified(self, caller: Any, event: str) -> None:
        self.update()
        self._restore_result()

    def _on_parameters_chosen(self) -> None:
        self.results.clear()
        self.prognosis.view.clear()
        self._disconnect_parameters()
        self._connect_parameters()

    def _on_role_chosen(self, segment_id: str, role: str) -> None:
        if self.parameters is not None:
            self.parameters.choose_role(segment_id, role)

    def _on_total_segmentator(self) -> None:
        slicer.util.selectModule("TotalSegmentator")

    def _on_segment_editor(self) -> None:
        slicer.util.selectModule("SegmentEditor")

    def _on_scene_start_close(self, caller: Any, event: str) -> None:
        self.cancel()
        self.prognosis.cancel()
        self._disconnect_parameters()
        self.results.clear()
        self.prognosis.view.clear()

    def _on_scene_replaced(self, caller: Any, event: str) -> None:
        if self._entered:
            self._disconnect_parameters()
            self._connect_parameters()

    def _on_scene_start_save(self, caller: Any, event: str) -> None:
        self.results.begin_saving()

    def _on_scene_end_save(self, caller: Any, event: str) -> None:
        self.results.end_saving()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller: Any, event: str, node: Any) -> None:
        self.results.removed(node)
        self.prognosis.removed(node)
        if self._request is not None and node is self._request.ct:
            self.runs.cancel()
            self._end(_("Cancelled: the CT was removed from the scene."))


def _has_module(name: str) -> bool:
    """Whether a module of another extension is there."""
    return hasattr(slicer.modules, name)
