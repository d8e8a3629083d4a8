"""One row of the clinical table: a variable's name, its value, its unit, and what is wrong."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ctk
import qt
from slicer.i18n import tr as _

from REACTKDLib.prognosis.clinical_entries import (
    CONTRADICTS,
    GIVEN,
    MISSING,
    REFUSED,
    FieldState,
    typed,
    unit_choices,
)
from REACTKDLib.prognosis.clinical_values import shown_unit
from REACTKDLib.prognosis.schema import FLAG, NUMBER, folded
from REACTKDLib.prognosis.types import Variable

#: Columns of the grid.
_NAME, _VALUE, _UNIT, _STATE, COLUMNS = range(5)
#: What value and unit take at least, pixels: all of a row fits a panel of 320.
_VALUE_WIDTH, _UNIT_WIDTH = 54, 56
_ICON = 16


class ClinicalField:
    """The widgets of one variable in two rows of a grid: the field, and below it the message.

    Parameters
    ----------
    on_edited : called with the variable's name, value and unit as written when a user changes it.
    """

    def __init__(
        self,
        variable: Variable,
        grid: Any,
        row: int,
        on_edited: Callable[[str, str, str], None],
    ) -> None:
        self.variable, self._on_edited = variable, on_edited
        self._updating = False
        self._typed: tuple[str, str] | None = None
        self._message_wanted = self._row_wanted = False
        self.name = _plain_label(variable.title.replace("&", "&&"))
        self.value = self._line() if variable.kind == NUMBER else self._choice()
        self.value.objectName = f"clinical_{variable.name}"
        self.value.toolTip = safe_tip(_explanation(variable))
        self.value.setAccessibleName(variable.title)
        self.name.setBuddy(self.value)
        self.name.toolTip = self.value.toolTip
        self.unit = self._units()
        self.state = qt.QLabel()
        self.state.setFixedWidth(_ICON + 2)
        self.message = _plain_label("")
        self.message.textInteractionFlags = qt.Qt.TextSelectableByMouse
        for column, widget in enumerate((self.name, self.value, self.unit, self.state)):
            grid.addWidget(widget, row, column)
        grid.addWidget(self.message, row + 1, 0, 1, COLUMNS)
        names = (variable.name, variable.title, variable.group, *variable.aliases)
        self._words = tuple(folded(name) for name in names)
        self.set_visible(True)

    def show(self, entry: tuple[str, str] | None, state: FieldState) -> None:
        """Show what is written, and what became of it."""
        self._updating = True
        try:
            self._show_entry(entry)
            self._show_state(state)
        finally:
            self._updating = False

    @property
    def stops(self) -> tuple[Any, ...]:
        """The widgets that take the keyboard, in their order."""
        return (self.value, self.unit) if self._has_units else (self.value,)

    def matches(self, wanted: str) -> bool:
        """Whether a search finds this variable; ``wanted`` is folded."""
        return any(wanted in word for word in self._words)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the row."""
        self._row_wanted = visible
        for widget in (self.name, self.value, self.unit, self.state):
            widget.visible = visible
        self.message.visible = visible and self._message_wanted

    def _line(self) -> Any:
        line = qt.QLineEdit()
        line.placeholderText = _("missing")
        line.setMinimumWidth(_VALUE_WIDTH)
        line.connect("textEdited(QString)", self._on_typed)
        line.connect("editingFinished()", self._on_finished)
        return line

    def _choice(self) -> Any:
        variable = self.variable
        box = _box(_VALUE_WIDTH)
        box.addItem(_("missing"), "")
        if variable.kind == FLAG:
            box.addItem(_("yes"), "yes")
            box.addItem(_("no"), "no")
        for category in variable.categories:
            box.addItem(category, category)
        box.connect("currentIndexChanged(int)", self._on_chosen)
        return box

    def _units(self) -> Any:
        """What stands beside the value: a choice where there is one."""
        if self.variable.kind != NUMBER:
            return _plain_label("")
        units = unit_choices(self.variable)
        if len(units) == 1:
            return _plain_label(shown_unit(units[0]))
        box = _box(_UNIT_WIDTH)
        for unit in units:
            box.addItem(shown_unit(unit), unit)
        box.toolTip = _("Unit of the value. Choosing another does not change the number.")
        box.setAccessibleName(_("Unit of {title}").format(title=self.variable.title))
        box.connect("currentIndexChanged(int)", self._on_unit_chosen)
        return box

    @property
    def _has_units(self) -> bool:
        return self.variable.kind == NUMBER and len(unit_choices(self.variable)) > 1

    def _chosen_unit(self) -> str:
        if self._has_units:
            return str(self.unit.itemData(self.unit.currentIndex))
        return self.variable.unit

    def _on_typed(self, text: str) -> None:
        self._typed = typed(self.variable, text, self._chosen_unit())
        self._on_edited(self.variable.name, *self._typed)

    def _on_finished(self) -> None:
        """A unit that was typed now stands in its own box; the value is what was written."""
        if self._typed is not None:
            value, self._typed = self._typed[0], None
            self.value.text = value

    def _on_chosen(self, index: int) -> None:
        if not self._updating:
            self._on_edited(self.variable.name, str(self.value.itemData(index)), "")

    def _on_unit_chosen(self, index: int) -> None:
        if not self._updating:
            self._on_edited(self.variable.name, self.value.text, str(self.unit.itemData(index)))

    def _show_entry(self, entry: tuple[str, str] | None) -> None:
        text, unit = entry or ("", "")
        if self.variable.kind == NUMBER:
            # Under the hand of someone who types, only what beside the field says changes.
            if self._typed is None or self._typed != (text, unit):
                self._typed = None
                if self.value.text != text:
                    self.value.text = text
            if self._has_units and unit:
                _choose(self.unit, unit, shown_unit(unit))
        else:
            _choose(self.value, text, f"“{text}”")

    def _show_state(self, state: FieldState) -> None:
        text = state.message
        if not text and state.shown:
            text = _("= {value}").format(value=state.shown)
        self.message.text = text
        self._message_wanted = bool(text)
        self.message.visible = self._row_wanted and self._message_wanted
        icons = {
            REFUSED: (qt.QStyle.SP_MessageBoxCritical, _("refused")),
            CONTRADICTS: (qt.QStyle.SP_MessageBoxWarning, _("contradiction")),
        }
        if state.state in icons:
            icon, said = icons[state.state]
            self.state.setPixmap(self.state.style().standardIcon(icon).pixmap(_ICON, _ICON))
        else:
            self.state.text = "✓" if state.state == GIVEN else "–"
            said = {GIVEN: _("given"), MISSING: _("missing")}[state.state]
        self.state.toolTip = said
        self.state.setAccessibleName(f"{self.variable.title}: {said}")


def safe_tip(text: str) -> str:
    """A tool tip that shows a text of a package or patient as it is: Qt would read HTML in it."""
    return f"<p>{html.escape(text)}</p>"


def _plain_label(text: str) -> Any:
    label = qt.QLabel(text)
    label.textFormat = qt.Qt.PlainText
    label.wordWrap = True
    return label


def _box(width: int) -> Any:
    """A combo box that the wheel does not change: it stands where people scroll."""
    box = ctk.ctkComboBox()
    box.scrollWheelEffect = ctk.ctkComboBox.NeverScroll
    box.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
    box.minimumContentsLength = 4
    box.setMinimumWidth(width)
    box.focusPolicy = qt.Qt.StrongFocus
    return box


def _choose(box: Any, data: str, title: str) -> None:
    """Choose an item; one that is not there is added, so that what is written is shown."""
    index = box.findData(data)
    if index < 0:
        box.addItem(title, data)
        index = box.findData(data)
    box.setCurrentIndex(index)


def _explanation(variable: Variable) -> str:
    """What a field takes."""
    lines = [f"{variable.title} ({variable.name})."]
    if variable.kind == NUMBER and variable.plausible is not None:
        low, high = variable.plausible
        unit = shown_unit(variable.unit)
        lines.append(
            _("From {low:g} to {high:g} {unit}.").format(low=low, high=high, unit=unit).strip()
        )
    if variable.note:
        lines.append(variable.note)
    return " ".join(lines)
