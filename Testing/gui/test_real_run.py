"""The panel with the real pipeline on a simulated patient."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fakes import MODULE
from harness.waiting import wait_until

from REACTKDLib.errors import EnvironmentProblem


def test_apply_runs_the_pipeline(slicer_harness, simulated_study, random_package):
    import slicer
    from REACTKDSlicer.sample_case import add_study

    widget = slicer_harness.load_module(MODULE)
    widget.parent.enter()
    panel, ui = widget.panel, widget.panel.ui
    panel.parameters.model_package = str(random_package.path)
    nodes = add_study(simulated_study)
    ui.ctSelector.setCurrentNode(nodes.ct)
    ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    ui.fdgSelector.setCurrentNode(nodes.pet["pet_fdg"])
    ui.applyButton.click()
    wait_until(lambda: not panel.runs.busy)
    shown = panel.results.shown
    assert shown is not None, ui.statusLabel.text
    assert ui.statusLabel.text == ""
    result = shown.result
    assert sum(result.probabilities.values()) == pytest.approx(1.0)
    assert set(result.modalities) == {"ct", "pet_fdg"}
    assert {region.kind for region in result.regions} >= {"lesion", "rim", "parenchyma"}
    # The overlay lies on the CT: same voxels, same place.
    attention = slicer.util.arrayFromVolume(shown.nodes.attention)
    np.testing.assert_array_equal(attention, result.attention.array)
    assert result.attention.geometry.same_grid(simulated_study.ct.geometry)
    # The simulated model says so.
    assert "simulated" in ui.noticesLabel.text
    widget.cleanup()


def test_the_shipped_model_is_the_default(slicer_harness):
    from REACTKDLib.model_package import shipped_packages

    widget = slicer_harness.load_module(MODULE)
    widget.parent.enter()
    combo = widget.panel.ui.modelComboBox
    assert combo.currentText == shipped_packages()[0].name
    assert combo.count == len(shipped_packages())
    assert widget.panel.ui.targetComboBox.count > 2


def test_the_self_test_passes_with_the_shipped_model(slicer_harness, monkeypatch):
    """In the real worker process; the scene is saved and opened again."""
    from REACTKDSlicer import self_test, worker_process

    started = []
    real_start = worker_process.WorkerProcess._start

    def start(worker):
        started.append(worker)
        real_start(worker)

    monkeypatch.setattr(worker_process.WorkerProcess, "_start", start)
    said = []
    slicer_harness.load_module(MODULE)
    self_test.run_self_test(sys.modules["REACTKD"].REACTKDLogic(), said.append)
    assert said[-1] == "Passed"
    (worker,) = started
    assert not worker.alive
    assert slicer_harness.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 2


def test_the_self_test_fails_without_torch(slicer_harness, monkeypatch):
    from REACTKDSlicer import self_test

    slicer_harness.load_module(MODULE)
    missing = self_test.missing_requirements(lambda name: None)
    monkeypatch.setattr(self_test, "missing_requirements", lambda find: missing)
    with pytest.raises(AssertionError, match="not installed: torch"):
        sys.modules["REACTKD"].REACTKDTest().runTest()


def test_the_self_test_fails_when_the_run_does(slicer_harness, monkeypatch):
    from REACTKDSlicer import runs, self_test

    def fails(self, request, callbacks):
        callbacks.failed(EnvironmentProblem("The worker died.", "Press Apply again."))

    monkeypatch.setattr(runs.Runs, "start", fails)
    slicer_harness.load_module(MODULE)
    with pytest.raises(EnvironmentProblem, match="died"):
        self_test.run_self_test(sys.modules["REACTKD"].REACTKDLogic(), print)


def test_the_simulated_patient_is_like_those_of_training():
    """The tutorial's own case must not begin with a warning about itself."""
    from REACTKDSlicer.sample_case import simulated_study

    from REACTKDLib.checks import check_ct, compare_with_training
    from REACTKDLib.model_package import load_package
    from REACTKDLib.roi import locate_roi

    study, package = simulated_study(), load_package()
    statistics = check_ct(study, locate_roi(study, package), package)
    assert compare_with_training(statistics, package.training_ranges) == ()


def test_a_widget_without_parent_makes_its_own(slicer_harness):
    """As Slicer's generic module tests do."""
    slicer_harness.load_module(MODULE)
    widget = sys.modules["REACTKD"].REACTKDWidget()
    assert widget.panel.ui.applyButton.enabled is False
    widget.cleanup()
