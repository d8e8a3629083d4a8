"""The module's panel: widgets on one side, parameters and runs on the other."""

from __future__ import annotations

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
from .dependencies import InstallationDeclined, SlicerInstaller, ensure_dependencies
from .logic import (
    CaseRunner,
    ShownCase,
    package_of,
    run_and_show,
    run_in_this_process,
    segments_used,
    stored_package_name,
    validation,
)
from .parameters import MOST_PROBABLE, ReactKDParameters
from .results_view import ResultsView


class Panel(VTKObservationMixin):
    """Connects the widgets of ``REACTKD.ui`` with a parameter node and the runs.

    Parameters
    ----------
    ui : the widgets by name, as ``slicer.util.childWidgetVariables`` gives them.
    make_parameters : gives the scene's parameters, made if they are absent.
    run : what turns a study into a result.
    ensure : makes the packages available that a run needs.
    """

    def __init__(
        self,
        ui: Any,
        make_parameters: Callable[[], ReactKDParameters],
        run: CaseRunner = run_in_this_process,
        ensure: Callable[[], None] = lambda: ensure_dependencies(SlicerInstaller()),
    ) -> None:
        super().__init__()
        self.ui = ui
        self.run, self.ensure = run, ensure
        self.parameters: ReactKDParameters | None = None
        self._make_parameters = make_parameters
        self._connection = 0
        self._package: ModelPackage | None = None
        self._package_problem = ""
        self._shipped = shipped_packages()
        self._followed: Any = None
        self._updating = False
        self._entered = False
        self.results = ResultsView(ui)
        ui.researchUseLabel.text = RESEARCH_USE
        ui.progressBar.visible = False
        ui.modelComboBox.connect("currentIndexChanged(int)", self._on_model_chosen)
        ui.modelFolderButton.connect("clicked()", self._on_choose_model_folder)
        ui.targetComboBox.connect("currentIndexChanged(int)", self._on_target_chosen)
        ui.opacitySlider.connect("valueChanged(double)", self.results.set_opacity)
        ui.applyButton.connect("clicked()", self.apply)
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

    def exit(self) -> None:
        """Stop following the parameters; called when the module is left."""
        self._entered = False
        self._disconnect_parameters()

    def cleanup(self) -> None:
        """Forget scene and parameters; called before the module is unloaded."""
        self.exit()
        self.removeObservers()

    def update(self) -> None:
        """Bring the panel up to date with the parameters."""
        self._updating = True
        try:
            self._load_package()
            self._show_models()
            self._show_targets()
        finally:
            self._updating = False
        segmentation = self.parameters.segmentation if self.parameters else None
        self._follow_segmentation(segmentation)
        self.ui.segmentsLabel.text = self._segments_text(segmentation)
        self.ui.segmentsLabel.visible = bool(self.ui.segmentsLabel.text)
        ready, reason = (
            validation(self.parameters, self._package) if self.parameters else (False, "")
        )
        self.ui.applyButton.enabled = ready
        self._say(self._package_problem or reason)

    def apply(self) -> ShownCase | None:
        """Run with the current parameters; None when that failed, and the panel says why."""
        parameters = self.parameters
        assert parameters is not None, "Apply is enabled only while parameters are shown"
        ui = self.ui
        ui.applyButton.enabled = False
        ui.progressBar.visible = True
        self.results.clear()
        shown, refusal = None, None
        problem = _("REACTKD stopped unexpectedly; the Python console shows why.")
        try:
            with slicer.util.tryWithErrorDisplay(_("REACTKD stopped."), waitCursor=True):
                try:
                    shown = run_and_show(
                        parameters,
                        context_from_slicer_application(),
                        self._on_progress,
                        self.run,
                        self.ensure,
                    )
                    problem = ""
                except ReactKDError as error:
                    refusal, problem = error, str(error)
        finally:
            ui.progressBar.visible = False
            self.update()
            if problem:
                self._say(problem)
        if shown is not None:
            self.results.show(shown, self._package)
        elif not isinstance(refusal, InstallationDeclined):
            slicer.util.errorDisplay(problem)
        return shown

    def _connect_parameters(self) -> None:
        if self.parameters is None:
            self.parameters = self._make_parameters()
            if not self.parameters.model_package and self._shipped:
                self.parameters.model_package = stored_package_name(self._shipped[0])
            self._connection = self.parameters.connectGui(self.ui)
            self.addObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._on_modified)
        self.update()

    def _disconnect_parameters(self) -> None:
        if self.parameters is None:
            return
        self.parameters.disconnectGui(self._connection)
        self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._on_modified)
        self.parameters = None
        self.update()

    def _on_progress(self, stage: str, done: float) -> None:
        # Painted at once, without handling events: nothing can change the scene during a run.
        self._say(_("Running: {stage}").format(stage=stage))
        self.ui.progressBar.value = round(100 * done)
        self.ui.statusLabel.repaint()
        self.ui.progressBar.repaint()

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

    def _segments_text(self, segmentation: Any) -> str:
        if segmentation is None or self._package is None:
            return ""
        try:
            used = segments_used(segmentation, self._package)
        except InputError:
            return ""
        roles = [rule.name for rule in self._package.role_rules]
        named = {role: [s.name for s in used if s.role == role] for role in roles}
        return "; ".join(f"{r}: {', '.join(n) or _('none')}" for r, n in named.items())

    def _follow_segmentation(self, node: Any) -> None:
        """Observe the segments of ``node``: adding or renaming one may complete the inputs."""
        if node is self._followed:
            return
        self.removeObservers(self._on_segments_changed)
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

    def _on_modified(self, caller: Any, event: str) -> None:
        self.update()

    def _on_segments_changed(self, caller: Any, event: str) -> None:
        self.update()

    def _on_model_chosen(self, index: int) -> None:
        if not self._updating and self.parameters is not None and index >= 0:
            self.parameters.model_package = self.ui.modelComboBox.itemData(index)

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
        self._disconnect_parameters()
        self.results.clear()

    def _on_scene_replaced(self, caller: Any, event: str) -> None:
        if self._entered:
            self._disconnect_parameters()
            self._connect_parameters()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, caller: Any, event: str, node: Any) -> None:
        self.results.forget(node)


def _fill(combo: Any, items: list[tuple[str, str]], current: str) -> None:
    """Give a combo box these texts and data, and choose the item with the data ``current``.

    A box that has them already is not refilled: that would close it under the user's hand.
    """
    if [(combo.itemText(n), combo.itemData(n)) for n in range(combo.count)] != items:
        combo.clear()
        for text, data in items:
            combo.addItem(text, data)
    combo.setCurrentIndex(combo.findData(current))
