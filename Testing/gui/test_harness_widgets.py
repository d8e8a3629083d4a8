"""Widgets with two values and with a path: values, bounds, signals, history, ``.ui``."""

from __future__ import annotations

import pytest
from harness import NotModelledError

UI = """<ui version="4.0"><class>Panel</class><widget class="qMRMLWidget" name="Panel">
 <layout class="QVBoxLayout" name="panelLayout">
  <item><widget class="ctkRangeWidget" name="windowRange">
   <property name="minimum"><double>-1000</double></property>
   <property name="maximum"><double>500</double></property>
   <property name="minimumValue"><double>-100</double></property>
   <property name="maximumValue"><double>200</double></property>
   <property name="decimals"><number>0</number></property>
  </widget></item>
  <item><widget class="ctkPathLineEdit" name="reportPath">
   <property name="settingKey"><string>REACTKD/Report</string></property>
   <property name="showBrowseButton"><bool>false</bool></property>
   <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Writable</set></property>
  </widget></item>
 </layout></widget></ui>"""


@pytest.fixture
def ctk(slicer_harness):
    import ctk

    return ctk


@pytest.mark.parametrize("name", ["ctkRangeWidget", "ctkDoubleRangeSlider"])
def test_two_values_in_bounds(ctk, name):
    widget, seen = getattr(ctk, name)(), []
    assert (widget.minimum, widget.maximum) == (0.0, 99.0)
    assert (widget.minimumValue, widget.maximumValue) == (0.0, 99.0)
    widget.connect("valuesChanged(double,double)", lambda low, high: seen.append((low, high)))
    widget.connect("minimumValueChanged(double)", seen.append)
    widget.setValues(10, 20)
    assert seen == [10.0, (10.0, 20.0)]
    widget.setValues(10, 20)
    widget.maximumValue = 30
    assert seen[2:] == [(10.0, 30.0)]
    widget.setRange(15, 25)
    assert (widget.minimumValue, widget.maximumValue) == (15.0, 25.0)
    widget.setMinimumValue(-5)
    assert widget.minimumValue == 15.0
    with pytest.raises(NotModelledError, match="values from 9 to 3"):
        widget.setValues(9, 3)
    with pytest.raises(NotModelledError, match="symmetricMoves"):
        widget.symmetricMoves = True


def test_the_boxes_of_a_range_widget_round(ctk):
    widget = ctk.ctkRangeWidget()
    widget.setDecimals(1)
    widget.setValues(1.26, 2)
    assert widget.minimumValue == 1.3


def test_typing_into_a_box_changes_the_range(ctk):
    widget, seen = ctk.ctkRangeWidget(), []
    widget.valuesChanged.connect(lambda low, high: seen.append((low, high)))
    widget._qt._boxes[0].setValue(12)
    assert seen == [(12.0, 99.0)]


def test_a_path_and_its_history(ctk):
    edit, seen = ctk.ctkPathLineEdit(), []
    edit.connect("currentPathChanged(QString)", seen.append)
    edit.currentPath = "/data/one"
    edit.setCurrentPath("/data/one")
    assert seen == ["/data/one"]
    edit.settingKey = "Paths"
    for path in ("/data/one", "/data/two"):
        edit.currentPath = path
        edit.addCurrentPathToHistory()
    other = ctk.ctkPathLineEdit()
    other.settingKey = "Paths"
    assert other.currentPath == "/data/two"
    edit.filters = ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.NoDotAndDotDot
    with pytest.raises(NotModelledError, match="browse"):
        edit.browse()


def test_ui_files_set_the_properties(slicer_harness, tmp_path):
    import qt
    import slicer

    (tmp_path / "panel.ui").write_text(UI, encoding="utf-8")
    widget = slicer.util.loadUI(str(tmp_path / "panel.ui"))
    ui = slicer.util.childWidgetVariables(widget)
    assert (ui.windowRange.minimum, ui.windowRange.maximum) == (-1000.0, 500.0)
    assert (ui.windowRange.minimumValue, ui.windowRange.maximumValue) == (-100.0, 200.0)
    assert ui.reportPath.settingKey == "REACTKD/Report"
    assert not ui.reportPath.showBrowseButton
    assert ui.reportPath.filters == qt.QDir.Dirs | qt.QDir.Writable
    widget.grab()
