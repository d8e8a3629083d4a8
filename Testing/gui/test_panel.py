"""The panel from the real ``.ui`` on a real scene: inputs, Apply, results, errors, closing."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import MODULE, write_fake_package

from REACTKDLib.errors import InputError


def choose(panel, nodes):
    """Choose CT and segmentation as a user does, in the combo boxes."""
    panel.ui.ctSelector.setCurrentNode(nodes.ct)
    panel.ui.segmentationSelector.setCurrentNode(nodes.segmentation)


def roles(ui):
    """What the table says of each segment."""
    table = ui.segmentsTable
    return {
        table.item(row, 0).text(): table.cellWidget(row, 1).currentText
        for row in range(table.rowCount)
    }


def apply(panel):
    """Press Apply and give what is shown then."""
    panel.ui.applyButton.click()
    assert panel.results.shown is not None, panel.ui.statusLabel.text
    return panel.results.shown


def node_names(scene):
    return sorted(scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes()))


def table_rows(panel):
    model = panel.ui.regionTable.model()
    return [
        [model.index(row, column).data() or "" for column in range(model.columnCount())]
        for row in range(model.rowCount())
    ]


def test_research_use_is_always_visible(widget, nodes):
    label = widget.panel.ui.researchUseLabel
    for step in (lambda: None, lambda: choose(widget.panel, nodes), widget.panel.apply):
        step()
        assert label.text == "Research use only. Not for diagnosis."
        assert not label._qt.isHidden()


def test_apply_says_what_is_missing_until_nothing_is(widget, nodes):
    panel, ui = widget.panel, widget.panel.ui
    assert not ui.applyButton.enabled
    assert ui.statusLabel.text == "Choose a CT volume."
    ui.ctSelector.setCurrentNode(nodes.ct)
    assert ui.statusLabel.text == "Choose a segmentation (liver)."
    ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    assert ui.applyButton.enabled
    assert ui.statusLabel.text == ""
    assert roles(ui) == {"Liver": "liver", "HCC": "lesion"}
    ui.fdgSelector.setCurrentNode(nodes.ct)
    assert not ui.applyButton.enabled
    assert ui.statusLabel.text == "The same volume is chosen twice."
    ui.fdgSelector.setCurrentNode(nodes.pet["pet_fdg"])
    assert ui.applyButton.enabled
    panel.parameters.model_package = "/no/such/folder"
    assert not ui.applyButton.enabled
    assert "/no/such/folder is not a model package" in ui.statusLabel.text


def test_renaming_a_segment_completes_the_inputs(widget, nodes):
    ui = widget.panel.ui
    liver = nodes.segmentation.GetSegmentation().GetNthSegment(0)
    liver.SetName("Segment_1")
    choose(widget.panel, nodes)
    assert not ui.applyButton.enabled
    assert "no liver" in ui.statusLabel.text
    assert "Segment_1" in ui.statusLabel.text
    liver.SetName("liver")
    assert ui.applyButton.enabled


def test_choices_are_kept_in_the_scene(widget, nodes, slicer_harness):
    panel = widget.panel
    choose(panel, nodes)
    panel.ui.schemeComboBox.setCurrentIndex(1)
    panel.ui.deviceComboBox.setCurrentIndex(1)
    panel.ui.targetComboBox.setCurrentIndex(2)
    node = slicer_harness.scene.GetSingletonNode("REACTKD", "vtkMRMLScriptedModuleNode")
    assert node.GetNodeReference("ct").GetID() == nodes.ct.GetID()
    assert node.GetParameter("region_scheme") == "PAPER"
    assert node.GetParameter("device") == "CPU"
    assert node.GetParameter("target_class") == "moderate"


def test_apply_runs_and_shows(widget, nodes, runner, slicer_harness):
    panel = widget.panel
    choose(panel, nodes)
    panel.ui.fdgSelector.setCurrentNode(nodes.pet["pet_fdg"])
    panel.ui.targetComboBox.setCurrentIndex(1)
    panel.ui.applyButton.click()
    (study,), (options,) = runner.studies, runner.options
    assert set(study.volumes) == {"ct", "pet_fdg"}
    assert (options.target, options.scheme, options.device) == ("well", "anatomical", "auto")
    ui = panel.ui
    assert not ui.resultsGroup._qt.isHidden()
    assert ui.headlineLabel.text == "Most probable: poorly differentiated (72\N{NO-BREAK SPACE}%)"
    assert ui.otherClassesLabel.text == (
        "moderately differentiated 17\N{NO-BREAK SPACE}%, well differentiated 11\N{NO-BREAK SPACE}%"
    )
    assert ui.inputsLabel.text.startswith("case CT: ")
    assert ui.inputsLabel.text.endswith("from contrast CT, FDG-PET")
    assert ui.noticesLabel.text.endswith("Not given: acetate-PET.")
    assert "Trained on simulated images only." in ui.noticesLabel.text.split("\n\n")[0]
    assert "well differentiated" in ui.sharesLabel.text
    assert table_rows(panel) == [
        ["The lesion", "20.0", "60", "+1.50"],
        ["The liver", "10.0", "60", "-0.25"],
        ["Outside all regions", "", "", "+0.05"],
    ]
    assert not ui.progressBar.visible
    attention = panel.results.shown.nodes.attention
    assert slicer_harness.scene.GetNodeByID(attention.GetID()) is attention


def test_the_table_sorts_numbers_as_numbers(widget, nodes):
    import qt

    choose(widget.panel, nodes)
    widget.panel.apply()
    widget.panel.ui.regionTable.sortByColumn(3, qt.Qt.AscendingOrder)
    assert [row[3] for row in table_rows(widget.panel)] == ["-0.25", "+0.05", "+1.50"]


def test_running_again_replaces_the_result(widget, nodes, slicer_harness, runner):
    choose(widget.panel, nodes)
    widget.panel.apply()
    before = slicer_harness.scene.GetNumberOfNodes()
    widget.panel.ui.applyButton.click()
    assert len(runner.studies) == 2
    assert slicer_harness.scene.GetNumberOfNodes() == before


def test_volumes_of_one_name_do_not_share_a_result(widget, nodes, small_study):
    from REACTKDSlicer.sample_case import add_study

    twin = add_study(small_study)
    assert twin.ct.GetName() == nodes.ct.GetName()
    choose(widget.panel, nodes)
    first = apply(widget.panel)
    widget.panel.ui.ctSelector.setCurrentNode(twin.ct)
    second = apply(widget.panel)
    assert first.nodes.attention.GetScene() is not None
    assert first.nodes.run != second.nodes.run


def test_choosing_a_row_jumps_the_slices_to_the_region(widget, nodes, slicer_harness):
    import slicer

    slice_node = slicer_harness.scene.AddNewNodeByClass("vtkMRMLSliceNode")
    slice_node.SetLayoutName("Red")
    choose(widget.panel, nodes)
    transform = slicer_harness.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = slicer.util.arrayFromTransformMatrix(transform)
    matrix[2, 3] = 100.0
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    for node in (nodes.ct, nodes.segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    shown = apply(widget.panel)
    table = widget.panel.ui.regionTable
    table.setCurrentIndex(table.model().index(0, 2))
    to_ras = slicer.util.arrayFromVTKMatrix(slice_node.GetSliceToRAS())
    # The voxel of the region that is nearest to its centroid, by brute force.
    lesion, labels = shown.result.ranked[0][0], shown.result.region_labels
    right, anterior, superior = min(
        (
            labels.geometry.ras_from_ijk(np.array([i, j, k]))
            for k, j, i in np.argwhere(labels.array == lesion.label)
        ),
        key=lambda point: math.dist(point, lesion.centroid_ras),
    )
    assert tuple(to_ras[:3, 3]) == pytest.approx((right, anterior, superior + 100.0))
    outline = shown.nodes.regions.GetDisplayNode()
    assert tuple(outline.GetSegmentOverrideColor("lesion")) == pytest.approx((1.0, 0.85, 0.2))
    assert tuple(outline.GetSegmentOverrideColor("liver")) == (-1.0, -1.0, -1.0)
    labels = shown.nodes.labels
    chosen = [labels.GetNthControlPointSelected(n) for n in range(2)]
    assert chosen == [False, True]  # in the order of regions: the liver, the lesion
    assert labels.GetNthControlPointVisibility(1)


def test_the_slider_sets_the_opacity_of_the_overlay(widget, nodes, slicer_harness):
    scene = slicer_harness.scene
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    other = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    choose(widget.panel, nodes)
    widget.panel.apply()
    assert composite.GetForegroundOpacity() == pytest.approx(0.5)
    other.SetForegroundVolumeID(nodes.ct.GetID())
    other.SetForegroundOpacity(0.9)
    widget.panel.ui.opacitySlider.setValue(0.25)
    assert composite.GetForegroundOpacity() == pytest.approx(0.25)
    assert other.GetForegroundOpacity() == pytest.approx(0.9)
    assert widget.panel.parameters.overlay_opacity == pytest.approx(0.25)


def test_an_error_is_told_and_leaves_the_scene(widget, nodes, runner, slicer_harness):
    choose(widget.panel, nodes)
    before = node_names(slicer_harness.scene)
    runner.error = InputError("The volume is not a CT.", "Give the original CT.")
    widget.panel.ui.applyButton.click()
    ui = widget.panel.ui
    assert ui.statusLabel.text == "The volume is not a CT. Give the original CT."
    assert node_names(slicer_harness.scene) == before
    assert ui.resultsGroup._qt.isHidden()
    assert ui.applyButton.enabled
    assert not ui.progressBar.visible


def test_a_failure_while_showing_leaves_no_new_node(widget, nodes, slicer_harness, monkeypatch):
    import REACTKDSlicer.scene_nodes as scene_nodes

    def fail(*arguments):
        raise MemoryError("no room for a table")

    choose(widget.panel, nodes)
    before = node_names(slicer_harness.scene)
    monkeypatch.setattr(scene_nodes, "add_region_table", fail)
    with pytest.raises(MemoryError):
        widget.panel.apply()
    assert node_names(slicer_harness.scene) == before
    assert "stopped unexpectedly" in widget.panel.ui.statusLabel.text
    assert widget.panel.ui.applyButton.enabled


def test_declining_the_installation_is_no_error(widget, nodes, runner, slicer_harness):
    from REACTKDSlicer.dependencies import InstallationDeclined

    def decline(needed):
        raise InstallationDeclined("REACTKD needs torch; nothing was installed.", "Press Apply.")

    widget.panel.ensure = decline
    choose(widget.panel, nodes)
    before = node_names(slicer_harness.scene)
    widget.panel.ui.applyButton.click()
    assert widget.panel.ui.statusLabel.text.startswith("REACTKD needs torch")
    assert runner.studies == []
    assert node_names(slicer_harness.scene) == before


def test_deleting_an_input_disables_apply(widget, nodes, slicer_harness):
    choose(widget.panel, nodes)
    widget.panel.apply()
    slicer_harness.scene.RemoveNode(nodes.ct)
    ui = widget.panel.ui
    assert not ui.applyButton.enabled
    assert ui.statusLabel.text == "Choose a CT volume."
    assert ui.resultsGroup._qt.isHidden()


def test_closing_the_scene_starts_afresh(widget, nodes, slicer_harness, package_folder):
    panel = widget.panel
    choose(panel, nodes)
    panel.apply()
    slicer_harness.scene.Clear(False)
    assert panel.ui.resultsGroup._qt.isHidden()
    assert not panel.ui.applyButton.enabled
    assert panel.parameters.ct is None
    panel.parameters.model_package = str(package_folder)
    assert panel.ui.statusLabel.text == "Choose a CT volume."


def test_closing_the_scene_in_another_module(widget, nodes, slicer_harness):
    choose(widget.panel, nodes)
    widget.parent.exit()
    slicer_harness.scene.Clear(False)
    assert widget.panel.parameters is None
    widget.parent.enter()
    assert widget.panel.parameters.ct is None


def test_a_left_panel_does_not_follow_the_parameters(widget, nodes):
    parameters = widget.panel.parameters
    widget.parent.exit()
    parameters.ct = nodes.ct
    assert widget.panel.ui.ctSelector.currentNode() is None
    widget.parent.enter()
    assert widget.panel.ui.ctSelector.currentNode() is nodes.ct


def test_the_saved_scene_brings_the_choices_back(
    widget, nodes, slicer_harness, package_folder, tmp_path
):
    scene, file = slicer_harness.scene, str(tmp_path / "scene.mrml")
    choose(widget.panel, nodes)
    widget.panel.ui.targetComboBox.setCurrentIndex(3)
    scene.SetURL(file)
    assert scene.Commit(file)
    scene.Clear(False)
    scene.SetURL(file)
    scene.Connect()
    assert widget.panel.parameters.target_class == "poor"
    assert widget.panel.parameters.model_package == str(package_folder)
    assert widget.panel.parameters.ct.GetName() == "case CT"
    assert widget.panel.ui.ctSelector.currentNode().GetName() == "case CT"


def test_models_are_offered_by_name(widget, package_folder):
    combo = widget.panel.ui.modelComboBox
    assert combo.currentText == package_folder.name
    assert combo.itemData(combo.currentIndex) == str(package_folder)


def test_another_package_brings_its_own_classes(widget, tmp_path):
    import json

    from REACTKDLib.model_package import METADATA, write_checksums

    folder = write_fake_package(tmp_path / "two-classes")
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    metadata["reactkd"]["classes"] = [
        {"name": "benign", "title": "benign"},
        {"name": "malignant", "title": "malignant"},
    ]
    (folder / METADATA).write_text(json.dumps(metadata), encoding="utf-8")
    write_checksums(folder)
    widget.panel.parameters.model_package = str(folder)
    combo = widget.panel.ui.targetComboBox
    assert [combo.itemText(n) for n in range(combo.count)] == [
        "Most probable class",
        "benign",
        "malignant",
    ]


def test_every_input_has_a_tooltip_and_the_tab_key_follows_the_eye(widget):
    import xml.etree.ElementTree as ElementTree

    from REACTKDLib.resources import resource_path

    root = ElementTree.parse(resource_path("UI/REACTKD.ui")).getroot()
    inputs = {
        *("QComboBox", "QPushButton", "QToolButton", "QCheckBox", "QTableView", "QTableWidget"),
        *("QPlainTextEdit", "ctkSliderWidget", "qMRMLNodeComboBox"),
    }
    named = [w.get("name") for w in root.iter("widget") if w.get("class") in inputs]
    assert len(named) > 25
    assert all(getattr(widget.panel.ui, name).toolTip for name in named)
    order = [stop.text for stop in root.iter("tabstop")]
    assert [name for name in order if name in named] == named
    groups = [w for w in root.iter("widget") if w.get("class") == "ctkCollapsibleButton"]
    assert len(groups) == 8
    for group in groups:  # its header comes right before what it opens
        assert group.get("name") in order
        inside = [w.get("name") for w in group.iter("widget") if w.get("name") in order]
        start = order.index(inside[0])
        assert order[start : start + len(inside)] == inside


def test_importing_the_module_imports_nothing_heavy(slicer_harness):
    import subprocess

    program = (
        "import sys\n"
        "from harness import installed\n"
        "from pathlib import Path\n"
        f"with installed() as harness:\n"
        f"    widget = harness.load_module(Path({str(MODULE)!r}))\n"
        "    widget.parent.enter()\n"
        "    print(sorted({'torch', 'monai', 'SimpleITK', 'scipy'} & set(sys.modules)))\n"
        "    widget.cleanup()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**__import__("os").environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_reload_takes_the_packages_from_disk_again(widget, slicer_harness):
    import slicer

    old = sys.modules["REACTKDSlicer.panel"]
    widget.onReload()
    new_widget = slicer.modules.REACTKDWidget
    assert new_widget is not widget
    assert sys.modules["REACTKDSlicer.panel"] is not old
    new_widget.parent.enter()
    assert new_widget.panel.ui.statusLabel.text
    new_widget.cleanup()


def test_the_panel_fits_a_small_screen_with_everything_open(widget, nodes):
    """Its height scrolls in Slicer; its width must not."""
    choose(widget.panel, nodes)
    apply(widget.panel)
    for name in ("inputs", "options", "log", "results", "display", "whatIf", "compare"):
        getattr(widget.panel.ui, f"{name}Group").collapsed = False
    assert widget.parent._qt.minimumSizeHint().width() <= 320


def test_the_module_s_help_leads_to_pages_that_are_there(slicer_harness):
    import re
    from types import SimpleNamespace

    slicer_harness.load_module(MODULE)
    parent = SimpleNamespace()
    sys.modules["REACTKD"].REACTKD(parent)
    links = [Path(link) for link in re.findall(r'href="file://([^"]+)"', parent.helpText)]
    assert [link.name for link in links] == [
        "radiologists.md",
        "troubleshooting.md",
        "installing.md",
    ]
    assert all(link.is_file() for link in links)
