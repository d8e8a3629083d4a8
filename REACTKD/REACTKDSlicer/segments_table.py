"""The table that says which segment is what for the model, and lets the user say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from REACTKDLib.roles import RoleRule

from .study_nodes import guessed_role

_NAME, _ROLE = range(2)


class SegmentsTable(VTKObservationMixin):
    """Fills a QTableWidget: a row for each segment, its role in a combo box.

    Parameters
    ----------
    table : the widget.
    on_chosen : called with segment ID and role ("" for none) when the user chooses one.
    on_changed : called when a segment is added, removed or renamed: that may complete the inputs.
    on_edited : called when voxels are drawn.
    """

    def __init__(
        self,
        table: Any,
        on_chosen: Callable[[str, str], None],
        on_changed: Callable[[], None],
        on_edited: Callable[[], None],
    ) -> None:
        super().__init__()
        self._table, self._on_chosen = table, on_chosen
        self._on_changed, self._on_edited = on_changed, on_edited
        self._followed: Any = None
        self._shown: tuple[Any, ...] = ()
        header = table.horizontalHeader()
        header.setSectionResizeMode(_NAME, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(_ROLE, qt.QHeaderView.ResizeToContents)
        table.verticalHeader().hide()

    def show(self, node: Any, rules: Sequence[RoleRule], chosen: dict[str, str]) -> None:
        """Show and follow the segments of a vtkMRMLSegmentationNode; None shows an empty table."""
        self._follow(node)
        rows = []
        if node is not None:
            segmentation = node.GetSegmentation()
            for n in range(segmentation.GetNumberOfSegments()):
                segment_id = segmentation.GetNthSegmentID(n)
                segment = segmentation.GetSegment(segment_id)
                role = chosen.get(segment_id, guessed_role(segment, rules) or "")
                rows.append((segment_id, segment.GetName(), role, segment_id in chosen))
        content = (tuple(rows), tuple(rule.name for rule in rules))
        if content == self._shown:
            return  # refilled, a box would close under the user's hand
        self._shown = content
        self._table.setRowCount(len(rows))
        for number, (segment_id, name, role, by_hand) in enumerate(rows):
            item = qt.QTableWidgetItem(name)
            item.setToolTip(name)
            self._table.setItem(number, _NAME, item)
            self._table.setCellWidget(
                number, _ROLE, self._box(segment_id, role, by_hand, content[1])
            )

    def _follow(self, node: Any) -> None:
        if node is self._followed:
            return
        self.removeObservers()
        self._followed = node
        if node is None:
            return
        segmentation = node.GetSegmentation()
        for event in (
            segmentation.SegmentAdded,
            segmentation.SegmentRemoved,
            segmentation.SegmentModified,
        ):
            self.addObserver(segmentation, event, self._changed)
        drawn = segmentation.SourceRepresentationModified
        self.addObserver(segmentation, drawn, self._edited)

    def _changed(self, caller: Any, event: str) -> None:
        self._on_changed()

    def _edited(self, caller: Any, event: str) -> None:
        self._on_edited()

    def _box(self, segment_id: str, role: str, by_hand: bool, roles: Sequence[str]) -> Any:
        box = qt.QComboBox()
        box.addItem(_("not used"), "")
        for name in roles:
            box.addItem(name, name)
        box.setCurrentIndex(max(0, box.findData(role)))
        box.toolTip = _("Chosen by hand.") if by_hand else _("Guessed from name or terminology.")
        box.connect(
            "currentIndexChanged(int)",
            lambda index: self._on_chosen(segment_id, box.itemData(index)),
        )
        return box
