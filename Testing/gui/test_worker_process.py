"""The worker process from inside Slicer: a real process behind the harness' PythonSlicer."""

from __future__ import annotations

import os

import pytest
from fakes import MODULE
from harness.waiting import gone, wait_until

from REACTKDLib.errors import EnvironmentProblem
from REACTKDLib.worker import Job


@pytest.fixture
def panel(slicer_harness, random_package, simulated_study):
    """The panel with its real worker, ready to apply."""
    from REACTKDSlicer.sample_case import add_study

    widget = slicer_harness.load_module(MODULE)
    widget.parent.enter()
    panel = widget.panel
    panel.ensure = lambda needed: False
    panel.parameters.model_package = str(random_package.path)
    nodes = add_study(simulated_study)
    panel.ui.ctSelector.setCurrentNode(nodes.ct)
    panel.ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    yield panel
    widget.cleanup()


def test_a_run_ends_with_its_result_and_the_next_takes_the_same_process(panel):
    panel.ui.applyButton.click()
    wait_until(lambda: not panel.runs.busy)
    assert panel.results.shown is not None, panel.ui.statusLabel.text
    first = panel.runs.worker._worker_pid
    panel.ui.applyButton.click()
    wait_until(lambda: not panel.runs.busy)
    assert panel.results.shown is not None
    assert panel.runs.worker._worker_pid == first


def test_cancel_ends_the_process_and_apply_works_again(panel):
    panel.ui.applyButton.click()
    wait_until(lambda: panel.runs.worker._worker_pid is not None)
    pid = panel.runs.worker._worker_pid
    panel.ui.applyButton.click()
    wait_until(lambda: gone(pid))
    assert panel.ui.statusLabel.text == "Cancelled; the scene is as it was."
    panel.ui.applyButton.click()
    wait_until(lambda: not panel.runs.busy)
    assert panel.results.shown is not None


def test_a_killed_worker_is_told_and_apply_works_again(panel, slicer_harness):
    panel.ui.applyButton.click()
    wait_until(lambda: panel.runs.worker._worker_pid is not None)
    os.kill(panel.runs.worker._worker_pid, 9)
    wait_until(lambda: not panel.runs.busy)
    assert "worker process ended unexpectedly" in panel.ui.statusLabel.text
    assert "Press Apply again" in panel.ui.statusLabel.text
    assert panel.results.shown is None
    panel.ui.applyButton.click()
    wait_until(lambda: not panel.runs.busy)
    assert panel.results.shown is not None


def test_an_error_keeps_its_class(slicer_harness, random_package, tmp_path):
    from REACTKDSlicer.worker_process import Listener, WorkerProcess

    worker, heard = WorkerProcess(), []
    job = Job(str(tmp_path), str(tmp_path / "absent"), str(tmp_path))
    worker.run(job, Listener(lambda stage, done: None, lambda: None, heard.append))
    wait_until(lambda: not worker.busy)
    worker.close()
    assert len(heard) == 1
    assert "Unexpected FileNotFoundError" in str(heard[0])


def test_a_python_that_cannot_be_started_is_a_problem_of_the_environment(
    slicer_harness, tmp_path, monkeypatch
):
    from REACTKDSlicer import worker_process

    monkeypatch.setattr(worker_process, "python_executable", lambda: tmp_path / "PythonSlicer")
    worker = worker_process.WorkerProcess()
    job = Job(str(tmp_path), str(tmp_path), str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="cannot be started"):
        worker.run(job, worker_process.Listener(print, print, print))
    assert not worker.busy


def test_closing_the_scene_ends_the_run_and_the_process(panel, slicer_harness):
    """The real process, while it works; the module can be used again afterwards."""
    panel.ui.applyButton.click()
    worker = panel.runs.worker
    wait_until(lambda: worker._worker_pid is not None)
    pid = worker._worker_pid
    assert panel.runs.busy
    slicer_harness.scene.Clear(False)
    assert not panel.runs.busy
    wait_until(lambda: gone(pid))
    assert panel.results.shown is None
    assert slicer_harness.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    assert panel.ui.applyButton.text == "Apply"
    assert not panel.ui.applyButton.enabled
