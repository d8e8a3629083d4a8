"""The clinical values of the group "Prognosis": fields, free text, paste, file, clear, undo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.clinical_entries import (
    REFUSED,
    Check,
    Entries,
    check,
    entries_from_cases,
    file_patients,
    pasted_patients,
)
from REACTKDLib.prognosis.clinical_input import Entry
from REACTKDLib.prognosis.types import ClinicalSchema

from .clinical_table import ClinicalTable
from .parameters import ReactKDParameters

#: Names that a note lists.
_MANY = 6


class ClinicalView:
    """Shows what the parameters hold of the patient, and writes into them what is typed.

    Everything that is written stays as it was written: with its unit, right or wrong.

    Attributes
    ----------
    checked : what becomes of it; None without a schema.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.checked: Check | None = None
        self._schema: ClinicalSchema | None = None
        self._parameters: ReactKDParameters | None = None
        self._entries = Entries()
        self._before: str | None = None
        self._updating = False
        self.table = ClinicalTable(
            ui.clinicalArea,
            ui.clinicalAreaContents.layout(),
            ui.clinicalUndoButton,
            self._on_edited,
        )
        ui.clinicalSearchEdit.connect("textChanged(QString)", self.table.search)
        ui.clinicalPasteButton.connect("clicked()", self._on_paste)
        ui.clinicalFileButton.connect("clicked()", self._on_load)
        ui.clinicalClearButton.connect("clicked()", self._on_clear)
        ui.clinicalUndoButton.connect("clicked()", self._on_undo)
        ui.clinicalTextEdit.connect("textChanged()", self._on_text)
        ui.clinicalTextLabel.text = _("Free text:")
        self._note("")

    @property
    def entries(self) -> Entries:
        """What is written."""
        return self._entries

    def show(
        self,
        parameters: ReactKDParameters | None,
        schema: ClinicalSchema | None,
        reads_text: bool,
        from_image: Mapping[str, Any],
    ) -> None:
        """Show what the parameters hold of a schema's variables.

        ``reads_text`` : whether the model reads free text; ``from_image`` : what the CT's header
        says of the patient.
        """
        if parameters is not self._parameters:
            self._before = None
            self._note("")
        self._parameters, self._schema = parameters, schema
        problem = ""
        try:
            self._entries = Entries.from_json(parameters.clinical_input if parameters else "")
        except InputError as error:
            self._entries, problem = Entries(), str(error)
        self.ui.clinicalInputs.visible = schema is not None
        self.checked = None
        if schema is None:
            self.table.clear()
            return
        self.checked = check(schema, self._entries, from_image)
        self._updating = True
        try:
            self.table.show(schema, self._entries, self.checked)
            self._show_text(reads_text)
        finally:
            self._updating = False
        self.ui.clinicalCountLabel.text = _("{known} of {all} known").format(
            known=self.checked.known, all=len(schema.variables)
        )
        self.ui.clinicalUndoButton.enabled = self._before is not None
        if problem or self.checked.unknown:
            names = _some(self.checked.unknown)
            self._note(problem or _("Not used by this model: {names}.").format(names=names))

    def _show_text(self, reads_text: bool) -> None:
        edit, label = self.ui.clinicalTextEdit, self.ui.clinicalTextLabel
        if edit.plainText != self._entries.text:
            edit.setPlainText(self._entries.text)
        # A text that is there stays in sight even where the model does not read it.
        edit.visible = label.visible = reads_text or bool(self._entries.text)
        state = self.checked.text if self.checked else None
        if state is not None and state.state == REFUSED:
            label.text = f"⚠ {state.message}"
        elif reads_text:
            label.text = _("Free text:")
        else:
            label.text = _("Free text: this model does not read it.")

    def _store(self, entries: Entries) -> None:
        if self._parameters is not None:
            self._parameters.clinical_input = entries.to_json()

    def _replace(self, entries: Entries, note: str) -> None:
        """Put other values in the place of all; Undo brings them back."""
        assert self._parameters is not None
        self._before = self._parameters.clinical_input
        self._note(note)
        self._store(entries)
        self.ui.clinicalUndoButton.enabled = True

    def _on_edited(self, name: str, value: str, unit: str) -> None:
        self._store(self._entries.with_value(name, value, unit))

    def _on_text(self) -> None:
        if not self._updating:
            self._store(Entries(self._entries.values, self.ui.clinicalTextEdit.plainText))

    def _on_clear(self) -> None:
        if self._parameters is not None:
            self._replace(Entries(), _("Cleared; Undo brings the values back."))

    def _on_undo(self) -> None:
        if self._parameters is None or self._before is None:
            return
        # What is there now is not lost either: another Undo goes forth again.
        before, self._before = self._before, self._parameters.clinical_input
        self._note("")
        self._parameters.clinical_input = before

    def _on_paste(self) -> None:
        self._take(lambda: pasted_patients(qt.QApplication.clipboard().text()))

    def _on_load(self) -> None:
        file = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(),
            _("Load clinical values"),
            "",
            _("Clinical values") + " (*.csv *.json *.txt)",
        )
        if file:
            self._take(lambda: file_patients(Path(file)))

    def _take(self, read: Callable[[], dict[str, list[Entry]]]) -> None:
        """Take one patient of what is read; what is wrong is said, and nothing is changed."""
        if self._parameters is None or self._schema is None:
            return
        try:
            patients = read()
            case = next(iter(patients)) if len(patients) == 1 else self._ask(list(patients))
            if case is None:
                return
            found = entries_from_cases(self._schema, patients[case])
        except InputError as error:
            self._note(f"⚠ {error}")
            return
        count = len(found.entries.values)
        lines = [_("{count} values taken in the place of what was there.").format(count=count)]
        if found.assumed:
            lines.append(
                _("Without a unit, so taken in the model's: {names}.").format(
                    names=_some(found.assumed)
                )
            )
        lines += [f"⚠ {message}" for message in list(found.unknown.values())[:_MANY]]
        if len(found.unknown) > _MANY:
            lines.append(_("And {count} more names.").format(count=len(found.unknown) - _MANY))
        self._replace(found.entries, "\n".join(lines))

    def _ask(self, cases: list[str]) -> str | None:
        """Which of several patients; None for none."""
        # Qt gives the first item where the user cancels: that must not be a patient.
        items = [_("(choose)"), *cases]
        answer = qt.QInputDialog.getItem(
            slicer.util.mainWindow(), _("Clinical values"), _("Patient:"), items, 0, False
        )
        chosen = answer[0] if isinstance(answer, tuple) else answer
        return str(chosen) if chosen in cases else None

    def _note(self, text: str) -> None:
        self.ui.clinicalNoteLabel.text = text
        self.ui.clinicalNoteLabel.visible = bool(text)


def _some(names: Any) -> str:
    """Some names, and how many more."""
    listed = list(names)
    more = _(" and {count} more").format(count=len(listed) - _MANY) if len(listed) > _MANY else ""
    return ", ".join(listed[:_MANY]) + more
