"""Panel and views show the same result, and say so where it is not what is chosen now."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from harness.waiting import wait_until
from test_panel import apply, choose, node_names
from test_panel_display import compare_with, composite, foreground, shown, table_texts, tick

from REACTKDLib.types import Notice, PredictionSet, Segmentation, Study, Volume

__all__ = ["shown"]  # a fixture


def roles_in_scene(scene):
    nodes = (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
    return {node.GetAttribute("REACTKD.role") for node in nodes} - {None}


def pause(seconds=0.6):
    """Longer than the moment that the panel leaves for several changes."""
    import time

    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end)


# --- two sets of parameters


def test_the_views_follow_the_set_of_parameters(beside):
    panel, (first, _), _, harness = beside
    ui = panel.ui
    choose(panel, first)
    one = apply(panel)
    ui.layoutButton.click()
    ui.newParametersButton.click()
    two = apply(panel)
    assert foreground(harness, "Red") is two.nodes.attention
    assert [n.glyphs.GetDisplayNode().GetVisibility() for n in (one.nodes, two.nodes)] == [0, 1]
    assert not one.nodes.regions.GetDisplayNode().GetVisibility()
    ui.parametersComboBox.setCurrentIndex(0)
    assert panel.results.shown.nodes.run == one.nodes.run
    assert foreground(harness, "Red") is one.nodes.attention
    assert [n.glyphs.GetDisplayNode().GetVisibility() for n in (one.nodes, two.nodes)] == [1, 0]
    assert one.nodes.regions.GetDisplayNode().GetVisibility()
    import slicer

    table = slicer.app.layoutManager().tableWidget(0).mrmlTableViewNode()
    assert table.GetTableNodeID() == one.nodes.table.GetID()


def test_what_the_user_has_hidden_stays_hidden(beside):
    panel, (first, _), _, _ = beside
    choose(panel, first)
    one = apply(panel)
    one.nodes.regions.GetDisplayNode().SetVisibility(False)
    panel.ui.graphCheckBox.checked = False
    panel.ui.newParametersButton.click()
    apply(panel)
    panel.ui.parametersComboBox.setCurrentIndex(0)
    assert not one.nodes.regions.GetDisplayNode().GetVisibility()
    assert not one.nodes.glyphs.GetDisplayNode().GetVisibility()


def test_sets_of_parameters_are_locked_during_a_run(widget, nodes, worker):
    ui = widget.panel.ui
    choose(widget.panel, nodes)
    ui.newParametersButton.click()
    worker.holds = True
    ui.applyButton.click()
    assert not ui.parametersComboBox.enabled
    assert not ui.newParametersButton.enabled
    worker.finish()
    assert ui.parametersComboBox.enabled
    assert ui.newParametersButton.enabled


def test_an_answer_to_another_set_of_parameters_is_not_shown(shown, worker, slicer_harness):
    ui = shown.ui
    ui.newParametersButton.click()
    second = apply(shown)
    worker.holds = True
    tick(ui, 0)
    wait_until(lambda: worker.busy)
    ui.parametersComboBox.setCurrentIndex(0)
    worker.finish()
    assert shown.results.shown.nodes.run != second.nodes.run
    assert ui.whatIfAnswerLabel.text == ""
    assert "what-if attention" not in roles_in_scene(slicer_harness.scene)


# --- second answers do not pass for the original


def test_switching_sets_leaves_no_what_if_behind(shown, worker, slicer_harness):
    scene, ui = slicer_harness.scene, shown.ui
    tick(ui, 0)
    wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    ui.newParametersButton.click()
    ui.parametersComboBox.setCurrentIndex(0)
    assert composite(scene).GetForegroundVolumeID() == (shown.results.shown.nodes.attention.GetID())
    assert "what-if attention" not in roles_in_scene(scene)


def test_a_what_if_is_named_in_the_view(shown, slicer_harness):
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.volumes import legend_of

    tick(shown.ui, 0)
    wait_until(lambda: "→" in shown.ui.whatIfAnswerLabel.text)
    scene = slicer_harness.scene
    overlay = scene.GetNodeByID(composite(scene).GetForegroundVolumeID())
    assert overlay.GetName() == "case CT What if"
    legend = legend_of(context_from_slicer_application(), overlay)
    assert legend.GetTitleText().startswith("What if\nAttention for\npoorly")


def test_a_scene_saved_during_a_what_if_opens_with_the_original(shown, slicer_harness, tmp_path):
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.scene_command import save_scene

    scene, ui = slicer_harness.scene, shown.ui
    tick(ui, 0)
    wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    what_if = composite(scene).GetForegroundVolumeID()
    context = context_from_slicer_application()
    save_scene(context, tmp_path / "scene.mrb")
    assert composite(scene).GetForegroundVolumeID() == what_if  # and goes on after saving
    scene.Clear(False)
    (tmp_path / "opened").mkdir()
    assert context.application_logic.OpenSlicerDataBundle(
        str(tmp_path / "scene.mrb"), str(tmp_path / "opened")
    )
    attention = shown.results.shown.nodes.attention
    assert composite(scene).GetForegroundVolumeID() == attention.GetID()
    assert "what-if attention" not in roles_in_scene(scene)
    names = [p.name for p in (tmp_path / "opened").rglob("*")]
    assert any("attention" in name for name in names)
    assert not any("What if" in name for name in names)


def test_the_report_has_pictures_of_the_original(shown, slicer_harness, monkeypatch, tmp_path):
    import qt
    from REACTKDSlicer import result_panel

    scene, ui = slicer_harness.scene, shown.ui
    tick(ui, 0)
    wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    what_if, pictured = composite(scene).GetForegroundVolumeID(), []

    def look():
        pictured.append(composite(scene).GetForegroundVolumeID())
        return {}

    monkeypatch.setattr(result_panel, "view_pictures", look)
    file = str(tmp_path / "report.html")
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *arguments: file)
    ui.reportButton.click()
    assert pictured == [shown.results.shown.nodes.attention.GetID()]
    assert composite(scene).GetForegroundVolumeID() == what_if


def test_a_what_if_tells_its_own_set_and_warnings(shown, worker, monkeypatch):
    import fakes

    plain = fakes.what_if_of

    def noisy(case):
        return dataclasses.replace(
            plain(case),
            prediction_set=PredictionSet(("well", "moderate", "poor"), 0.9),
            notices=(*case.notices, Notice("noise", "warning", "Noisier than the training.")),
        )

    monkeypatch.setattr(fakes, "what_if_of", noisy)
    ui = shown.ui
    ui.doseComboBox.setCurrentIndex(5)
    wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    first, *others = ui.whatIfAnswerLabel.text.split("\n")
    assert "→" in first
    assert others[0].startswith("The model abstains")
    assert "no class can be excluded" in others[1]
    assert others[2].endswith("Noisier than the training.")
    assert len(others) == 3  # what the original said too is not repeated


def test_a_what_if_that_fails_does_not_leave_the_last_one_in_the_view(
    shown, runner, slicer_harness
):
    from REACTKDLib.errors import OptionError

    tick(shown.ui, 0)
    wait_until(lambda: "→" in shown.ui.whatIfAnswerLabel.text)
    runner.error = OptionError("Nothing can take its place.", "Hide fewer regions.")
    tick(shown.ui, 1)
    wait_until(lambda: "Hide fewer" in shown.ui.whatIfAnswerLabel.text)
    assert "what-if attention" not in roles_in_scene(slicer_harness.scene)
    assert table_texts(shown.ui.whatIfTable)[0][2] == ""


# --- other inputs than those of the result


@pytest.fixture
def smaller(small_study):
    """A study on a smaller grid."""
    whole = small_study.ct.geometry
    grid = whole.crop((0, 0, 0), (10, 9, 8))
    labels = small_study.segmentation
    return Study(
        {"ct": Volume(small_study.ct.array[:8, :9, :10].copy(), grid)},
        Segmentation(labels.labels[:8, :9, :10].copy(), grid, labels.segments),
        "smaller",
    )


def test_other_inputs_mark_the_result_and_end_its_what_ifs(shown, nodes, worker, smaller):
    from REACTKDSlicer.sample_case import add_study

    ui, other = shown.ui, add_study(smaller)
    assert ui.staleLabel._qt.isHidden()
    ui.ctSelector.setCurrentNode(other.ct)
    assert not ui.staleLabel._qt.isHidden()
    assert not ui.whatIfGroup.enabled
    ui.ctSelector.setCurrentNode(nodes.ct)
    assert ui.staleLabel._qt.isHidden()
    assert ui.whatIfGroup.enabled
    for change in (
        lambda: ui.fdgSelector.setCurrentNode(nodes.pet["pet_fdg"]),
        lambda: ui.schemeComboBox.setCurrentIndex(1),
        lambda: ui.segmentsTable.cellWidget(1, 1).setCurrentIndex(0),
    ):
        change()
        assert not ui.staleLabel._qt.isHidden()
        apply(shown)
        assert ui.staleLabel._qt.isHidden()
    ui.targetComboBox.setCurrentIndex(1)  # the result says for which class it speaks
    assert ui.staleLabel._qt.isHidden()


def test_choosing_a_ct_that_has_a_result_shows_it(beside):
    panel, (first, second), _, harness = beside
    choose(panel, first)
    one = apply(panel)
    choose(panel, second)
    apply(panel)
    choose(panel, first)
    assert panel.results.shown.nodes.run == one.nodes.run
    assert foreground(harness, "Red") is one.nodes.attention
    assert panel.ui.staleLabel._qt.isHidden()


def test_a_segment_that_is_added_is_an_edit_to_follow(shown, nodes, worker):
    shown.ui.editedCheckBox.checked = True
    nodes.segmentation.GetSegmentation().AddEmptySegment("", "lesion 2")
    segmentation = nodes.segmentation.GetSegmentation()
    segmentation.InvokeEvent(segmentation.SourceRepresentationModified)
    wait_until(lambda: "→" in shown.ui.whatIfAnswerLabel.text)
    assert shown.ui.staleLabel._qt.isHidden()
    shown.ui.segmentsTable.cellWidget(0, 1).setCurrentIndex(0)  # the liver plays no role any more
    assert not shown.ui.staleLabel._qt.isHidden()


def test_edits_are_not_followed_into_another_ct(shown, worker, smaller, slicer_harness):
    from REACTKDSlicer.sample_case import add_study

    ui, other = shown.ui, add_study(smaller)
    tick(ui, 0)
    wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
    ui.editedCheckBox.checked = True
    choose(shown, other)
    segmentation = other.segmentation.GetSegmentation()
    segmentation.InvokeEvent(segmentation.SourceRepresentationModified)
    pause()
    assert len(worker.jobs) == 2
    shown.results.what_if._edited = True
    shown.results.what_if.start()  # as if it had waited in the queue
    assert "no longer those of this result" in ui.whatIfAnswerLabel.text
    assert len(worker.jobs) == 2


def test_an_array_of_another_size_is_never_put_into_a_node(shown, smaller, slicer_harness, runner):
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.overlay_nodes import WHAT_IF, add_overlay

    from REACTKDLib.errors import InputError

    tick(shown.ui, 0)
    wait_until(lambda: "→" in shown.ui.whatIfAnswerLabel.text)
    result, nodes = shown.results.shown.result, shown.results.shown.nodes
    grid = smaller.ct.geometry
    part = (slice(8), slice(9), slice(10))
    foreign = dataclasses.replace(
        result,
        attention=Volume(np.array(result.attention.array[part]), grid),
        region_labels=Volume(np.array(result.region_labels.array[part]), grid),
    )
    with pytest.raises(InputError, match="do not lie on the grid"):
        add_overlay(context_from_slicer_application(), foreign, nodes, WHAT_IF, "What if")


def test_a_restored_result_is_adopted_with_its_own_inputs_only(shown, nodes, worker, widget):
    import slicer

    shown.results.clear()
    widget.parent.exit()
    widget.parent.enter()  # restores it, without its run
    assert shown.results.shown is not None
    segmentation = nodes.segmentation
    lesion = segmentation.GetSegmentation().GetNthSegmentID(1)
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(lesion, image)
    before = len(worker.jobs)
    labelmap = (
        segmentation.GetSegmentation().GetSegment(lesion).GetRepresentation("Binary labelmap")
    )
    from vtk.util.numpy_support import vtk_to_numpy

    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars())
    voxels[np.flatnonzero(voxels == 2)[0]] = 1
    labelmap.Modified()
    tick(shown.ui, 0)
    wait_until(lambda: "no longer that of this result" in shown.ui.whatIfAnswerLabel.text)
    assert len(worker.jobs) == before


def test_a_result_is_found_again_after_the_ct_was_renamed(shown, nodes, widget, slicer_harness):
    before = shown.results.shown.nodes.attention
    nodes.ct.SetName("another name")
    shown.results.clear()
    widget.parent.exit()
    widget.parent.enter()
    assert shown.results.shown.nodes.attention is before
    count = len(node_names(slicer_harness.scene))
    apply(shown)  # replaces it, though it has another name now
    assert before.GetScene() is None
    assert len(node_names(slicer_harness.scene)) == count
    assert shown.results.shown.nodes.run == "another name"


def test_a_name_that_another_ct_had_is_not_taken_over(widget, nodes, small_study):
    from REACTKDSlicer.sample_case import add_study

    panel = widget.panel
    choose(panel, nodes)
    first = apply(panel)
    nodes.ct.SetName("another name")
    twin = add_study(small_study)
    choose(panel, twin)
    second = apply(panel)
    assert second.nodes.run == "case CT 2"
    assert first.nodes.attention.GetScene() is not None


# --- side by side


def test_both_views_show_the_same_place(beside):
    import slicer

    panel, (first, _), _, _ = beside
    choose(panel, first)
    apply(panel)
    manager = slicer.app.layoutManager()
    yellow = manager.sliceWidget("Yellow").mrmlSliceNode()
    red = manager.sliceWidget("Red").mrmlSliceNode()
    red.SetSliceOffset(7.5)
    before = yellow.GetOrientation()
    compare_with(panel.ui, "class: well differentiated")
    beside_it = manager.sliceWidget("Compare").mrmlSliceNode()
    assert red.GetOrientation() == beside_it.GetOrientation() == "Axial"
    assert beside_it.GetSliceOffset() == pytest.approx(7.5)
    composites = [manager.sliceWidget(n).mrmlSliceCompositeNode() for n in ("Red", "Compare")]
    assert all(c.GetLinkedControl() and c.GetHotLinkedControl() for c in composites)
    assert yellow.GetOrientation() == before
    red.SetOrientation("Coronal")
    compare_with(panel.ui, "class: moderately differentiated")
    assert beside_it.GetOrientation() == "Coronal"
    compare_with(panel.ui, "nothing")
    assert not any(c.GetLinkedControl() for c in composites)


def test_both_views_have_one_range_of_colours_and_a_legend_each(beside, runner):
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.volumes import legend_of

    panel, (first, second), _, _ = beside
    choose(panel, first)
    before = apply(panel)
    image = before.nodes.attention.GetDisplayNode()
    image.SetWindowLevelMinMax(0.0, 9.0)  # as of a run with more attention
    choose(panel, second)
    after = apply(panel)
    compare_with(panel.ui, f"run: {before.nodes.run}")
    displays = [n.attention.GetDisplayNode() for n in (before.nodes, after.nodes)]
    assert [d.GetWindowLevelMax() for d in displays] == pytest.approx([9.0, 9.0])
    panel.ui.thresholdSlider.setValue(0.5)
    assert [d.GetLowerThreshold() for d in displays] == pytest.approx([4.5, 4.5])
    context = context_from_slicer_application()
    titles = [legend_of(context, n.attention).GetTitleText() for n in (before.nodes, after.nodes)]
    assert titles[0].startswith(f"{before.nodes.run}\n")
    assert titles[1].startswith(f"{after.nodes.run}\n")
    compare_with(panel.ui, "nothing")
    assert [d.GetWindowLevelMax() for d in displays] == pytest.approx([9.0, 3.0])
    assert legend_of(context, after.nodes.attention).GetTitleText().startswith("Attention for")


def test_the_name_of_the_other_class_is_in_its_view(beside):
    panel, (first, _), _, harness = beside
    choose(panel, first)
    apply(panel)
    compare_with(panel.ui, "class: well differentiated")
    assert foreground(harness, "Compare").GetName().endswith("well differentiated")


# --- one question after the other


def test_a_region_ticked_during_a_comparison_is_asked_for_after_it(shown, worker):
    worker.holds = True
    compare_with(shown.ui, "class: well differentiated")
    tick(shown.ui, 0)
    pause()
    assert len(worker.jobs) == 2
    worker.finish()
    assert len(worker.jobs) == 3
    worker.finish()
    assert "→" in shown.ui.whatIfAnswerLabel.text
    assert "well differentiated" in shown.ui.compareAnswerLabel.text


def test_comparing_with_nothing_forgets_the_late_answer(shown, worker, slicer_harness):
    worker.holds = True
    compare_with(shown.ui, "class: well differentiated")
    compare_with(shown.ui, "nothing")
    worker.finish()
    assert shown.ui.compareAnswerLabel.text == ""
    assert table_texts(shown.ui.compareTable) == []
    assert "compared attention" not in roles_in_scene(slicer_harness.scene)


def test_a_class_chosen_while_the_model_is_busy_waits_for_its_turn(shown, worker):
    worker.holds = True
    tick(shown.ui, 0)
    wait_until(lambda: worker.busy)
    compare_with(shown.ui, "class: well differentiated")
    compare_with(shown.ui, "class: moderately differentiated")
    worker.finish()
    worker.finish()
    assert [job.target for job in worker.jobs[1:]] == ["", "moderate"]
    assert "moderately differentiated" in shown.ui.compareAnswerLabel.text
    assert not worker.busy


# --- nodes that the user deletes


@pytest.mark.parametrize(
    "name", ["glyphs", "labels", "table", "summary", "chart", "regions", "attention", "document"]
)
def test_any_node_of_a_result_may_be_deleted(beside, name, monkeypatch, tmp_path):
    import qt

    panel, (first, _), _, harness = beside
    ui = panel.ui
    choose(panel, first)
    nodes = apply(panel).nodes
    harness.scene.RemoveNode(getattr(nodes, name))
    needed = name in ("regions", "attention", "document")
    assert (panel.results.shown is None) == needed
    if not needed:
        ui.graphCheckBox.checked = False
        ui.graphCheckBox.checked = True
        for slider in (ui.opacitySlider, ui.thresholdSlider, ui.edgeSlider):
            slider.setValue(0.7)
        ui.regionTable.setCurrentIndex(ui.regionTable.model().index(0, 2))
        ui.layoutButton.click()
        tick(ui, 0)
        wait_until(lambda: "→" in ui.whatIfAnswerLabel.text)
        compare_with(ui, "class: well differentiated")
        file = str(tmp_path / "report.csv")
        monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *arguments: file)
        ui.reportButton.click()
        ui.newParametersButton.click()
        ui.parametersComboBox.setCurrentIndex(0)
        assert panel.results.shown is not None  # restored without it
    apply(panel)
    assert getattr(panel.results.shown.nodes, name).GetScene() is not None


def test_a_display_node_may_be_deleted(shown, slicer_harness):
    nodes = shown.results.shown.nodes
    for node in (nodes.glyphs, nodes.attention, nodes.regions):
        slicer_harness.scene.RemoveNode(node.GetDisplayNode())
    shown.ui.graphCheckBox.checked = False
    shown.ui.thresholdSlider.setValue(0.6)
    shown.ui.regionTable.setCurrentIndex(shown.ui.regionTable.model().index(0, 2))


# --- what Apply refuses before a run


def test_an_empty_liver_is_refused(widget, nodes):
    from vtk.util.numpy_support import vtk_to_numpy

    panel, ui = widget.panel, widget.panel.ui
    choose(panel, nodes)
    assert ui.applyButton.enabled
    liver = nodes.segmentation.GetSegmentation().GetNthSegment(0)
    labelmap = liver.GetRepresentation("Binary labelmap")
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars())
    voxels[voxels == liver.GetLabelValue()] = 0
    labelmap.Modified()
    panel.update()
    assert not ui.applyButton.enabled
    assert ui.statusLabel.text == "The segment 'Liver' (liver) is empty: segment it first."


def test_a_volume_of_several_components_is_refused(widget, nodes, slicer_harness):
    import vtk

    choose(widget.panel, nodes)
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 4)
    image.AllocateScalars(vtk.VTK_SHORT, 3)
    volume = slicer_harness.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "colours")
    volume.SetAndObserveImageData(image)
    widget.panel.ui.ctSelector.setCurrentNode(volume)
    assert not widget.panel.ui.applyButton.enabled
    assert "'colours' has 3 values per voxel" in widget.panel.ui.statusLabel.text


# --- surfaces


def test_surfaces_are_made_one_in_a_turn_and_are_the_segmentations_own(shown):
    nodes = shown.results.shown.nodes
    segmentation = nodes.regions.GetSegmentation()
    assert segmentation.GetNthSegment(0).GetRepresentation("Closed surface") is None
    wait_until(lambda: segmentation.GetNthSegment(0).GetRepresentation("Closed surface"))
    made = [
        segmentation.GetNthSegment(n).GetRepresentation("Closed surface").GetBounds()
        for n in range(2)
    ]
    nodes.regions.RemoveClosedSurfaceRepresentation()
    nodes.regions.CreateClosedSurfaceRepresentation()
    again = [
        segmentation.GetNthSegment(n).GetRepresentation("Closed surface").GetBounds()
        for n in range(2)
    ]
    assert made == again


def test_a_scene_that_is_closed_meanwhile_ends_the_making(shown, slicer_harness):
    slicer_harness.scene.Clear(False)
    pause(0.1)
    assert shown.results._surfaces is None
