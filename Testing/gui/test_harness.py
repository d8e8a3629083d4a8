"""The harness itself: it follows PythonQt's rules and refuses what it does not model."""

from __future__ import annotations

import enum
import sys

import pytest
from harness import NotModelledError, installed


@pytest.fixture
def qt(slicer_harness):
    import qt

    return qt


def test_properties_are_attributes(qt):
    button = qt.QPushButton("Go")
    assert button.text == "Go"
    with pytest.raises(TypeError):
        button.text()
    button.text, button.name = "Stop", "stopButton"
    assert (button.text, button.objectName, button.name) == ("Stop", "stopButton", "stopButton")


def test_unknown_attributes_raise_on_reading_and_on_writing(qt):
    label = qt.QLabel("x")
    with pytest.raises(AttributeError, match="QLabel has no attribute named 'txet'"):
        _ = label.txet
    with pytest.raises(AttributeError, match="gets no new ones"):
        label.txet = "y"
    with pytest.raises(AttributeError, match="read only"):
        qt.QComboBox().count = 3
    with pytest.raises(AttributeError, match="QLbel"):
        _ = qt.QLbel


def test_dynamic_properties_and_named_children_are_attributes(qt):
    parent = qt.QWidget()
    child = qt.QLabel("inside", parent)
    child.name = "inner"
    parent.setProperty("SlicerParameterName", "ct")
    assert parent.SlicerParameterName == "ct"
    assert parent.inner == child
    assert parent.inner.text == "inside"


def test_connect_takes_the_signature_and_trims_arguments(qt):
    button, seen = qt.QPushButton(), []

    def with_state(checked):
        seen.append(checked)

    def without():
        seen.append("called")

    button.checkable = True
    button.connect("toggled(bool)", with_state)
    button.connect("toggled(bool)", without)
    button.toggle()
    assert seen == [True, "called"]
    assert button.disconnect("toggled(bool)", with_state)
    button.toggle()
    assert seen == [True, "called", "called"]
    assert not button.disconnect("toggled(bool)", with_state)
    with pytest.raises(ValueError, match="no signal 'togled"):
        button.connect("togled(bool)", without)


def test_signals_are_attributes_too(qt):
    button, seen = qt.QPushButton(), []
    button.checkable = True
    button.clicked.connect(seen.append)
    button.click()
    assert seen == [True]


def test_classes_and_enums(qt):
    label = qt.QLabel()
    assert isinstance(label, qt.QLabel)
    assert isinstance(label, qt.QWidget)
    assert not isinstance(label, qt.QPushButton)
    assert qt.QMessageBox.Ok != qt.QMessageBox.Cancel
    with pytest.raises(NotModelledError, match="subclasses"):
        type("Own", (qt.QWidget,), {})


def test_names_of_slicer_util_are_not_on_slicer(slicer_harness):
    import slicer

    assert not hasattr(slicer, "arrayFromVolume")
    assert callable(slicer.util.arrayFromVolume)
    assert slicer.util.mainWindow() is None
    assert slicer.app.layoutManager() is None
    with pytest.raises(NotModelledError, match=r"not modelled: qSlicerApplication.pythonConsole"):
        slicer.app.pythonConsole()
    with pytest.raises(AttributeError):
        slicer.app.pythonConsol()


def test_everything_is_taken_away_again():
    import slicer

    before = set(vars(slicer))
    with installed():
        assert hasattr(slicer, "mrmlScene")
        assert "qt" in sys.modules
    assert set(vars(slicer)) == before
    assert "qt" not in sys.modules
    assert not [name for name in sys.modules if name == "slicer.packaging"]


def test_an_exception_in_a_callback_fails_the_test():
    with pytest.raises(AssertionError, match="ZeroDivisionError"), installed() as harness:
        harness.scene.AddObserver(harness.scene.NodeAddedEvent, lambda caller, event: 1 / 0)
        harness.scene.AddNewNodeByClass("vtkMRMLTextNode")


def test_a_dialog_that_nobody_expects_fails(slicer_harness):
    import slicer

    with pytest.raises(AssertionError, match="unexpected dialog: Sure"):
        slicer.util.confirmYesNoDisplay("Sure?")


def test_node_combo_box_follows_the_scene(slicer_harness):
    import slicer

    scene, combo, seen = slicer_harness.scene, slicer.qMRMLNodeComboBox(), []
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.addEnabled = combo.removeEnabled = False
    combo.setMRMLScene(scene)
    combo.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    first = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    labelmap = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    assert combo.currentNode() is first  # without None, there is always a choice
    assert combo.nodeCount() == 2
    combo.showChildNodeTypes = False
    assert combo.nodeCount() == 1
    combo.setCurrentNode(labelmap)
    assert combo.currentNode() is None
    combo.noneEnabled = True
    combo.setCurrentNode(first)
    scene.RemoveNode(first)
    assert combo.currentNode() is None
    assert seen[-1] is None
    with pytest.raises(NotModelledError, match="addEnabled"):
        combo.addEnabled = True


def test_parameters_live_in_the_node_and_bind_widgets(slicer_harness, qt):
    from typing import Annotated

    import slicer
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    class Size(enum.Enum):
        SMALL = 1
        LARGE = 2

    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        size: Size
        part: Annotated[float, WithinRange(0.0, 2.0)] = 0.5

    # Hints of a local class cannot be resolved from strings.
    Parameters.__annotations__ = {
        "volume": slicer.vtkMRMLScalarVolumeNode,
        "size": Size,
        "part": Annotated[float, WithinRange(0.0, 2.0)],
    }
    node = slicer_harness.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    parameters = parameterNodeWrapper(Parameters)(node)
    assert (parameters.volume, parameters.size, parameters.part) == (None, Size.SMALL, 0.5)
    combo = qt.QComboBox()
    combo.setProperty("SlicerParameterName", "size")
    gui = type("Gui", (), {})()
    gui.combo = combo
    tag = parameters.connectGui(gui)
    combo.setCurrentIndex(1)
    assert node.GetParameter("size") == "LARGE"
    parameters.size = Size.SMALL
    assert combo.currentIndex == 0
    parameters.disconnectGui(tag)
    combo.setCurrentIndex(1)
    assert parameters.size is Size.SMALL
    with pytest.raises(ValueError, match="outside"):
        parameters.part = 3.0
    with pytest.raises(TypeError):
        parameters.volume = node


def test_unmodelled_parameter_types_are_refused(slicer_harness):
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    with pytest.raises(NotModelledError, match="names"):
        parameterNodeWrapper(type("Lists", (), {"__annotations__": {"names": list[str]}}))
