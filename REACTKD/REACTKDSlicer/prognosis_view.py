"""The part of the panel that shows a prognosis: probability, notices, contributions."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from REACTKDLib.case_report_words import percent
from REACTKDLib.types import RESEARCH_USE

from . import prognosis_text
from .clinical_field import safe_tip
from .context import context_from_slicer_application
from .layout import LAYOUT, show_chart_and_table, show_layout
from .prognosis_documents import PrognosisInputs, kept_prognosis_inputs
from .prognosis_nodes import ShownPrognosis
from .run_nodes import in_scene
from .volumes import refresh_legends, set_slice_layers

_SORT_ROLE = qt.Qt.UserRole
_TITLE, _LOGIT, _BAR = range(3)
#: Signs of the longest bar.
_BAR_SIGNS = 4


class PrognosisView:
    """Fills the result widgets of the group; the nodes are those of ``prognosis_nodes``."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.shown: ShownPrognosis | None = None
        self._made_from: PrognosisInputs | None = None
        ui.prognosisUseLabel.text = RESEARCH_USE
        self._model = qt.QStandardItemModel(ui.contributionTable)
        self._sorted = qt.QSortFilterProxyModel(ui.contributionTable)
        self._sorted.setSourceModel(self._model)
        self._sorted.setSortRole(_SORT_ROLE)
        ui.contributionTable.setModel(self._sorted)
        rows = ui.contributionTable.verticalHeader()
        rows.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        rows.hide()
        ui.prognosisAttentionButton.connect("clicked()", self.show_attention)
        ui.prognosisPlotButton.connect("clicked()", self._show_plot)
        self.clear()

    def show(self, shown: ShownPrognosis) -> None:
        """Show a prognosis."""
        self.clear()
        result, ui = shown.result, self.ui
        ui.prognosisHeadlineLabel.text = prognosis_text.headline(result)
        ui.probabilityBar.value = round(1000 * result.probability)
        ui.probabilityBar.format = percent(result.probability)
        ui.prognosisInputsLabel.text = prognosis_text.inputs_line(result)
        ui.prognosisNoticesLabel.text = "\n\n".join(prognosis_text.notice_lines(result))
        ui.prognosisNoticesLabel.visible = bool(result.notices)
        ui.contributionLabel.text = prognosis_text.contribution_line(result)
        self._fill(prognosis_text.contribution_rows(result))
        ui.prognosisAttentionButton.visible = shown.nodes.attention is not None
        ui.prognosisResult.visible = True
        self._made_from = kept_prognosis_inputs(shown.nodes.document)
        self.shown = shown

    def clear(self) -> None:
        """Show no prognosis; its nodes in the scene stay."""
        self.shown = self._made_from = None
        self.ui.prognosisResult.visible = self.ui.prognosisStaleLabel.visible = False
        self._model.clear()

    def compare_inputs(self, inputs: PrognosisInputs | None) -> None:
        """Say so where a prognosis would be made from other inputs than what is shown."""
        made_from = self._made_from
        stale = made_from is not None and not made_from.same_as(inputs)
        self.ui.prognosisStaleLabel.visible = stale

    def removed(self, node: Any) -> None:
        """A node is gone: without its document, a prognosis is not shown."""
        if self.shown is None:
            return
        nodes = self.shown.nodes
        if node is nodes.document or (nodes.ct is not None and node is nodes.ct):
            self.clear()
        elif nodes.attention is not None and node is nodes.attention:
            self.ui.prognosisAttentionButton.visible = False

    def show_attention(self) -> None:
        """Show the attention of the CT's branch over the CT in the slice views."""
        nodes = self.shown.nodes if self.shown is not None else None
        if nodes is None or not in_scene(nodes.attention) or not in_scene(nodes.ct):
            return
        context = context_from_slicer_application()
        set_slice_layers(context, nodes.ct, nodes.attention, self.ui.opacitySlider.value)
        refresh_legends(context)

    def _show_plot(self) -> None:
        if self.shown is None:
            return
        show_layout(LAYOUT)
        chart, table = self.shown.nodes.chart, self.shown.nodes.table
        show_chart_and_table(
            context_from_slicer_application(),
            chart if in_scene(chart) else None,
            table if in_scene(table) else None,
        )

    def _fill(self, rows: tuple[prognosis_text.ContributionRow, ...]) -> None:
        headings = (
            (_("Input"), _("Variable, family of radiomics features, or all of a kind of input")),
            (_("Log odds"), _("What it adds to the log odds of the outcome")),
            (_("Bar"), _("To the right: for the outcome; to the left: against it")),
        )
        for column, (title, explanation) in enumerate(headings):
            heading = qt.QStandardItem(title)
            heading.setToolTip(explanation)
            self._model.setHorizontalHeaderItem(column, heading)
        largest = max((abs(row.logit) for row in rows), default=0.0)
        for row in rows:
            self._model.appendRow(
                [
                    _input_item(row),
                    _number_item(row.logit, row.error),
                    _bar_item(row.logit, largest),
                ]
            )
        self._sorted.sort(-1)  # the order of the rows
        header = self.ui.contributionTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(_TITLE, qt.QHeaderView.Stretch)


def _input_item(row: prognosis_text.ContributionRow) -> Any:
    """What a contribution is that of, with what was given; a narrow cell shows its beginning."""
    text = _("{title}: {value}").format(title=row.title, value=row.value or row.kind)
    item = qt.QStandardItem(text if row.value or row.whole else row.title)
    item.setData(text.casefold(), _SORT_ROLE)
    item.setToolTip(safe_tip(text if row.whole else f"{text} ({row.kind})"))
    return item


def _number_item(value: float, error: float | None) -> Any:
    item = qt.QStandardItem(f"{round(value, 2) + 0.0:+.2f}")
    item.setData(value, _SORT_ROLE)
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    if error is None:
        item.setToolTip(_("Estimated; its error is not known."))
    elif error > 0:
        item.setToolTip(_("Estimated, standard error {error:.3f}").format(error=error))
    return item


def _bar_item(value: float, largest: float) -> Any:
    """A signed bar of text: it has the colours of the theme and can be told by its side."""
    length = round(_BAR_SIGNS * abs(value) / largest) if largest > 0 else 0
    full, empty = "█" * length, "\N{NO-BREAK SPACE}" * (_BAR_SIGNS - length)
    blank = "\N{NO-BREAK SPACE}" * _BAR_SIGNS
    item = qt.QStandardItem(f"{empty}{full}│{blank}" if value < 0 else f"{blank}│{full}{empty}")
    item.setData(value, _SORT_ROLE)
    item.setData(qt.QFontDatabase.systemFont(qt.QFontDatabase.FixedFont), qt.Qt.FontRole)
    return item
