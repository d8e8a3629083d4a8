"""The table of clinical values: a row per variable under its heading, and a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt

from REACTKDLib.prognosis.clinical_entries import Check, Entries
from REACTKDLib.prognosis.schema import folded
from REACTKDLib.prognosis.types import ClinicalSchema, Variable

from .clinical_field import COLUMNS, ClinicalField

_STRETCH = (5, 4, 2, 0)


class ClinicalTable:
    """Fills a QScrollArea with the fields of a schema.

    Parameters
    ----------
    area : the widget; layout : that of its content.
    before : the widget that has the keyboard before the first field.
    on_edited : called with the variable's name, value and unit as written when a user changes it.
    """

    def __init__(
        self, area: Any, layout: Any, before: Any, on_edited: Callable[[str, str, str], None]
    ) -> None:
        self._area, self._layout, self._before = area, layout, before
        self._on_edited = on_edited
        self._schema: ClinicalSchema | None = None
        self._content: Any | None = None
        self._wanted = ""
        self.fields: dict[str, ClinicalField] = {}
        self._headings: dict[str, Any] = {}

    def show(self, schema: ClinicalSchema, entries: Entries, check: Check) -> None:
        """Show what is written of a schema's variables, and what became of it."""
        if schema is not self._schema:  # made anew, fields would lose the keyboard
            self._schema = schema
            self._make(schema)
            self.search(self._wanted)
        for name, field in self.fields.items():
            field.show(entries.values.get(name), check.states[name])

    def clear(self) -> None:
        """There is no schema."""
        if self._schema is not None:
            self._schema = None
            self.fields, self._headings = {}, {}
            self._put(None)

    def search(self, text: str) -> None:
        """Show only the variables whose name, alias or heading has ``text`` in it."""
        self._wanted = text
        wanted = folded(text)
        seen = set()
        for field in self.fields.values():
            found = field.matches(wanted)
            field.set_visible(found)
            if found:
                seen.add(field.variable.group)
        for group, heading in self._headings.items():
            heading.visible = group in seen and bool(group)

    def reveal(self, name: str) -> None:
        """Scroll to a variable and give it the keyboard."""
        field = self.fields.get(name)
        if field is not None:
            self._area.ensureWidgetVisible(field.value)
            field.value.setFocus()

    def _make(self, schema: ClinicalSchema) -> None:
        content = qt.QWidget()
        grid = qt.QGridLayout(content)
        grid.setContentsMargins(2, 2, 2, 2)
        grid.setVerticalSpacing(2)
        grid.setHorizontalSpacing(4)
        for column, stretch in enumerate(_STRETCH):
            grid.setColumnStretch(column, stretch)
        self.fields, self._headings = {}, {}
        row = 0
        for group, variables in _by_group(schema.variables).items():
            heading = qt.QLabel(group)
            heading.textFormat = qt.Qt.PlainText
            font = heading.font
            font.setBold(True)
            heading.font = font
            grid.addWidget(heading, row, 0, 1, COLUMNS)
            self._headings[group] = heading
            row += 1
            for variable in variables:
                self.fields[variable.name] = ClinicalField(variable, grid, row, self._on_edited)
                row += 2
        grid.setRowStretch(row, 1)
        self._put(content)
        previous = self._before
        for field in self.fields.values():
            for widget in field.stops:
                qt.QWidget.setTabOrder(previous, widget)
                previous = widget

    def _put(self, content: Any | None) -> None:
        """Put a widget in the place of the one that is in the area, if any."""
        if self._content is not None:
            self._layout.removeWidget(self._content)
            self._content.hide()
            self._content.deleteLater()
        self._content = content
        if content is not None:
            self._layout.addWidget(content)


def _by_group(variables: Sequence[Variable]) -> dict[str, list[Variable]]:
    """Heading -> its variables, each in the schema's order."""
    groups: dict[str, list[Variable]] = {}
    for variable in variables:
        groups.setdefault(variable.group, []).append(variable)
    return groups
