"""The group "Compare": another class of the same run, or another run, beside what is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from REACTKDLib.errors import ReactKDError
from REACTKDLib.types import CaseResult

from . import result_text
from .changes_table import fill_changes_table, prepare_changes_table
from .context import context_from_slicer_application
from .layout import COMPARE_LAYOUT, show_layout
from .logic import ShownCase
from .overlay_nodes import COMPARED, add_overlay, remove_overlay
from .runs import Callbacks, FinishedRun, Runs
from .stored_cases import stored_case, stored_runs
from .volumes import add_attention_legend, legends_apart, legends_everywhere

_CLASS, _RUN = "class ", "run "


class CompareView:
    """Shows a second answer: its shares in a table, its overlay in the yellow slice view.

    Parameters
    ----------
    ui : the panel's widgets.
    runs : where another class is explained.
    adopt : the finished run of a result that came with a saved scene.
    """

    def __init__(self, ui: Any, runs: Runs, adopt: Callable[[ShownCase], FinishedRun]) -> None:
        self.ui, self._runs, self._adopt = ui, runs, adopt
        self._shown: ShownCase | None = None
        self._run: FinishedRun | None = None
        self._filling = False
        prepare_changes_table(ui.compareTable)
        ui.compareComboBox.connect("currentIndexChanged(int)", self._on_chosen)

    def show(self, shown: ShownCase, run: FinishedRun | None) -> None:
        """Offer what a result can be compared with."""
        self._shown, self._run = shown, run
        self.update()

    def clear(self) -> None:
        """There is no result."""
        self._shown = self._run = None
        self.update()

    def update(self) -> None:
        """Offer the classes and the scene's runs as they are now; nothing is compared then."""
        combo, shown = self.ui.compareComboBox, self._shown
        self._filling = True
        try:
            combo.clear()
            combo.addItem(_("nothing"), "")
            if shown is not None:
                for info in shown.result.classes:
                    if info.name != shown.result.target:
                        combo.addItem(
                            _("class: {title}").format(title=info.title), _CLASS + info.name
                        )
                for name in stored_runs(context_from_slicer_application()):
                    if name != shown.nodes.run:
                        combo.addItem(_("run: {name}").format(name=name), _RUN + name)
            self._fill(None)
        finally:
            self._filling = False

    def _on_chosen(self, index: int) -> None:
        shown = self._shown
        if self._filling or shown is None:
            return
        context = context_from_slicer_application()
        remove_overlay(context, shown.nodes, COMPARED)
        legends_everywhere(context)
        chosen = self.ui.compareComboBox.itemData(index)
        self._fill(None)
        try:
            if chosen.startswith(_CLASS):
                self._explain(shown, chosen.removeprefix(_CLASS))
            elif chosen.startswith(_RUN):
                case, nodes = stored_case(context, chosen.removeprefix(_RUN))
                self._fill(case)
                self._side_by_side(shown, nodes.ct, nodes.attention)
                self._legends_apart(shown, nodes.attention)
        except ReactKDError as error:
            self.ui.compareAnswerLabel.text = str(error)

    def _explain(self, shown: ShownCase, target: str) -> None:
        if self._runs.busy:
            self.ui.compareAnswerLabel.text = _("The model is busy; choose again in a moment.")
            return
        self.ui.compareAnswerLabel.text = _("Asking the model…")
        if self._run is None:
            self._run = self._adopt(shown)

        def done(run: FinishedRun) -> None:
            if self._shown is shown:
                self._fill(run.result)
                node = add_overlay(
                    context_from_slicer_application(), run.result, shown.nodes, COMPARED
                )
                self._side_by_side(shown, shown.nodes.ct, node)
                add_attention_legend(context_from_slicer_application(), run.result, node)
                self._legends_apart(shown, node)

        def failed(error: ReactKDError) -> None:
            self.ui.compareAnswerLabel.text = str(error)

        self._runs.explain(self._run, target, Callbacks(lambda stage, done: None, done, failed))

    def _side_by_side(self, shown: ShownCase, ct: Any, attention: Any) -> None:
        """This in the red slice view, the other in the yellow one, at the same place."""
        show_layout(COMPARE_LAYOUT)
        pairs = {"Red": (shown.nodes.ct, shown.nodes.attention), "Yellow": (ct, attention)}
        scene = slicer.mrmlScene
        for name, (background, foreground) in pairs.items():
            composite = scene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")
            if composite is not None:
                composite.SetBackgroundVolumeID(background.GetID())
                composite.SetForegroundVolumeID(foreground.GetID())
                composite.SetForegroundOpacity(self.ui.opacitySlider.value)

    def _legends_apart(self, shown: ShownCase, other: Any) -> None:
        pair = {"Red": shown.nodes.attention, "Yellow": other}
        legends_apart(context_from_slicer_application(), pair)

    def _fill(self, other: CaseResult | None) -> None:
        this = self._shown.result if self._shown is not None and other is not None else None
        fill_changes_table(self.ui.compareTable, this, other)
        text = ""
        if this is not None and other is not None:
            text = _("Shares for “{this}” and for “{other}”. {probabilities}").format(
                this=this.class_title(this.target),
                other=other.class_title(other.target),
                probabilities=result_text.what_if_line(this, other)
                if this.probabilities.keys() == other.probabilities.keys()
                and this.probabilities != other.probabilities
                else "",
            )
        self.ui.compareAnswerLabel.text = text.strip()
