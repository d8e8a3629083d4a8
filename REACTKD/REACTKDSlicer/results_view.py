"""The part of the panel that shows a result, and the overlay that belongs to it."""

from __future__ import annotations

from typing import Any

import qt  # type: ignore[import-not-found]
import slicer
from slicer.i18n import tr as _

from REACTKDLib.model_package import ModelPackage

from . import result_text
from .logic import ShownCase

_ID_ROLE = qt.Qt.UserRole


class ResultsView:
    """Fills the result widgets of ``REACTKD.ui``; a row of the table jumps to its region."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.shown: ShownCase | None = None
        table = ui.regionTable
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels(
            [_("Region"), _("Volume (ml)"), _("Mean (HU)"), _("Share (logit)")]
        )
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.verticalHeader().hide()
        table.connect("currentCellChanged(int,int,int,int)", self._on_row_chosen)
        self.clear()

    def show(self, shown: ShownCase, package: ModelPackage | None) -> None:
        """Show a result."""
        self.clear()
        result, ui = shown.result, self.ui
        titles = {m.name: m.title for m in package.modalities} if package else {}
        ui.headlineLabel.text = result_text.headline(result)
        ui.otherClassesLabel.text = result_text.other_classes(result)
        ui.inputsLabel.text = result_text.inputs_line(result, titles)
        ui.noticesLabel.text = "\n\n".join(result_text.notice_lines(result))
        ui.noticesLabel.visible = bool(result.notices)
        ui.sharesLabel.text = result_text.shares_line(result)
        self._fill_table(result_text.region_rows(result))
        ui.resultsGroup.visible = True
        self.shown = shown

    def clear(self) -> None:
        """Show no result; the nodes in the scene stay."""
        self.shown = None
        self.ui.resultsGroup.visible = False
        self.ui.regionTable.setRowCount(0)

    def forget(self, node: Any) -> None:
        """Clear when a removed ``node`` was part of what is shown."""
        if self.shown is not None and node in (self.shown.nodes.ct, self.shown.nodes.attention):
            self.clear()

    def set_opacity(self, opacity: float) -> None:
        """Opacity of the attention, 0..1, in every slice view that shows it."""
        if self.shown is None:
            return
        attention = self.shown.nodes.attention.GetID()
        scene = slicer.mrmlScene
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
            if composite.GetForegroundVolumeID() == attention:
                composite.SetForegroundOpacity(opacity)

    def _fill_table(self, rows: tuple[result_text.RegionRow, ...]) -> None:
        table = self.ui.regionTable
        table.setSortingEnabled(False)  # rows would move while they are filled
        table.setRowCount(len(rows))
        for index, row in enumerate(rows):
            name = qt.QTableWidgetItem(row.name)
            name.setData(_ID_ROLE, row.region_id)
            name.setToolTip(row.name)
            table.setItem(index, 0, name)
            numbers = ((row.volume_ml, 1), (row.mean_hu, 0), (row.share, 2))
            for column, (value, digits) in enumerate(numbers, start=1):
                table.setItem(index, column, _number_item(value, digits))
        table.setSortingEnabled(True)

    def _on_row_chosen(self, row: int, column: int, previous_row: int, previous: int) -> None:
        item = self.ui.regionTable.item(row, 0) if row >= 0 else None
        region_id = item.data(_ID_ROLE) if item is not None else None
        if self.shown is None or region_id is None:
            return
        region = next(r for r in self.shown.result.regions if r.id == region_id)
        world = [0.0, 0.0, 0.0]
        # The result stands in the CT's own coordinates; the views are in those of the scene.
        self.shown.nodes.ct.TransformPointToWorld(list(region.centroid_ras), world)
        slicer.vtkMRMLSliceNode.JumpAllSlices(
            slicer.mrmlScene, *world, slicer.vtkMRMLSliceNode.CenteredJumpSlice
        )


def _number_item(value: float | None, digits: int) -> Any:
    """A right-aligned cell that sorts as a number."""
    item = qt.QTableWidgetItem()
    if value is not None:
        # A float, rounded: a text would sort "10" before "9".
        item.setData(qt.Qt.DisplayRole, round(value, digits) if digits else round(value))
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item
