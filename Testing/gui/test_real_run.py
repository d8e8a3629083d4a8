"""The panel with the real pipeline on a simulated patient."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import prognosis_fakes
import pytest
from fakes import MODULE, FakeWorker
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


@pytest.fixture
def ship(slicer_harness, monkeypatch):
    """Ships these packages of prognosis and no others."""
    from REACTKDSlicer import prognosis_model

    def only(*folders):
        monkeypatch.setattr(prognosis_model, "shipped_prognosis_packages", lambda: folders)
        prognosis_model.prognosis_package_of.cache_clear()

    return only


@pytest.mark.parametrize("prognosis", [False, True])
def test_the_self_test_passes(slicer_harness, monkeypatch, ship, random_prognosis, prognosis):
    """In the real worker process, with the shipped model, and without and with one of prognosis;
    the scene is saved and opened again."""
    from REACTKDSlicer import self_test, worker_process

    ship(*([random_prognosis.path] if prognosis else []))
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
    assert ("Computing a prognosis in the worker process" in said) == prognosis
    (worker,) = started
    assert not worker.alive
    tables = slicer_harness.scene.GetNumberOfNodesByClass("vtkMRMLTableNode")
    assert tables == (4 if prognosis else 2)


def consistent(result):
    return dataclasses.replace(result, probability=1 / (1 + math.exp(-result.logit)))


def without_radiomics(result):
    """An answer that left out what it was given."""
    parts, kinds = result.contributions, result.modality_contributions
    kinds = tuple(c for c in kinds if c.modality != "radiomics")
    left = dataclasses.replace(
        result,
        modalities=tuple(c.modality for c in kinds),
        modality_contributions=kinds,
        contributions=tuple(c for c in parts if c.modality != "radiomics"),
        logit=result.base_logit + math.fsum(c.logit for c in kinds),
    )
    return consistent(left)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (consistent, ""),
        (lambda result: result, "are not those of 0.7240"),
        (
            lambda result: dataclasses.replace(consistent(result), base_logit=0.5),
            "do not sum to the answer",  # found by the reader of the worker's answer
        ),
        (
            lambda result: dataclasses.replace(
                consistent(result), contributions=result.contributions[1:]
            ),
            "contributions of clinical sum to",
        ),
        (without_radiomics, r"it used \('ct', 'clinical'\)"),
    ],
)
def test_the_self_test_checks_that_a_prognosis_adds_up(
    slicer_harness, monkeypatch, ship, runner, tmp_path, change, message
):
    """With answers of a fake worker, as they should be or not."""
    from REACTKDSlicer import runs, self_test

    folder = prognosis_fakes.write_fake_prognosis(tmp_path / "fake-prognosis")
    ship(folder)
    fake = prognosis_fakes.fake_prognosis
    monkeypatch.setattr(prognosis_fakes, "fake_prognosis", lambda *given: change(fake(*given)))
    worker = FakeWorker(runner)
    monkeypatch.setattr(runs, "WorkerProcess", lambda: worker)
    slicer_harness.load_module(MODULE)
    said = []
    if message:
        with pytest.raises((AssertionError, ValueError), match=message):
            self_test.run_self_test(sys.modules["REACTKD"].REACTKDLogic(), said.append)
    else:
        self_test.run_self_test(sys.modules["REACTKD"].REACTKDLogic(), said.append)
    assert (said[-1] == "Passed") == (not message)
    assert worker.closed
    assert worker.jobs[1].study
    assert set(worker.jobs[1].values) >= {"age", "sex", "albumin"}
    assert "bilirubin_direct" not in worker.jobs[1].values  # it must fit the whole


def test_the_self_test_names_what_a_prognosis_lacks(
    slicer_harness, monkeypatch, ship, nodes, tmp_path
):
    from REACTKDSlicer import self_test

    ship(prognosis_fakes.write_fake_prognosis(tmp_path / "fake-prognosis"))
    real = self_test.missing_requirements
    monkeypatch.setattr(
        self_test,
        "missing_requirements",
        lambda needed, find: real(needed, lambda name: None if name == "skimage" else find(name)),
    )
    slicer_harness.load_module(MODULE)
    with pytest.raises(AssertionError, match="not installed: scikit-image; press Compute"):
        sys.modules["REACTKD"].REACTKDTest().runTest()
    assert nodes.ct.GetScene() is not None, "the scene was closed"


def test_the_self_test_fails_without_torch(slicer_harness, monkeypatch):
    from REACTKDSlicer import self_test

    slicer_harness.load_module(MODULE)
    missing = self_test.missing_requirements(self_test.REQUIREMENTS, lambda name: None)
    monkeypatch.setattr(self_test, "missing_requirements", lambda needed, find: missing)
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
