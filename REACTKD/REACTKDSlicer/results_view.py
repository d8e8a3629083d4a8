"""The part of the panel that shows a result in words and as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from REACTKDLib.geometry import Vector
from REACTKDLib.model_package import ModelPackage
from REACTKDLib.types import RESEARCH_USE, CaseResult

from . import result_text
from .graph_nodes import highlight_region
from .logic import ShownCase
from .region_names import short_name
from .region_nodes import highlight_segment
from .run_nodes import in_scene
from .scene_nodes import SceneStyle

_SORT_ROLE = qt.Qt.UserRole
_REGION_ROLE = qt.Qt.UserRole + 1


class ResultsView:
    """Fills the result widgets of ``REACTKD.ui``; a row of the table jumps to its region."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.shown: ShownCase | None = None
        # Cells show rounded text and sort by the number behind it.
        ui.resultUseLabel.text = RESEARCH_USE  # the panel's own scrolls away
        self._model = qt.QStandardItemModel(ui.regionTable)
        self._sorted = qt.QSortFilterProxyModel(ui.regionTable)
        self._sorted.setSourceModel(self._model)
        self._sorted.setSortRole(_SORT_ROLE)
        ui.regionTable.setModel(self._sorted)
        rows = ui.regionTable.verticalHeader()
        rows.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        rows.hide()
        ui.regionTable.selectionModel().connect(
            "currentRowChanged(QModelIndex,QModelIndex)", self._on_row_chosen
        )
        self.clear()

    def show(self, shown: ShownCase, package: ModelPackage | None) -> None:
        """Show a result; ``package`` names its modalities for people."""
        self.clear()
        result, ui = shown.result, self.ui
        titles = {m.name: m.title for m in package.modalities} if package else {}
        ui.headlineLabel.text = result_text.headline(result)
        ui.otherClassesLabel.text = result_text.other_classes(result)
        ui.setLabel.text = result_text.set_line(result)
        ui.inputsLabel.text = result_text.inputs_line(result, titles)
        ui.noticesLabel.text = "\n\n".join(result_text.notice_lines(result))
        ui.noticesLabel.visible = bool(result.notices)
        ui.sharesLabel.text = result_text.shares_line(result)
        self._fill_table(result_text.region_rows(result))
        ui.resultsGroup.visible = True
        self.shown = shown

    def clear(self) -> None:
        """Show no result; the nodes in the scene stay."""
        if self.shown is not None and in_scene(self.shown.nodes.regions):
            highlight_segment(self.shown.nodes.regions, None)
        self.shown = None
        self.ui.resultsGroup.visible = False
        self._model.clear()

    def _fill_table(self, rows: tuple[result_text.RegionRow, ...]) -> None:
        headings = (
            (_("Region"), _("Name of the region")),
            (_("ml"), _("Volume of the region")),
            (_("HU"), _("Mean CT number of the region")),
            (_("Share"), _("What the region adds to the decision, in logit units")),
        )
        for column, (title, explanation) in enumerate(headings):
            heading = qt.QStandardItem(title)
            heading.setToolTip(explanation)
            self._model.setHorizontalHeaderItem(column, heading)
        for row in rows:
            name = qt.QStandardItem(short_name(row.name))
            name.setData(row.name, _SORT_ROLE)
            name.setData(row.region_id, _REGION_ROLE)
            name.setToolTip(row.name)
            self._model.appendRow(
                [
                    name,
                    _number_item(row.volume_ml, 1),
                    _number_item(row.mean_hu, 0),
                    _number_item(row.share, 2, sign="+"),
                ]
            )
        self._sorted.sort(-1)  # back to the order of the rows, the largest share first
        header = self.ui.regionTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)

    def _on_row_chosen(self, current: Any, previous: Any) -> None:
        region_id = current.sibling(current.row(), 0).data(_REGION_ROLE)
        if self.shown is None or region_id is None:
            return
        result, nodes = self.shown.result, self.shown.nodes
        if in_scene(nodes.labels):
            highlight_region(nodes.labels, result, region_id, SceneStyle().label_count)
        highlight_segment(nodes.regions, region_id)
        world = [0.0, 0.0, 0.0]
        # The result stands in the CT's own coordinates; the views are in those of the scene.
        nodes.ct.TransformPointToWorld(list(region_point(result, region_id)), world)
        slicer.vtkMRMLSliceNode.JumpAllSlices(
            slicer.mrmlScene, *world, slicer.vtkMRMLSliceNode.CenteredJumpSlice
        )


def region_point(result: CaseResult, region_id: str) -> Vector:
    """The centre of the region's voxel that is nearest to its centroid, RAS mm.

    The centroid itself may lie elsewhere: that of a rim is usually inside the lesion.
    """
    region = next(r for r in result.regions if r.id == region_id)
    geometry = result.region_labels.geometry
    kji = np.stack(np.nonzero(result.region_labels.array == region.label), axis=1)
    points = geometry.ras_from_ijk(kji[:, ::-1].astype(float))
    distances = ((points - np.array(region.centroid_ras)) ** 2).sum(axis=1)
    right, anterior, superior = points[int(np.argmin(distances))]
    return (float(right), float(anterior), float(superior))


def _number_item(value: float | None, digits: int, sign: str = "") -> Any:
    """A right-aligned cell; empty without a value."""
    item = qt.QStandardItem()
    if value is not None:
        # Adding zero turns -0.0 into 0.0.
        item.setText(format(round(value, digits) + 0.0, f"{sign}.{digits}f"))
        item.setData(value, _SORT_ROLE)
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item
