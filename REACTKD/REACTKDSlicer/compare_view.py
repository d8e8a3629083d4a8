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
from .layout import COMPARE_VIEW, set_linked, show_side_by_side
from .logic import ShownCase
from .overlay_nodes import COMPARED, add_overlay, entitle, remove_overlay
from .run_nodes import in_scene
from .runs import Callbacks, FinishedRun, Runs
from .stored_cases import stored_case, stored_runs
from .volumes import attention_title, entitle_legend, refresh_legends

_CLASS, _RUN = "class ", "run "

#: Kind of these questions.
_KIND = "compare"


class CompareView:
    """Shows a second answer: its shares in a table, its overlay in a slice view of its own.

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
        #: How the overlays that are compared were shown before.
        self._before: list[Callable[[], None]] = []
        self._beside: Any | None = None
        prepare_changes_table(ui.compareTable)
        ui.opacitySlider.connect("valueChanged(double)", self._on_opacity)
        ui.thresholdSlider.connect("valueChanged(double)", self._on_threshold)
        ui.compareComboBox.connect("currentIndexChanged(int)", self._on_chosen)

    def show(self, shown: ShownCase, run: FinishedRun | None) -> None:
        """Offer what a result can be compared with."""
        self._stop()
        self._shown, self._run = shown, run
        self.update()

    def clear(self) -> None:
        """There is no result; nothing that was compared with it stays in the scene."""
        self._stop()
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

    def _stop(self) -> None:
        """Compare with nothing."""
        self._runs.forget(_KIND)
        for restore in self._before:
            restore()
        self._before, self._beside = [], None
        if self._shown is not None:
            remove_overlay(context_from_slicer_application(), self._shown.nodes, COMPARED)

    def _on_chosen(self, index: int) -> None:
        shown = self._shown
        if self._filling or shown is None:
            return
        self._stop()
        self._fill(None)
        chosen = self.ui.compareComboBox.itemData(index)
        if chosen.startswith(_CLASS):
            self._explain(shown, chosen.removeprefix(_CLASS))
        elif chosen.startswith(_RUN):
            run = chosen.removeprefix(_RUN)
            try:
                case, nodes = stored_case(context_from_slicer_application(), run)
            except ReactKDError as error:
                self._on_failed(error)
                return
            self._fill(case)
            self._side_by_side(shown, nodes.ct, nodes.attention)
            self._entitle(shown.nodes.attention, shown.result, shown.nodes.run)
            self._entitle(nodes.attention, case, run)
        else:
            self._leave(shown)

    def _on_opacity(self, opacity: float) -> None:
        composite = _composite(COMPARE_VIEW)
        if self._beside is not None and composite is not None:
            composite.SetForegroundOpacity(opacity)

    def _on_threshold(self, part: float) -> None:
        if in_scene(self._beside) and self._beside.GetDisplayNode() is not None:
            display = self._beside.GetDisplayNode()
            display.SetLowerThreshold(part * display.GetWindowLevelMax())

    def _explain(self, shown: ShownCase, target: str) -> None:
        self.ui.compareAnswerLabel.text = _("Asking the model…")

        def begin(callbacks: Callbacks) -> None:
            if self._run is None:
                self._run = self._adopt(shown)
            self._runs.explain(self._run, target, callbacks)

        def done(run: FinishedRun) -> None:
            context = context_from_slicer_application()
            try:
                title = run.result.class_title(run.result.target)
                node = add_overlay(context, run.result, shown.nodes, COMPARED, title)
            except ReactKDError as error:
                self._on_failed(error)
                return
            self._fill(run.result)
            self._side_by_side(shown, shown.nodes.ct, node)
            entitle(context, run.result, node, "")

        callbacks = Callbacks(lambda stage, done: None, done, self._on_failed)
        self._runs.ask(_KIND, begin, callbacks)

    def _on_failed(self, error: ReactKDError) -> None:
        self.ui.compareAnswerLabel.text = str(error)

    def _side_by_side(self, shown: ShownCase, ct: Any, attention: Any) -> None:
        """This in the red slice view, the other beside it: same place, same colours."""
        self._beside = attention
        show_side_by_side()
        self._before.append(lambda: set_linked(False))
        _show_in("Red", shown.nodes.ct, shown.nodes.attention, self.ui.opacitySlider.value)
        _show_in(COMPARE_VIEW, ct, attention, self.ui.opacitySlider.value)
        refresh_legends(context_from_slicer_application())
        overlays = (shown.nodes.attention, attention)
        top = max(_peak(node) for node in overlays)
        for node in overlays:
            self._before.append(_set_top(node, top, self.ui.thresholdSlider.value))

    def _entitle(self, attention: Any, case: CaseResult, run: str) -> None:
        """Say in the legend of an overlay which run it is of, as long as it is compared."""
        context = context_from_slicer_application()
        legend = entitle(context, case, attention, run)
        self._before.append(lambda: entitle_legend(legend, attention_title(case)))

    def _leave(self, shown: ShownCase) -> None:
        """The view beside goes back to what is shown, so that nothing else passes for it."""
        composite = _composite(COMPARE_VIEW)
        if composite is not None:
            composite.SetBackgroundVolumeID(shown.nodes.ct.GetID())
            composite.SetForegroundVolumeID(shown.nodes.attention.GetID())
            refresh_legends(context_from_slicer_application())

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


def _composite(view: str) -> Any | None:
    return slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")


def _show_in(view: str, background: Any, foreground: Any, opacity: float) -> None:
    composite = _composite(view)
    if composite is not None:
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID())
        composite.SetForegroundOpacity(opacity)


def _peak(node: Any) -> float:
    """Largest value of an overlay, at least the upper end of its colours."""
    window: float = node.GetDisplayNode().GetWindowLevelMax()
    largest: float = node.GetImageData().GetScalarRange()[1]
    return max(window, largest)


def _set_top(node: Any, top: float, threshold: float) -> Callable[[], None]:
    """Let an overlay's colours end at ``top`` and begin at a part of it; gives the way back."""
    display = node.GetDisplayNode()
    before = (display.GetWindowLevelMax(), display.GetLowerThreshold(), display.GetUpperThreshold())

    def restore() -> None:
        if in_scene(display):
            display.SetWindowLevelMinMax(0.0, before[0])
            display.SetThreshold(*before[1:])

    display.SetWindowLevelMinMax(0.0, top)
    display.SetThreshold(threshold * top, top)
    return restore
