"""Runs that take their time: progress, Cancel, and whatever may happen to the scene meanwhile."""

from __future__ import annotations

import ctypes
import gc
import tempfile

import numpy as np
import pytest
from test_panel import apply, choose, node_names

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import geometry_from_ijk_to_ras
from REACTKDLib.types import Segment, Segmentation, Study, Volume


@pytest.fixture
def running(widget, nodes, worker):
    """The panel while its run is under way; ``worker.finish()`` ends it."""
    worker.holds = True
    choose(widget.panel, nodes)
    widget.panel.ui.applyButton.click()
    assert worker.busy
    return widget.panel


def test_apply_turns_into_cancel_and_the_inputs_are_locked(running, worker):
    ui = running.ui
    assert ui.applyButton.text == "Cancel"
    assert ui.applyButton.enabled
    assert not ui.inputsGroup.enabled
    assert not ui.progressBar._qt.isHidden()
    worker.finish()
    assert ui.applyButton.text == "Apply"
    assert ui.inputsGroup.enabled
    assert ui.progressBar._qt.isHidden()
    assert running.results.shown is not None


def test_progress_names_the_stage_and_the_elapsed_time(running, monkeypatch):
    running._progress.advance("network", 0.35)
    assert running.ui.progressBar.value == 35
    assert running.ui.statusLabel.text == "Running: network, 0 s"
    running._progress._began -= 75
    running._progress._on_clock()
    assert running.ui.statusLabel.text == "Running: network, 75 s"


def test_cancel_leaves_the_scene_as_it_was(widget, nodes, worker, slicer_harness):
    panel = widget.panel
    choose(panel, nodes)
    before = node_names(slicer_harness.scene)
    worker.holds = True
    panel.ui.applyButton.click()
    panel.ui.applyButton.click()
    assert not worker.busy
    assert node_names(slicer_harness.scene) == before
    assert panel.ui.statusLabel.text == "Cancelled; the scene is as it was."
    assert panel.ui.applyButton.text == "Apply"
    worker.holds = False
    apply(panel)  # and again, to its end


def test_a_second_run_waits_for_the_first(running, worker):
    running.apply()
    assert running.ui.statusLabel.text == "A run is under way; cancel it first."
    assert len(worker.jobs) == 1
    worker.finish()
    assert running.results.shown is not None


def test_removing_the_ct_cancels_the_run(running, nodes, worker, slicer_harness):
    slicer_harness.scene.RemoveNode(nodes.ct)
    assert not worker.busy
    assert running.ui.statusLabel.text == "Cancelled: the CT was removed from the scene."
    assert running.ui.applyButton.text == "Apply"
    assert not running.ui.applyButton.enabled


def test_removing_another_node_does_not(running, nodes, worker, slicer_harness):
    slicer_harness.scene.RemoveNode(nodes.pet["pet_fdg"])
    slicer_harness.scene.RemoveNode(nodes.segmentation)  # it has been read
    assert worker.busy
    worker.finish()
    assert running.results.shown is not None


def test_closing_the_scene_cancels_the_run(running, worker, slicer_harness):
    slicer_harness.scene.Clear(False)
    assert not worker.busy
    assert running.results.shown is None
    assert slicer_harness.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0


def test_leaving_the_module_does_not_stop_the_run(running, widget, worker):
    widget.parent.exit()
    worker.finish()
    assert running.results.shown is not None
    widget.parent.enter()
    assert running.ui.applyButton.text == "Apply"


def test_unloading_the_module_ends_the_worker(running, widget, worker):
    widget.cleanup()
    assert not worker.busy
    assert worker.closed == 1


def test_the_request_is_what_it_was_at_apply(running, nodes, worker, runner):
    """What the user changes meanwhile counts for the next run."""
    nodes.ct.SetName("another name")
    worker.finish()
    assert runner.studies[0].case_id == "case CT"
    assert running.results.shown.result.case_id == "case CT"


def test_an_error_of_the_run_is_told(running, worker, runner, slicer_harness):
    before = node_names(slicer_harness.scene)
    runner.error = InputError("The volume is not a CT.", "Give the original CT.")
    worker.finish()
    assert running.ui.statusLabel.text == "The volume is not a CT. Give the original CT."
    assert node_names(slicer_harness.scene) == before
    assert running.ui.applyButton.enabled


def test_the_log_is_shown_on_demand(running, worker):
    ui = running.ui
    running._progress._on_clock()
    assert ui.logText.plainText == ""
    ui.logGroup.collapsed = False
    assert ui.logText.plainText == "1 jobs"
    worker.finish()


def test_a_hundred_runs_leave_the_scene_as_a_few_do(
    widget, nodes, slicer_harness, monkeypatch, tmp_path
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # nobody else's folders
    choose(widget.panel, nodes)
    scene = slicer_harness.scene

    def state():
        items = scene.GetSubjectHierarchyNode().GetNumberOfItems()
        folders = len(list(tmp_path.glob("REACTKD-run-*")))
        return scene.GetNumberOfNodes(), items, folders

    for _ in range(3):
        apply(widget.panel)
    before = state()
    for _ in range(97):
        apply(widget.panel)
    assert state() == before


#: Of the CT of the memory test: its smallest array, the labels, has a byte a voxel.
EDGE_VOXELS = 100
RUNS = 6
#: Bytes that so many runs may leave: half of the labels of every one.
ALLOWED = RUNS * EDGE_VOXELS**3 / 2


def used_memory() -> int:
    """Bytes of this process, without what it has freed and not yet given back."""
    import psutil

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        pytest.skip("only glibc gives freed memory back on request")
    trim(0)
    return psutil.Process().memory_info().rss


def memory_growth(panel, worker) -> int:
    """Bytes that RUNS runs leave."""
    before = used_memory()
    for _ in range(RUNS):
        apply(panel)
        worker.runner.studies.clear()  # the fake remembers them
    return used_memory() - before


@pytest.fixture
def large(widget):
    """The panel with a CT whose every array is larger than what a run may leave."""
    from REACTKDSlicer.sample_case import add_study

    geometry = geometry_from_ijk_to_ras(np.diag([2.0, 2.0, 2.0, 1.0]), (EDGE_VOXELS,) * 3)
    labels = np.zeros(geometry.array_shape, np.uint8)
    labels[20:80, 20:80, 20:80], labels[30:40, 30:40, 30:40] = 1, 2
    segments = (Segment(1, "liver", "liver"), Segment(2, "lesion", "lesion"))
    ct = Volume((labels * 50).astype(np.int16), geometry)
    study = Study({"ct": ct}, Segmentation(labels, geometry, segments), "large")
    choose(widget.panel, add_study(study))
    return widget.panel


def test_runs_leave_no_memory_and_a_leak_would_be_noticed(large, worker, monkeypatch):
    memory_growth(large, worker)  # fills caches
    assert memory_growth(large, worker) < ALLOWED
    kept = []
    show = large.results.show

    def leaking(shown, run, package):
        kept.append(shown.result.region_labels.array.copy())
        show(shown, run, package)

    monkeypatch.setattr(large.results, "show", leaking)
    assert memory_growth(large, worker) > ALLOWED


def test_a_role_is_corrected_in_the_table_and_kept_in_the_scene(widget, nodes, runner):
    panel, ui = widget.panel, widget.panel.ui
    choose(panel, nodes)
    liver = nodes.segmentation.GetSegmentation().GetNthSegment(0)
    liver.SetName("Segment_1")
    assert not ui.applyButton.enabled
    box = ui.segmentsTable.cellWidget(0, 1)
    assert [box.itemText(n) for n in range(box.count)] == ["not used", "liver", "lesion"]
    assert box.currentText == "not used"
    box.setCurrentIndex(1)
    assert ui.applyButton.enabled
    assert ui.segmentsTable.cellWidget(0, 1).currentText == "liver"
    segment_id = nodes.segmentation.GetSegmentation().GetNthSegmentID(0)
    assert panel.parameters.chosen_roles() == {segment_id: "liver"}
    ui.segmentsTable.cellWidget(1, 1).setCurrentIndex(0)
    apply(panel)
    assert [s.role for s in runner.studies[-1].segmentation.segments] == ["liver"]


def test_a_role_is_guessed_from_the_terminology_of_a_nameless_segment(widget, nodes):
    liver = nodes.segmentation.GetSegmentation().GetNthSegment(0)
    liver.SetName("Segment_1")
    liver.SetTag(
        liver.GetTerminologyEntryTagName(),
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Anatomic codes~^^~^^",
    )
    choose(widget.panel, nodes)
    assert widget.panel.ui.segmentsTable.cellWidget(0, 1).currentText == "liver"
    assert widget.panel.ui.applyButton.enabled


def test_segmentation_is_offered_where_it_can_be_made(slicer_harness, worker, package_folder):
    from fakes import MODULE

    widget = slicer_harness.load_module(MODULE)
    widget.parent.enter()
    assert widget.panel.ui.totalSegmentatorButton._qt.isHidden()
    slicer_harness.add_module("TotalSegmentator")
    widget.panel.update()
    assert not widget.panel.ui.totalSegmentatorButton._qt.isHidden()
    widget.cleanup()
