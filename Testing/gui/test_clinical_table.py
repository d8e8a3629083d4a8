"""The fields of clinical values in the panel: typing, units, missing, paste, files, sets."""

from __future__ import annotations

import json

import pytest
from fakes import MODULE
from prognosis_fakes import fake_metadata, small_schema, with_text, write_fake_prognosis

from REACTKDLib.prognosis.clinical_files import clinical_csv
from REACTKDLib.prognosis.types import ClinicalRecord

PLAIN = 0  # Qt::PlainText


@pytest.fixture(scope="session")
def prognosis_folder(tmp_path_factory):
    return write_fake_prognosis(tmp_path_factory.mktemp("packages") / "fake-prognosis")


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    metadata = with_text(fake_metadata())
    return write_fake_prognosis(tmp_path_factory.mktemp("packages") / "with-text", metadata)


@pytest.fixture
def panel(widget, prognosis_folder):
    """The panel with a model of prognosis, its section open."""
    panel = widget.panel
    panel.parameters.prognosis_package = str(prognosis_folder)
    panel.ui.prognosisGroup.collapsed = False
    return panel


def field(panel, name):
    return panel.prognosis.clinical.table.fields[name]


def type_into(panel, name, text):
    """Type key by key, as a user does, and leave the field."""
    from PySide6.QtTest import QTest

    line = field(panel, name).value._qt
    line.selectAll()
    if text:
        QTest.keyClicks(line, text)
    else:
        line.clear()
        line.textEdited.emit("")
    line.editingFinished.emit()


def copy(text):
    import qt

    qt.QApplication.clipboard().setText(text)


def stored(panel):
    return json.loads(panel.parameters.clinical_input or '{"values": {}, "text": ""}')


def shown(widget):
    return not widget._qt.isHidden()


def test_everything_is_missing_at_first(panel):
    ui = panel.ui
    assert ui.clinicalCountLabel.text == "0 of 8 known"
    assert field(panel, "albumin").value.placeholderText == "missing"
    assert field(panel, "sex").value.currentText == "missing"
    assert field(panel, "hbv").value.currentText == "missing"
    assert {f.state.text for f in panel.prognosis.clinical.table.fields.values()} == {"–"}
    assert ui.prognosisButton.enabled is False
    assert ui.prognosisStatusLabel.text == (
        "Nothing is given yet: give a clinical value or choose a CT and a segmentation above."
    )


def test_the_headings_are_those_of_the_schema(panel):
    table = panel.prognosis.clinical.table
    groups = list(dict.fromkeys(v.group for v in small_schema().variables))
    assert [label.text for label in table._headings.values()] == groups


def test_a_typed_value_is_checked_and_kept(panel):
    type_into(panel, "alt", "200")
    assert stored(panel)["values"] == {"alt": ["200", "U/l"]}
    assert panel.ui.clinicalCountLabel.text == "1 of 8 known"
    assert field(panel, "alt").state.text == "✓"
    assert panel.ui.prognosisButton.enabled is True
    assert panel.ui.prognosisStatusLabel.text == ""


def test_a_suspected_wrong_unit_says_what_to_write_at_the_field(panel):
    albumin = field(panel, "albumin")
    type_into(panel, "albumin", "4.1")
    assert albumin.message.text == (
        "albumin 4.1 g/l: wrong unit suspected. Is it g/dl? Then write 4.1 g/dl."
    )
    assert shown(albumin.message)
    # Not by colour alone: a sign of its own shape, and words for who cannot see it.
    assert not albumin.state.pixmap.isNull()
    assert albumin.state._qt.accessibleName() == "Albumin: refused"
    assert panel.ui.prognosisButton.enabled is False
    assert panel.ui.prognosisStatusLabel.text == "Correct first: Albumin."
    # Nothing was changed for the user.
    assert albumin.value.text == "4.1"
    assert albumin.unit.currentText == "g/l"
    type_into(panel, "albumin", "4.1 g/dl")
    assert albumin.value.text == "4.1"
    assert albumin.unit.currentText == "g/dl"
    assert albumin.message.text == "= 41 g/l"
    assert stored(panel)["values"] == {"albumin": ["4.1", "g/dl"]}
    assert panel.ui.prognosisButton.enabled is True


def test_the_unit_is_a_choice(panel):
    albumin = field(panel, "albumin")
    assert [albumin.unit.itemText(n) for n in range(albumin.unit.count)] == [
        "g/l",
        "g/dl",
        "µmol/l",
    ]
    type_into(panel, "albumin", "4.1")
    albumin.unit.setCurrentIndex(1)
    assert stored(panel)["values"] == {"albumin": ["4.1", "g/dl"]}
    assert albumin.value.text == "4.1"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("alt", "abc", "is no number"),
        ("alt", "4,1", "with a comma"),
        ("age", "4000", "is outside of 0 to 125"),
        ("alt", "20 furlongs", "a unit that it does not have"),
        ("alt", "<b>20</b>", "is no number"),
    ],
)
def test_a_wrong_value_is_told_at_its_field(panel, name, text, message):
    type_into(panel, name, text)
    assert message in field(panel, name).message.text
    assert panel.ui.prognosisButton.enabled is False
    assert panel.ui.clinicalCountLabel.text == "0 of 8 known"
    type_into(panel, name, "")
    assert field(panel, name).message.text == ""
    assert not shown(field(panel, name).message)
    assert panel.parameters.clinical_input == ""


def test_contradictions_are_shown_at_both_fields(panel):
    type_into(panel, "bilirubin_total", "10")
    type_into(panel, "bilirubin_direct", "40")
    for name in ("bilirubin_total", "bilirubin_direct"):
        assert "cannot exceed" in field(panel, name).message.text
        assert field(panel, name).state._qt.accessibleName().endswith(": contradiction")
    assert panel.ui.prognosisStatusLabel.text == "Correct first: Total bilirubin, Direct bilirubin."
    type_into(panel, "bilirubin_direct", "4")
    assert field(panel, "bilirubin_total").message.text == ""


def test_flags_and_categories_are_choices(panel):
    hbv, sex = field(panel, "hbv"), field(panel, "sex")
    assert [hbv.value.itemText(n) for n in range(hbv.value.count)] == ["missing", "yes", "no"]
    assert [sex.value.itemText(n) for n in range(sex.value.count)] == ["missing", "female", "male"]
    hbv.value.setCurrentIndex(2)
    sex.value.setCurrentIndex(1)
    assert stored(panel)["values"] == {"hbv": ["no", ""], "sex": ["female", ""]}
    hbv.value.setCurrentIndex(0)
    assert stored(panel)["values"] == {"sex": ["female", ""]}


def test_the_wheel_changes_no_value(panel):
    from PySide6.QtCore import QPoint, QPointF, Qt
    from PySide6.QtGui import QWheelEvent

    for box in (field(panel, "sex").value._qt, field(panel, "albumin").unit._qt):
        event = QWheelEvent(
            QPointF(2, 2), QPointF(2, 2), QPoint(0, -120), QPoint(0, -120),
            Qt.NoButton, Qt.NoModifier, Qt.NoScrollPhase, False,
        )  # fmt: skip
        box.wheelEvent(event)
        assert box.currentIndex() == 0


def test_the_search_filters_rows_and_headings(panel):
    table = panel.prognosis.clinical.table
    panel.ui.clinicalSearchEdit.text = "bili"
    seen = [name for name, f in table.fields.items() if shown(f.value)]
    assert seen == ["bilirubin_total", "bilirubin_direct"]
    assert [g for g, label in table._headings.items() if shown(label)] == ["Liver tests"]
    panel.ui.clinicalSearchEdit.text = ""
    assert all(shown(f.value) for f in table.fields.values())


def test_a_hidden_field_hides_its_message(panel):
    type_into(panel, "albumin", "4.1")
    panel.ui.clinicalSearchEdit.text = "age"
    assert not shown(field(panel, "albumin").message)
    panel.ui.clinicalSearchEdit.text = ""
    assert shown(field(panel, "albumin").message)


@pytest.mark.parametrize(
    "text",
    [
        "albumin [g/dl]\tALT\tSex\tferritin\n4.1\t200\tf\t80\n",
        "name,value,unit\nalbumin,4.1,g/dl\nalt,200,\nsex,f,\nferritin,80,\n",
    ],
)
def test_paste_takes_the_place_of_all(panel, text):
    type_into(panel, "age", "61")
    copy(text)
    panel.ui.clinicalPasteButton.click()
    assert stored(panel)["values"] == {
        "albumin": ["4.1", "g/dl"],
        "alt": ["200", "U/l"],
        "sex": ["female", ""],
    }
    assert field(panel, "age").value.text == ""
    assert field(panel, "albumin").unit.currentText == "g/dl"
    note = panel.ui.clinicalNoteLabel.text
    assert note.startswith("3 values taken in the place of what was there.")
    assert "Without a unit, so taken in the model's: alt." in note
    assert "'ferritin' is no variable of small" in note
    panel.ui.clinicalUndoButton.click()
    assert stored(panel)["values"] == {"age": ["61", "a"]}
    assert field(panel, "age").value.text == "61"
    panel.ui.clinicalUndoButton.click()
    assert "albumin" in stored(panel)["values"]


@pytest.mark.parametrize("text", ["", "hello", 'a,b\n"1', "albumin\n"])
def test_what_is_no_table_changes_nothing(panel, text):
    type_into(panel, "age", "61")
    before = panel.parameters.clinical_input
    copy(text)
    panel.ui.clinicalPasteButton.click()
    assert panel.parameters.clinical_input == before
    assert panel.ui.clinicalNoteLabel.text


def test_a_pasted_value_that_is_wrong_stands_in_its_field(panel):
    copy("hbv,albumin\nperhaps,4.1 g/l\n")
    panel.ui.clinicalPasteButton.click()
    assert field(panel, "hbv").value.currentText == "“perhaps”"
    assert "neither yes nor no" in field(panel, "hbv").message.text
    assert "wrong unit suspected" in field(panel, "albumin").message.text
    assert panel.ui.prognosisStatusLabel.text == "Correct first: Hepatitis B, Albumin."


def test_of_several_patients_one_is_chosen(panel, monkeypatch):
    import qt

    asked = []

    def choose(*arguments):
        asked.append(arguments[3])
        return "B"

    monkeypatch.setattr(qt.QInputDialog, "getItem", choose)
    copy("case,alt\nA,20\nB,30\n")
    panel.ui.clinicalPasteButton.click()
    assert asked == [["(choose)", "A", "B"]]
    assert stored(panel)["values"] == {"alt": ["30", "U/l"]}
    # Qt answers with the first item where the user cancels.
    monkeypatch.setattr(qt.QInputDialog, "getItem", lambda *arguments: arguments[3][0])
    copy("case,alt\nA,40\nB,50\n")
    panel.ui.clinicalPasteButton.click()
    assert stored(panel)["values"] == {"alt": ["30", "U/l"]}


@pytest.mark.parametrize("suffix", [".csv", ".json", ".txt"])
def test_a_file_is_loaded(panel, monkeypatch, tmp_path, suffix):
    import qt

    path = tmp_path / f"patient{suffix}"
    content = {
        ".csv": clinical_csv(small_schema(), {"P": ClinicalRecord({"alt": 20.0}, "Ascites.")}),
        ".json": json.dumps({"alt": {"value": 20.0, "unit": "U/l"}, "text": "Ascites."}),
        ".txt": "Ascites.",
    }[suffix]
    path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *arguments: str(path))
    panel.ui.clinicalFileButton.click()
    values = {} if suffix == ".txt" else {"alt": ["20.0", "U/l"]}
    assert stored(panel) == {"values": values, "text": "Ascites."}
    assert panel.ui.clinicalTextEdit.plainText == "Ascites."
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *arguments: "")
    panel.ui.clinicalFileButton.click()
    path.write_text("\x00{", encoding="utf-8")


def test_clear_asks_nothing_and_another_set_keeps_the_values(panel):
    type_into(panel, "alt", "200")
    panel.ui.newParametersButton.click()
    assert stored(panel)["values"] == {"alt": ["200", "U/l"]}
    panel.ui.clinicalClearButton.click()
    assert panel.parameters.clinical_input == ""
    assert panel.ui.clinicalCountLabel.text == "0 of 8 known"
    assert field(panel, "alt").value.text == ""
    panel.ui.parametersComboBox.setCurrentIndex(0)
    assert stored(panel)["values"] == {"alt": ["200", "U/l"]}
    assert field(panel, "alt").value.text == "200"


def test_another_set_has_its_own_undo(panel):
    type_into(panel, "alt", "200")
    panel.ui.clinicalClearButton.click()
    assert panel.ui.clinicalUndoButton.enabled
    panel.ui.newParametersButton.click()
    assert not panel.ui.clinicalUndoButton.enabled
    assert not shown(panel.ui.clinicalNoteLabel)


def test_values_come_back_with_the_scene(panel, slicer_harness, tmp_path):
    import slicer

    type_into(panel, "albumin", "4.1 g/dl")
    type_into(panel, "alt", "wrong <b>")
    field(panel, "hbv").value.setCurrentIndex(1)
    before = panel.parameters.clinical_input
    scene, file = slicer.mrmlScene, tmp_path / "scene.mrml"
    scene.SetURL(str(file))
    assert scene.Commit()
    panel.parameters.clinical_input = ""
    assert field(panel, "alt").value.text == ""
    assert scene.Connect()
    assert panel.parameters.clinical_input == before
    assert field(panel, "albumin").value.text == "4.1"
    assert field(panel, "albumin").unit.currentText == "g/dl"
    assert field(panel, "alt").value.text == "wrong <b>"
    assert field(panel, "hbv").value.currentText == "yes"


def test_broken_values_of_a_scene_are_told(panel):
    panel.parameters.clinical_input = "{"  # as by another hand
    assert "cannot be read" in panel.ui.clinicalNoteLabel.text
    assert panel.ui.prognosisButton.enabled is False
    assert "cannot be read" in panel.ui.prognosisStatusLabel.text
    panel.ui.clinicalClearButton.click()
    assert panel.parameters.clinical_input == ""


def test_text_is_offered_by_a_model_that_reads_it(panel, text_folder):
    ui = panel.ui
    assert not shown(ui.clinicalTextEdit)
    panel.parameters.prognosis_package = str(text_folder)
    assert shown(ui.clinicalTextEdit)
    ui.clinicalTextEdit.setPlainText("Ascites <b>since</b> May.")
    assert stored(panel)["text"] == "Ascites <b>since</b> May."
    assert ui.prognosisButton.enabled is True
    ui.clinicalTextEdit.setPlainText("x" * 100_001)
    assert "more than 100000" in ui.clinicalTextLabel.text
    assert ui.prognosisStatusLabel.text == "Correct first: free text."


def test_texts_of_schema_and_patient_are_never_read_as_html(panel):
    for each in panel.prognosis.clinical.table.fields.values():
        for label in (each.name, each.message):
            assert int(label.textFormat.value) == PLAIN
        assert "&lt;" not in each.name.text
    for name in ("clinicalNoteLabel", "prognosisStatusLabel", "prognosisHeadlineLabel"):
        assert int(getattr(panel.ui, name).textFormat.value) == PLAIN


def test_the_header_of_the_ct_contradicts(panel, nodes, slicer_harness):
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "P")
    study = hierarchy.CreateStudyItem(patient, "S")
    hierarchy.SetItemAttribute(patient, "DICOM.PatientSex", "M")
    hierarchy.SetItemAttribute(patient, "DICOM.PatientBirthDate", "19640229")
    hierarchy.SetItemAttribute(study, "DICOM.StudyDate", "2024-02-28")
    item = hierarchy.GetItemByDataNode(nodes.ct) or hierarchy.CreateItem(study, nodes.ct)
    hierarchy.SetItemParent(item, study)
    panel.ui.ctSelector.setCurrentNode(nodes.ct)
    field(panel, "sex").value.setCurrentIndex(1)
    assert "the CT's header says male" in field(panel, "sex").message.text
    type_into(panel, "age", "59")
    assert field(panel, "age").message.text == ""
    type_into(panel, "age", "45")
    assert "the CT's header says 60 years" in field(panel, "age").message.text


def test_the_keyboard_goes_from_field_to_field(panel):
    ui, table = panel.ui, panel.prognosis.clinical.table
    expected = [ui.clinicalUndoButton._qt]
    for each in table.fields.values():
        expected += [stop._qt for stop in each.stops]
    chain, widget = [], expected[0]
    for _ in range(400):
        if widget in expected:
            chain.append(widget)
        widget = widget.nextInFocusChain()
        if widget is ui.clinicalTextEdit._qt:
            break
    assert chain == expected


def test_every_widget_of_the_section_has_a_tool_tip(panel):
    from fakes import REPOSITORY

    text = (REPOSITORY / "Resources" / "UI" / "REACTKD.ui").read_text(encoding="utf-8")
    section = text[text.index('name="prognosisGroup"') : text.index('name="reportButton"')]
    import re

    for kind, name in re.findall(r'class="Q(\w*(?:Button|Edit|Box))" name="(\w+)"', section):
        assert getattr(panel.ui, name).toolTip, (kind, name)
    for each in panel.prognosis.clinical.table.fields.values():
        assert each.value.toolTip


@pytest.fixture
def nothing_shipped(slicer_harness, monkeypatch):
    """An installation without a model of prognosis."""
    from REACTKDSlicer import prognosis_model

    monkeypatch.setattr(prognosis_model, "shipped_prognosis_packages", lambda: ())


def test_without_a_model_the_section_explains_itself(nothing_shipped, widget):
    ui = widget.panel.ui
    assert widget.panel.prognosis.model.package is None
    assert shown(ui.prognosisAbsentLabel)
    assert "hidden" in ui.prognosisAbsentLabel.text
    assert not shown(ui.clinicalInputs)
    assert not shown(ui.prognosisButton)
    assert ui.prognosisGroup.collapsed


def test_a_folder_that_is_no_model_is_told(panel, package_folder):
    panel.parameters.prognosis_package = "/no/such/folder"
    assert "/no/such/folder" in panel.ui.prognosisStatusLabel.text
    panel.parameters.prognosis_package = str(package_folder)
    assert "reactkd predict" in panel.ui.prognosisStatusLabel.text
    assert not shown(panel.ui.prognosisButton)


def test_the_card_of_the_model_opens(panel):
    panel.ui.prognosisCardButton.click()
    assert panel.prognosis.model.card.browser.plainText.strip() == "A fake prognosis."
    panel.prognosis.model.card.close()


def test_a_name_of_another_schema_is_kept_and_told(panel):
    panel.parameters.clinical_input = json.dumps({"values": {"ferritin": ["80", ""]}, "text": ""})
    assert panel.ui.clinicalNoteLabel.text == "Not used by this model: ferritin."
    type_into(panel, "alt", "20")
    assert stored(panel)["values"]["ferritin"] == ["80", ""]


def test_start_up_makes_no_field(slicer_harness):
    """Fields are made when a model is there, not before the module is shown."""
    widget = slicer_harness.load_module(MODULE)
    assert widget.panel.prognosis.clinical.table.fields == {}
