"""Every name of Slicer, Qt, CTK and VTK that the module and its ``.ui`` files use exists there.

Names of classes of CTK and Slicer's widgets are those of ``harness/slicer_names.json``, names of
VTK and MRML classes those of slicer-core, names of plain Qt classes those of PySide6. What an
expression returns is not followed, and arguments are not checked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("PySide6")
pytest.importorskip("slicer")

import python_names
import ui_names

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "REACTKD").rglob("*.py"))
UI_FILES = sorted((REPOSITORY / "Resources" / "UI").glob("*.ui"))

#: The only names that are used though Slicer 5.10 lacks them, each time after asking.
NEWER = ("slicer.packaging",)


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.fixture(scope="module")
def widgets() -> dict[str, str]:
    return {k: v for f in UI_FILES for k, v in ui_names.objects(f.read_text("utf-8")).items()}


def problems(source: str, newer=()) -> list[str]:
    uses = python_names.used_names(source)
    found = ((use, python_names.problem(use, newer)) for use in uses)
    return [f"line {use.line}, {use.name}: {problem}" for use, problem in found if problem]


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_the_module_uses_names_that_exist(path, widgets):
    source = path.read_text(encoding="utf-8")
    assert problems(source, NEWER) == []
    assert python_names.unknown_class_strings(source) == []
    assert python_names.widget_problems(source, widgets) == []


@pytest.mark.parametrize("path", UI_FILES, ids=relative)
def test_ui_files_use_names_that_exist(path):
    assert ui_names.problems(path.read_text(encoding="utf-8")) == []


def test_the_exceptions_are_needed():
    """A name on the list that nobody uses any more, or that is old by now, leaves the list."""
    found = [text for path in SOURCES for text in problems(path.read_text(encoding="utf-8"))]
    for name in NEWER:
        assert any(f" {name}" in text and "Slicer 5.10)" in text for text in found), name


def test_the_reader_sees_names_however_they_are_imported():
    source = """
import qt
import slicer.util
import ctk as c
from slicer.i18n import tr as _
from slicer import vtkMRMLTextNode
from .slicer import nothing
def f(x):
    import slicer
    slicer.mrmlScene.AddNode(vtkMRMLTextNode.New())
    return c.ctkSliderWidget(x.slicer.util), qt.Qt.AlignLeft | _("text")
"""
    assert {use.name for use in python_names.used_names(source)} == {
        "slicer.util",
        "slicer.i18n.tr",
        "slicer.vtkMRMLTextNode",
        "slicer.mrmlScene.AddNode",
        "slicer.vtkMRMLTextNode.New",
        "ctk.ctkSliderWidget",
        "qt.Qt.AlignLeft",
    }


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("slicer.util.loadUi('x')", "slicer.util has no loadUi (Slicer 5.10 and 5.12)"),
        ("slicer.arrayFromVolume(node)", "slicer has no arrayFromVolume"),
        ("slicer.util.executePythonModule('m', [])", "no executePythonModule (Slicer 5.10)"),
        ("slicer.packaging.pip_ensure('torch')", "there is no slicer.packaging (Slicer 5.10)"),
        ("slicer.app.layoutManger()", "slicer.app has no layoutManger"),
        ("slicer.modules.totalsegmentator.logic()", "not every Slicer has"),
        ("slicer.modules.volumes.logics()", "a module has no logics"),
        ("slicer.mrmlScene.AddNewNode()", "vtkMRMLScene has no AddNewNode"),
        ("slicer.vtkMRMLSegmentNode()", "slicer has no vtkMRMLSegmentNode"),
        ("slicer.vtkMRMLSliceNode.JumpAll(s)", "vtkMRMLSliceNode has no JumpAll"),
        ("slicer.qMRMLNodeCombobox()", "there is no class qMRMLNodeCombobox"),
        ("slicer.qMRMLSegmentsTableView()", "cannot be checked"),
        ("slicer.nothing", "slicer has no nothing"),
        ("from slicer.i18n import trr", "slicer.i18n has no trr"),
        ("from slicer.parameterNodeWrapper import InRange", "has no InRange"),
        ("qt.QRegExp('x')", "Qt 6 has no QRegExp"),
        ("qt.QStringDecoder()", "QStringDecoder is not in Qt 5"),
        ("qt.QLabel.setTxet", "QLabel has no setTxet"),
        ("qt.Qt.AlignmentFlag.AlignLeft", "on the class, not on the enum AlignmentFlag"),
        ("qt.QPrinter.A4", "QPrinter has no A4"),
        ("ctk.ctkSlider()", "there is no class ctkSlider"),
        ("ctk.ctkPathLineEdit.Folders", "ctkPathLineEdit has no Folders"),
        ("vtk.vtkComand.ModifiedEvent", "vtk has no vtkComand"),
    ],
)
def test_a_wrong_name_is_found(statement, complaint):
    source = f"import ctk, qt, slicer, vtk\n{statement}\n"
    assert [text for text in problems(source) if complaint in text], problems(source)


def test_right_names_are_not_complained_about():
    source = """
import ctk, qt, slicer, vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModule
slicer.app.settings().setValue("a", slicer.app.applicationName)
slicer.modules.volumes.logic()
qt.QTimer.singleShot(0, print)
qt.QPrinter.PdfFormat, qt.Qt.UserRole + 1, ctk.ctkPathLineEdit.Dirs
vtk.vtkCommand.ModifiedEvent
slicer.qMRMLNodeComboBox()
"""
    assert problems(source) == []


def test_newer_names_must_be_asked_for():
    use = "    slicer.packaging.pip_ensure('torch')\n"
    asked = "    if importlib.util.find_spec('slicer.packaging') is None: return\n"
    start = "import importlib.util, slicer\ndef f():\n"
    assert problems(start + asked + use, ["slicer.packaging"]) == []
    assert "without asking" in problems(start + use, ["slicer.packaging"])[0]
    assert problems(start + asked + use)
    other = start + "    hasattr(slicer.util, 'executePythonModule')\n"
    call = "    slicer.util.executePythonModule('m', [])\n"
    assert problems(other + call, ["slicer.util.executePythonModule"]) == []


def test_class_names_in_strings():
    source = (
        'f("vtkMRMLTextNode", "vtkMRMLSliceNodeRed", "vtkMRMLTxtNode", "vtkMRMLScalarVolumeNodes")'
    )
    assert python_names.unknown_class_strings(source) == ["vtkMRMLTxtNode"]


def test_wrong_widgets_attributes_and_signals_are_found():
    source = """
import qt
class P:
    def f(self, ui):
        self.ui = ui
        ui.applyButton.text = ui.applyButton.txt
        ui.aplyButton.enabled = True
        ui.applyButton.text()
        ui.applyButton.connect("clickd()", f)
        ui.slider.connect("valueChanged(double)", f)
        self.ui.slider.connect("valueChanged(int)", f)
        self.process = qt.QProcess()
        self.process.connect("finished(int,QProcess::ExitStatus)", f)
        self.process.connect("finished(QString)", f)
        anything().connect("currentRowChanged(QModelIndex,QModelIndex)", f)
        anything().connect("rowChanged()", f)
        ui.slider.setValue(1.0)
        ui.slider.setRange(0, 1)
"""
    widgets = {"applyButton": "QPushButton", "slider": "ctkSliderWidget"}
    assert python_names.widget_problems(source, widgets) == [
        "line 6: applyButton: QPushButton has no txt",
        "line 7: no .ui file has aplyButton",
        "line 8: applyButton: text is a property, which is not called",
        "line 9: QPushButton has no signal clickd()",
        "line 11: ctkSliderWidget has no signal valueChanged(int)",
        "line 14: QProcess has no signal finished(QString)",
        "line 16: no class has signal rowChanged()",
        "line 18: slider: ctkSliderWidget has no setRange",
    ]


def test_wrong_names_in_a_ui_file_are_found():
    text = """<ui version="4.0"><class>P</class><widget class="qMRMLWidget" name="P">
 <layout class="QVBoxLayout" name="l"><property name="leftMargin"><number>0</number></property>
  <item><widget class="QLabl" name="a"/></item>
  <item><widget class="ctkSliderWidget" name="b">
   <property name="maximun"><double>1</double></property>
   <property name="SlicerParameterName" stdset="0"><string>x</string></property></widget></item>
  <item><widget class="QLabel" name="c">
   <property name="frameShape"><enum>QFrame::Shape::Box</enum></property>
   <property name="alignment"><set>Qt::AlignLeft|Qt::AlignMiddle</set></property></widget></item>
  <item><widget class="ctkDirectoryButton" name="d"/></item>
  <item><widget class="qMRMLNodeComboBox" name="e"/></item>
 </layout></widget><connections>
 <connection><sender>P</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
  <receiver>e</receiver><slot>setScene(vtkMRMLScene*)</slot></connection>
 <connection><sender>P</sender><signal>sceneChanged()</signal>
  <receiver>f</receiver><slot>update()</slot></connection>
 </connections></ui>"""
    assert ui_names.problems(text) == [
        "a: there is no class QLabl",
        "b: ctkSliderWidget has no property maximun",
        "d: ctkDirectoryButton cannot be checked: add it to STAND_INS of make_slicer_names.py",
        "the value QFrame::Shape::Box is not written as Class::Value",
        "Qt has no value AlignMiddle",
        "e: qMRMLNodeComboBox has no slot setScene(vtkMRMLScene*)",
        "P: qMRMLWidget has no signal sceneChanged()",
        "a connection names 'f', which is not in the file",
    ]
