"""A table of regions with their shares in two answers, and the difference."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import qt

from REACTKDLib.types import CaseResult

from . import result_text
from .region_names import short_name

#: Columns; then the other share and the difference.
REGION, SHARE = range(2)


def prepare_changes_table(table: Any) -> None:
    """Let the regions' names have the room that the numbers leave."""
    rows = table.verticalHeader()
    rows.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    rows.hide()
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setSectionResizeMode(REGION, qt.QHeaderView.Stretch)


def fill_changes_table(
    table: Any,
    one: CaseResult | None,
    other: CaseResult | None,
    ticked: Collection[str] | None = None,
) -> None:
    """Fill a QTableWidget; without an answer it is empty, without ``other`` half empty.

    With ``ticked`` regions can be ticked, and these are.
    """
    rows = result_text.change_rows(one, other) if one is not None else ()
    table.setRowCount(len(rows))
    for number, row in enumerate(rows):
        name = qt.QTableWidgetItem(short_name(row.name))
        name.setToolTip(row.name)
        name.setData(qt.Qt.UserRole, row.region_id)
        if ticked is not None:
            name.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            checked = row.region_id in ticked
            name.setCheckState(qt.Qt.Checked if checked else qt.Qt.Unchecked)
        table.setItem(number, REGION, name)
        for column, value in enumerate((row.before, row.after, row.change), SHARE):
            table.setItem(number, column, _number(value))


def ticked_regions(table: Any) -> tuple[str, ...]:
    """Ids of the regions that are ticked."""
    items = (table.item(row, REGION) for row in range(table.rowCount))
    return tuple(i.data(qt.Qt.UserRole) for i in items if i.checkState() == qt.Qt.Checked)


def _number(value: float | None) -> Any:
    item = qt.QTableWidgetItem("" if value is None else f"{round(value, 2) + 0.0:+.2f}")
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item
