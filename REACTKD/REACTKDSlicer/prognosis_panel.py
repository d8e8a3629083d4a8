"""The group "Prognosis": model, clinical values, the button that computes, and the result."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import slicer
from slicer.i18n import tr as _

from REACTKDLib.errors import InputError, ReactKDError

from .clinical_view import ClinicalView
from .context import context_from_slicer_application
from .dependencies import InstallationDeclined
from .parameters import ReactKDParameters
from .patient_header import patient_of
from .prognosis_documents import stored_prognosis_of
from .prognosis_logic import (
    PrognosisRequest,
    prognosis_inputs,
    prognosis_obstacle,
    read_prognosis_request,
    reads_images,
    reads_text,
    requirements_of,
    uses_images,
)
from .prognosis_model import PrognosisModel
from .prognosis_nodes import show_prognosis
from .prognosis_view import PrognosisView
from .region_nodes import show_outline_only
from .requirements import Requirement
from .run_progress import RunProgress
from .runs import Callbacks, FinishedPrognosis, Runs
from .stored_prognoses import stored_prognosis

#: Kind of this question: it waits for a what-if that is being answered.
_KIND = "prognosis"


class PrognosisPanel:
    """Connects the widgets of the group with parameters and runs.

    Parameters
    ----------
    ui : the panel's widgets.
    runs : where prognoses are computed, one at a time with everything else.
    ensure : makes the packages available that a run needs; whether it installed any.
    changed : called when a run begins or ends, for the rest of the panel.
    show_log : called while a run is under way.
    """

    def __init__(
        self,
        ui: Any,
        runs: Runs,
        ensure: Callable[[Collection[Requirement]], bool],
        changed: Callable[[], None],
        show_log: Callable[[], None],
    ) -> None:
        self.ui, self.runs, self.ensure = ui, runs, ensure
        self._changed, self._show_log = changed, show_log
        self._parameters: ReactKDParameters | None = None
        self._request: PrognosisRequest | None = None
        self._other_run = False
        self._ending = ""
        self.model = PrognosisModel(ui)
        self.clinical = ClinicalView(ui)
        self.view = PrognosisView(ui)
        self._progress = RunProgress(ui.prognosisProgressBar, self._say, show_log)
        ui.prognosisButton.connect("clicked()", self._on_clicked)

    @property
    def running(self) -> bool:
        """Whether a prognosis is being computed."""
        return self._request is not None

    def update(self, parameters: ReactKDParameters | None, other_run: bool) -> None:
        """Show what the parameters say; ``other_run`` : Apply is at work."""
        if parameters is not self._parameters:
            self._ending = ""
        self._parameters, self._other_run = parameters, other_run
        self.model.show(parameters)
        package, ui = self.model.package, self.ui
        metadata = package.metadata if package is not None else None
        self.clinical.show(
            parameters,
            metadata.clinical_schema if metadata else None,
            reads_text(package) if package else False,
            patient_of(parameters.ct) if parameters else {},
        )
        ui.prognosisImageCheckBox.visible = package is not None and reads_images(package)
        ui.prognosisButton.visible = package is not None
        ui.clinicalInputs.enabled = not self.running
        for name in ("ModelComboBox", "FolderButton", "ImageCheckBox"):
            getattr(ui, f"prognosis{name}").enabled = not self.running and parameters is not None
        ui.prognosisButton.text = _("Cancel") if self.running else _("Compute prognosis")
        ui.prognosisProgressBar.visible = self.running
        if self.running:
            ui.prognosisButton.enabled = True
            self._progress.show()
            return
        reason = self._obstacle()
        ui.prognosisButton.enabled = parameters is not None and not reason
        self._say(reason or self._ending)
        if parameters is not None:
            self.view.compare_inputs(prognosis_inputs(parameters, package))

    def compute(self) -> None:
        """Begin with the current parameters; when it fails, the panel says why."""
        parameters = self._parameters
        assert parameters is not None, "the button is enabled only while parameters are shown"
        if self.running or self._other_run:
            return
        self.view.clear()
        with slicer.util.tryWithErrorDisplay(_("REACTKD stopped."), waitCursor=True):
            try:
                if self.ensure(requirements_of(parameters)):
                    self.runs.close()  # a worker that runs does not see what was installed
                request = read_prognosis_request(parameters, slicer.mrmlScene)
                self._begin(request)
                self.runs.ask(
                    _KIND,
                    lambda callbacks: self.runs.prognose(request, callbacks),
                    Callbacks(self._progress.advance, self._on_done, self._on_failed),
                )
            except ReactKDError as error:
                self._on_failed(error)
            except BaseException:
                self._end(_("REACTKD stopped unexpectedly; the Python console shows why."))
                raise

    def cancel(self) -> None:
        """Stop what is being computed, if anything is; the scene is as before it."""
        if self.running:
            self.runs.stop(_KIND)
            self._end(_("Cancelled; the scene is as it was."))

    def restore(self) -> None:
        """Show the prognosis that the scene has of the chosen CT with these parameters."""
        parameters, package = self._parameters, self.model.package
        if self.running or parameters is None:
            return
        context = context_from_slicer_application()
        ct = parameters.ct if package is not None and uses_images(parameters, package) else None
        run = stored_prognosis_of(context.scene, ct, parameters.parameterNode)
        shown = self.view.shown
        if run is None or (shown is not None and shown.nodes.run == run):
            return
        try:
            self.view.show(stored_prognosis(context, run))
        except InputError as error:
            self._say(str(error))
        else:
            self._changed()

    def removed(self, node: Any) -> None:
        """A node is gone from the scene."""
        self.view.removed(node)
        if self._request is not None and node is self._request.ct:
            self.runs.stop(_KIND)
            self._end(_("Cancelled: the CT was removed from the scene."))

    def close(self) -> None:
        """The module is unloaded."""
        self.cancel()
        self.model.card.close()

    def _obstacle(self) -> str:
        if self._parameters is None:
            return ""
        if self.model.problem:
            return self.model.problem
        if self.model.package is None:
            return ""  # the section says that there is no model
        if self._other_run:
            return _("Apply is at work; compute the prognosis after it.")
        return prognosis_obstacle(self._parameters, self.model.package)

    def _on_clicked(self) -> None:
        if self.running:
            self.cancel()
        else:
            self.compute()

    def _begin(self, request: PrognosisRequest) -> None:
        self._request, self._ending = request, ""
        self._progress.begin()
        self._changed()

    def _end(self, text: str) -> None:
        """Back to where the button may be pressed; ``text`` says how the run ended."""
        self._progress.end()
        self._request, self._ending = None, text
        self._show_log()
        self._changed()

    def _say(self, text: str) -> None:
        self.ui.prognosisStatusLabel.text = text
        self.ui.prognosisStatusLabel.visible = bool(text)

    def _on_done(self, run: FinishedPrognosis) -> None:
        problem = _("REACTKD stopped unexpectedly; the Python console shows why.")
        try:
            with slicer.util.tryWithErrorDisplay(_("REACTKD stopped."), waitCursor=True):
                context = context_from_slicer_application()
                shown = show_prognosis(run.request, run.result, context)
                if shown.nodes.attention is not None and self._parameters is not None:
                    show_outline_only(self._parameters.segmentation)
                problem = ""
        finally:
            self._end(problem)
        self.view.show(shown)
        self._changed()

    def _on_failed(self, error: ReactKDError) -> None:
        self._end(str(error))
        if not isinstance(error, InstallationDeclined):
            slicer.util.errorDisplay(str(error))
