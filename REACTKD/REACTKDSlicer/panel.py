"""The module's panel: widgets on one side, parameters and runs on the other."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from REACTKDLib.errors import InputError, ModelPackageError, ReactKDError
from REACTKDLib.model_package import ModelPackage, shipped_packages
from REACTKDLib.types import RESEARCH_USE

from .context import context_from_slicer_application
from .dependencies import (
    InstallationDeclined,
    SlicerInstaller,
    ensure_dependencies,
    note_after_restart,
)
from .logic import (
    Request,
    ShownCase,
    package_of,
    read_request,
    run_name,
    show_result,
    stored_package_name,
    validation,
)
from .model_card_window import ModelCardWindow
from .parameter_sets import new_parameter_node, parameter_nodes
from .parameters import MOST_PROBABLE, ReactKDParameters
from .region_nodes import show_outline_only
from .result_panel import ResultPanel
from .runs import Callbacks, FinishedRun, Runs
from .segments_table import SegmentsTable
from .stored_cases import stored_case, stored_runs

#: How often the elapsed time is shown anew, ms.
_CLOCK_MS = 500


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
        ensure: Callable[[], bool] = lambda: ensure_dependencies(SlicerInstaller()),
    ) -> None:
        super().__init__()
        self.ui = ui
        self.runs, self.ensure = runs or Runs(), ensure
        self._request: Request | None = None
        self._stage, self._began = "", 0.0
        self.parameters: ReactKDParameters | None = None
        self._make_parameters = make_parameters
        self._connection = 0
        self._chosen_id = ""
        self._package: ModelPackage | None = None
        self._package_problem = ""
        self._shipped = shipped_packages()
        self._followed: Any = None
        self._updating = False
        self._entered = False
        self.results = ResultPanel(ui, self.runs, self._read_again, self._say)
        self._segments = SegmentsTable(ui.segmentsTable, self._on_role_chosen)
        self.model_card = ModelCardWindow(ui.modelCardButton, lambda: self._package)
        self._clock = qt.QTimer()
        self._clock.setInterval(_CLOCK_MS)
        self._clock.connect("timeout()", self._on_clock)
        ui.researchUseLabel.text = RESEARCH_USE
        ui.progressBar.visible = False
        ui.modelComboBox.connect("currentIndexChanged(int)", self._on_model_chosen)
        ui.modelFolderButton.connect("clicked()", self._on_choose_model_folder)
        ui.targetComboBox.connect("currentIndexChanged(int)", self._on_target_chosen)
        ui.applyButton.connect("clicked()", self._on_apply_clicked)
        ui.totalSegmentatorButton.connect("clicked()", self._on_total_segmentator)
        ui.segmentEditorButton.connect("clicked()", self._on_segment_editor)
        ui.parametersComboBox.connect("currentIndexChanged(int)", self._on_parameters_chosen)
        ui.newParametersButton.connect("clicked()", self._on_new_parameters)
        ui.logGroup.connect("contentsCollapsed(bool)", self._show_log)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._on_scene_start_close)
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
        self.runs.close()
        self.model_card.close()
        self.exit()
        self.removeObservers()

    def update(self) -> None:
        """Bring the panel up to date with the parameters."""
        self._updating = True
        try:
            self._load_package()
            self._show_parameter_sets()
            self._show_models()
            self._show_targets()
        finally:
            self._updating = False
        parameters, package = self.parameters, self._package
        segmentation = parameters.segmentation if parameters else None
        self._follow_segmentation(segmentation)
        rules = package.role_rules if package else ()
        chosen = parameters.chosen_roles() if parameters else {}
        self._segments.show(segmentation, rules, chosen)
        self.ui.segmentsTable.visible = self.ui.segmentsLabel.visible = segmentation is not None
        self.ui.totalSegmentatorButton.visible = _has_module("totalsegmentator")
        running = self._request is not None
        self.ui.inputsGroup.enabled = self.ui.optionsGroup.enabled = not running
        self.ui.applyButton.text = _("Cancel") if running else _("Apply")
        self.ui.progressBar.visible = running
        if running:
            self.ui.applyButton.enabled = True
            self._show_stage()
            return
        ready, reason = validation(parameters, package) if parameters else (False, "")
        self.ui.applyButton.enabled = ready
        self._say(self._package_problem or reason)

    def apply(self) -> None:
        """Begin a run with the current parameters; when it fails, the panel says why."""
        parameters = self.parameters
        assert parameters is not None, "Apply is enabled only while parameters are shown"
        if self._request is not None:
            self._say(_("A run is under way; cancel it first."))
            return
        if self.runs.busy:
            self.runs.cancel()  # a what-if
        self.results.clear()
        with slicer.util.tryWithErrorDisplay(_("REACTKD stopped."), waitCursor=True):
            try:
                if self.ensure():
                    self.runs.close()  # a worker that runs does not see what was installed
                request = read_request(parameters, slicer.mrmlScene)
                self._begin(request)
                self.runs.start(
                    request, Callbacks(self._on_progress, self._on_done, self._on_failed)
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
        self._stage, self._began = _("starting"), time.monotonic()
        self.ui.progressBar.value = 0
        self._clock.start()
        self.update()

    def _end(self, text: str) -> None:
        """Back to where Apply may be pressed; ``text`` says how the run ended."""
        self._clock.stop()
        self._request = None
        self._show_log()
        self.update()
        if text:
            self._say(text)

    def _on_progress(self, stage: str, done: float) -> None:
        self._stage = stage
        self.ui.progressBar.value = round(100 * done)
        self._show_stage()

    def _on_done(self, run: FinishedRun) -> None:
        problem = _("REACTKD stopped unexpectedly; the Python console shows why.")
        try:
            with slicer.util.tryWithErrorDisplay(_("REACTKD stopped."), waitCursor=True):
                shown = show_result(run.request, run.result, context_from_slicer_application())
                show_outline_only(self.parameters.segmentation if self.parameters else None)
                problem = ""
        finally:
            self._end(problem)
        self.results.show(shown, run, run.request.package)

    def _on_failed(self, error: ReactKDError) -> None:
        self._end(str(error))
        if not isinstance(error, InstallationDeclined):
            slicer.util.errorDisplay(str(error))

    def _restore_result(self) -> None:
        """Show the result that a saved scene has of the chosen CT."""
        if self.results.shown is not None or self._request is not None or self.parameters is None:
            return
        context = context_from_slicer_application()
        if self.parameters.ct is None:
            return
        run = run_name(self.parameters, context.scene)
        if run not in stored_runs(context):
            return
        try:
            self.results.show(ShownCase(*stored_case(context, run)), None, self._package)
        except InputError as error:
            self._say(str(error))

    def _read_again(self) -> Request:
        """What Apply would run now, for the class that is explained."""
        assert self.parameters is not None
        assert self.results.shown is not None
        request = read_request(self.parameters, slicer.mrmlScene)
        return dataclasses.replace(request, target=self.results.shown.result.target)

    def _on_clock(self) -> None:
        self._show_stage()
        self._show_log()

    def _show_stage(self) -> None:
        elapsed = int(time.monotonic() - self._began)
        self._say(_("Running: {stage}, {seconds} s").format(stage=self._stage, seconds=elapsed))

    def _show_log(self, collapsed: bool = False) -> None:
        if not self.ui.logGroup.collapsed:
            text = self.runs.worker.log()
            if text != self.ui.logText.plainText:
                self.ui.logText.setPlainText(text)

    def _connect_parameters(self) -> None:
        if self.parameters is None:
            self.parameters = self._chosen_parameters()
            if not self.parameters.model_package and self._shipped:
                self.parameters.model_package = stored_package_name(self._shipped[0])
            self._connection = self.parameters.connectGui(self.ui)
            self.addObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._on_modified)
        self.update()
        self._restore_result()

    def _chosen_parameters(self) -> ReactKDParameters:
        """Those that the user chose last, while the scene has them; else the module's own."""
        default = self._make_parameters()
        chosen = slicer.mrmlScene.GetNodeByID(self._chosen_id) if self._chosen_id else None
        return default if chosen is None else ReactKDParameters(chosen)

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

    def _load_package(self) -> None:
        self._package, self._package_problem = None, ""
        if self.parameters is None or not self.parameters.model_package:
            return
        try:
            self._package = package_of(self.parameters.model_package)
        except ModelPackageError as error:
            self._package_problem = str(error)

    def _show_parameter_sets(self) -> None:
        items = [(node.GetName(), node.GetID()) for node in parameter_nodes()]
        current = self.parameters.parameterNode.GetID() if self.parameters else ""
        _fill(self.ui.parametersComboBox, items, current)

    def _show_models(self) -> None:
        stored = self.parameters.model_package if self.parameters else ""
        names = [stored_package_name(folder) for folder in self._shipped]
        if stored and stored not in names:
            names.append(stored)
        _fill(self.ui.modelComboBox, [(Path(name).name, name) for name in names], stored)

    def _show_targets(self) -> None:
        items = [(_("Most probable class"), MOST_PROBABLE)]
        if self._package is not None:
            items += [(info.title, info.name) for info in self._package.classes]
        target = self.parameters.target_class if self.parameters else MOST_PROBABLE
        _fill(self.ui.targetComboBox, items, target)

    def _follow_segmentation(self, node: Any) -> None:
        """Observe the segments of ``node``: adding or renaming one may complete the inputs."""
        if node is self._followed:
            return
        self.removeObservers(self._on_segments_changed)
        self.removeObservers(self._on_segmentation_edited)
        self._followed = node
        if node is None:
            return
        segmentation = node.GetSegmentation()
        for event in (
            segmentation.SegmentAdded,
            segmentation.SegmentRemoved,
            segmentation.SegmentModified,
        ):
            self.addObserver(segmentation, event, self._on_segments_changed)
        drawn = segmentation.SourceRepresentationModified
        self.addObserver(segmentation, drawn, self._on_segmentation_edited)

    def _on_modified(self, caller: Any, event: str) -> None:
        self.update()

    def _on_segments_changed(self, caller: Any, event: str) -> None:
        self.update()

    def _on_segmentation_edited(self, caller: Any, event: str) -> None:
        self.results.what_if.segmentation_edited()

    def _on_model_chosen(self, index: int) -> None:
        if not self._updating and self.parameters is not None and index >= 0:
            self.parameters.model_package = self.ui.modelComboBox.itemData(index)

    def _on_parameters_chosen(self, index: int) -> None:
        if not self._updating and self.parameters is not None and index >= 0:
            self._chosen_id = self.ui.parametersComboBox.itemData(index)
            self.results.clear()
            self._disconnect_parameters()
            self._connect_parameters()

    def _on_new_parameters(self) -> None:
        if self.parameters is not None:
            node = new_parameter_node(self.parameters.parameterNode)
            self.update()
            self.ui.parametersComboBox.setCurrentIndex(
                self.ui.parametersComboBox.findData(node.GetID())
            )

    def _on_role_chosen(self, segment_id: str, role: str) -> None:
        if self.parameters is not None:
            self.parameters.choose_role(segment_id, role)

    def _on_total_segmentator(self) -> None:
        slicer.util.selectModule("TotalSegmentator")

    def _on_segment_editor(self) -> None:
        slicer.util.selectModule("SegmentEditor")

    def _on_choose_model_folder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Choose the folder of a model package")
        )
        if folder and self.parameters is not None:
            self.parameters.model_package = stored_package_name(Path(folder))

    def _on_target_chosen(self, index: int) -> None:
        if not self._updating and self.parameters is not None and index >= 0:
            self.parameters.target_class = self.ui.targetComboBox.itemData(index)

    def _on_scene_start_close(self, caller: Any, event: str) -> None:
        self.cancel()
        self._disconnect_parameters()
        self.results.clear()

    def _on_scene_replaced(self, caller: Any, event: str) -> None:
        if self._entered:
            self._disconnect_parameters()
            self._connect_parameters()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller: Any, event: str, node: Any) -> None:
        if self.results.shows(node):
            self.results.clear()
        if self._request is not None and node is self._request.ct:
            self.runs.cancel()
            self._end(_("Cancelled: the CT was removed from the scene."))


def _fill(combo: Any, items: list[tuple[str, str]], current: str) -> None:
    """Give a combo box these texts and data, and choose the item with the data ``current``.

    A box that has them already is not refilled: that would close it under the user's hand.
    """
    if [(combo.itemText(n), combo.itemData(n)) for n in range(combo.count)] != items:
        combo.clear()
        for text, data in items:
            combo.addItem(text, data)
    combo.setCurrentIndex(combo.findData(current))


def _has_module(name: str) -> bool:
    """Whether a module of another extension is there."""
    return hasattr(slicer.modules, name)
