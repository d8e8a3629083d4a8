"""A wrong name and an incomplete double are told apart."""

from __future__ import annotations

import pytest
from harness import NotModelledError, ctk_widgets, mrml_widgets, ui_loader, views
from harness.make_slicer_names import TARGET, kept_class, signature, with_bases
from harness.surface import qt_class, slicer_names, surface_of

STAND_INS = {**ctk_widgets.CLASSES, **mrml_widgets.CLASSES, **views.CLASSES}


@pytest.fixture
def ctk(slicer_harness):
    import ctk

    return ctk


@pytest.mark.parametrize(("name", "stand_in"), STAND_INS.items())
def test_a_stand_in_has_a_surface_and_its_qt_base(name, stand_in):
    surface = surface_of(name)
    assert surface is not None, f"add {name} to STAND_INS of {TARGET.name}'s script"
    assert issubclass(stand_in, qt_class(surface.qt_base))


def test_what_the_real_class_lacks_is_an_attribute_error(ctk):
    button, slider = ctk.ctkCollapsibleButton(), ctk.ctkSliderWidget()
    for helper in ("isCollapsed", "setCollapsed", "_collapsed", "colapsed"):
        with pytest.raises(AttributeError):
            getattr(button, helper)
    with pytest.raises(AttributeError, match="ctkSliderWidget has no attribute named 'valu'"):
        slider.valu = 3
    with pytest.raises(ValueError, match="no signal 'valueChanged"):
        slider.connect("valueChanged(int)", print)
    with pytest.raises(AttributeError, match="ctk has no name 'ctkSlider'"):
        _ = ctk.ctkSlider
    assert not hasattr(slider, "setRange")  # public in C++, but no slot


def test_what_only_the_double_lacks_is_not_modelled(ctk, slicer_harness):
    import slicer

    slider, combo = ctk.ctkSliderWidget(), slicer.qMRMLNodeComboBox()
    with pytest.raises(NotModelledError, match=r"not modelled: ctkSliderWidget\.popupSlider"):
        _ = slider.popupSlider
    with pytest.raises(NotModelledError, match="popupSlider"):
        slider.popupSlider = True
    with pytest.raises(NotModelledError, match="addNode"):
        combo.addNode()
    with pytest.raises(NotModelledError, match=r"signal nodeAdded\(vtkMRMLNode\*\)"):
        combo.connect("nodeAdded(vtkMRMLNode*)", print)
    with pytest.raises(NotModelledError, match="widget class ctkDirectoryButton"):
        _ = ctk.ctkDirectoryButton
    with pytest.raises(NotModelledError, match=r"slicer\.packaging\.pip_check"):
        slicer.packaging.pip_check("torch")


def test_application_modules_and_parents_follow_the_rule(slicer_harness):
    import slicer
    from harness.slicer_app import ModuleParent

    with pytest.raises(NotModelledError, match=r"qSlicerApplication\.ioManager"):
        slicer.app.ioManager()
    with pytest.raises(AttributeError):
        _ = slicer.app.ioManagr
    with pytest.raises(NotModelledError, match="isBuiltIn"):
        _ = slicer.modules.volumes.isBuiltIn
    with pytest.raises(AttributeError):
        _ = slicer.modules.totalsegmentator
    slicer_harness.add_module("TotalSegmentator")
    assert slicer.modules.totalsegmentator.name == "TotalSegmentator"
    parent = ModuleParent("somewhere")
    parent.title = "A module"
    assert (parent.title, parent.path) == ("A module", "somewhere")
    for name in ("titel", "path"):  # the path is read only
        with pytest.raises(AttributeError):
            setattr(parent, name, "")


def test_a_ui_file_with_an_unknown_widget_is_not_modelled(slicer_harness, tmp_path):
    import slicer

    assert "ctkDirectoryButton" not in ui_loader.STAND_INS
    file = tmp_path / "panel.ui"
    file.write_text(
        '<ui version="4.0"><class>P</class><widget class="QWidget" name="P">'
        '<widget class="ctkDirectoryButton" name="d"/></widget></ui>',
        encoding="utf-8",
    )
    with pytest.raises(NotModelledError, match="ctkDirectoryButton"):
        slicer.util.loadUI(str(file))


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        ("setValue(double value)", "setValue(double)"),
        ("setMRMLScene(vtkMRMLScene* newScene)", "setMRMLScene(vtkMRMLScene*)"),
        ("wait(bool, unsigned int delay = 3)", "wait(bool,uint)"),
        ("open(const QList<int>& xy, const QString &)", "open(QList<int>,QString)"),
        ("map(QMap<QString, int> values)", "map(QMap<QString,int>)"),
        ("reset()", "reset()"),
    ],
)
def test_signatures_are_normalised(declaration, expected):
    assert signature(declaration) == expected


def test_names_are_taken_with_those_of_base_classes():
    classes = {
        "ctkA": {"base": "QWidget", "properties": [["size", "int", True], ["count", "int", False]]},
        "ctkB": {"base": "ctkA", "signals": ["done(int how)"], "slots": ["go()"]},
        "ctkC": {"base": "QLabel"},
    }
    assert with_bases(["ctkB"], classes) == ["ctkA", "ctkB"]
    assert kept_class("ctkA", classes["ctkA"]) == {
        "base": "QWidget",
        "properties": ["size"],
        "read_only": ["count"],
    }
    assert kept_class("ctkB", classes["ctkB"])["signals"] == ["done(int)"]


def test_both_versions_are_in_the_file():
    python = slicer_names()["python"]
    assert "packaging" not in python["5.10"]
    assert "pip_ensure" in python["5.12"]["packaging"]
