"""The prognosis in the panel: computing, cancel, result, stale, scene, report; a fake worker."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from prognosis_fakes import write_fake_prognosis
from test_clinical_table import field, shown, stored, type_into
from test_panel import choose

from REACTKDLib.errors import EnvironmentProblem
from REACTKDLib.types import RESEARCH_USE


@pytest.fixture(scope="session")
def prognosis_folder(tmp_path_factory):
    return write_fake_prognosis(tmp_path_factory.mktemp("packages") / "fake-prognosis")


@pytest.fixture
def panel(widget, prognosis_folder):
    panel = widget.panel
    panel.parameters.prognosis_package = str(prognosis_folder)
    panel.ui.prognosisGroup.collapsed = False
    return panel


def compute(panel):
    panel.ui.prognosisButton.click()
    found = panel.prognosis.view.shown
    assert found is not None, panel.ui.prognosisStatusLabel.text
    return found


def rows(panel):
    model = panel.ui.contributionTable.model()
    return [
        [model.index(row, column).data() or "" for column in range(model.columnCount())]
        for row in range(model.rowCount())
    ]


def run_nodes(scene, run):
    nodes = (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
    return [n for n in nodes if n.GetAttribute("REACTKD.case") == run]


def test_values_alone_give_a_prognosis(panel, worker, slicer_harness):
    type_into(panel, "albumin", "4.1 g/dl")
    type_into(panel, "alt", "200")
    found = compute(panel)
    (job,) = worker.jobs
    assert (job.study, job.clinical, dict(job.values)) == (
        "",
        True,
        {"alt": 200.0, "albumin": pytest.approx(41.0)},
    )
    ui = panel.ui
    assert ui.prognosisHeadlineLabel.text == (
        "death within 1 year: 72\N{NO-BREAK SPACE}% (simulated model)"
    )
    assert ui.probabilityBar.value == 724
    assert ui.prognosisUseLabel.text == RESEARCH_USE
    assert shown(ui.prognosisResult)
    lines = ui.prognosisInputsLabel.text.splitlines()
    assert lines[0] == "Prognosis: Survival with chronic liver disease, from Clinical data"
    assert lines[1] == "Horizon: 1 year"
    assert lines[2].startswith("Missing values (6): Age, Sex")
    assert ui.prognosisNoticesLabel.text.splitlines()[0].endswith("simulated patients only.")
    assert [row[:2] for row in rows(panel)] == [
        ["Clinical data: all", "+1.00"],
        ["Alanine aminotransferase (ALT): 200.0", "+0.50"],
        ["Albumin: 41.0", "+0.50"],
    ]
    assert found.nodes.ct is None
    assert found.nodes.attention is None
    assert not shown(ui.prognosisAttentionButton)
    roles = {n.GetAttribute("REACTKD.role") for n in run_nodes(slicer_harness.scene, "Prognosis")}
    assert {"prognosis", "summary", "contributions table", "contributions chart"} <= roles


def test_ct_and_values_give_a_prognosis_with_attention(panel, worker, nodes):
    import slicer

    choose(panel, nodes)
    type_into(panel, "alt", "200")
    found = compute(panel)
    (job,) = worker.jobs
    assert job.study
    assert job.case_id == "case CT prognosis"
    assert [row[0] for row in rows(panel)[:3]] == [
        "CT: all",
        "Clinical data: all",
        "Radiomics: all",
    ]
    ui = panel.ui
    assert shown(ui.prognosisAttentionButton)
    assert shown(ui.displayGroup)
    assert shown(ui.reportButton)
    assert found.nodes.ct is nodes.ct
    attention = found.nodes.attention
    assert slicer.util.arrayFromVolume(attention).max() == 3.0
    # The same controls as for the overlay of the grade.
    ui.thresholdSlider.value = 0.5
    assert attention.GetDisplayNode().GetLowerThreshold() == pytest.approx(1.5)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(attention))
    assert hierarchy.GetItemName(folder) == "REACTKD case CT prognosis"


def test_the_ct_can_be_left_out(panel, worker, nodes):
    choose(panel, nodes)
    type_into(panel, "alt", "200")
    panel.ui.prognosisImageCheckBox.checked = False
    compute(panel)
    assert worker.jobs[0].study == ""


def test_what_is_missing_is_said(panel, nodes):
    ui = panel.ui
    ui.ctSelector.setCurrentNode(nodes.ct)
    assert ui.prognosisStatusLabel.text == "Choose a segmentation (liver), or leave the CT out."
    assert not ui.prognosisButton.enabled
    ui.prognosisImageCheckBox.checked = False
    assert ui.prognosisStatusLabel.text.startswith("Nothing is given yet")
    ui.prognosisImageCheckBox.checked = True
    ui.segmentationSelector.setCurrentNode(nodes.segmentation)
    assert ui.prognosisStatusLabel.text == ""
    assert ui.prognosisButton.enabled


def test_it_runs_and_can_be_cancelled(panel, worker, nodes, slicer_harness):
    choose(panel, nodes)
    type_into(panel, "alt", "200")
    before = slicer_harness.scene.GetNumberOfNodes()
    worker.holds = True
    ui = panel.ui
    ui.prognosisButton.click()
    assert ui.prognosisButton.text == "Cancel"
    assert shown(ui.prognosisProgressBar)
    assert ui.prognosisStatusLabel.text == "Running: starting, 0 s"
    assert not ui.applyButton.enabled
    assert ui.statusLabel.text == "A prognosis is being computed; Apply waits for its end."
    assert not ui.clinicalInputs.enabled
    assert not ui.parametersComboBox.enabled
    ui.prognosisButton.click()
    assert ui.prognosisButton.text == "Compute prognosis"
    assert ui.prognosisStatusLabel.text == "Cancelled; the scene is as it was."
    assert not shown(ui.prognosisProgressBar)
    assert ui.applyButton.enabled
    assert slicer_harness.scene.GetNumberOfNodes() == before
    assert not worker.busy


def test_apply_and_the_prognosis_wait_for_each_other(panel, worker, nodes):
    choose(panel, nodes)
    type_into(panel, "alt", "200")
    worker.holds = True
    panel.ui.applyButton.click()
    assert not panel.ui.prognosisButton.enabled
    assert panel.ui.prognosisStatusLabel.text == "Apply is at work; compute the prognosis after it."
    worker.finish()
    assert panel.ui.prognosisButton.enabled
    panel.ui.prognosisButton.click()
    panel.apply()
    assert len(worker.jobs) == 2
    worker.finish()
    # Each has its own result; none took the other's nodes.
    assert panel.prognosis.view.shown is not None
    assert panel.results.shown is not None
    assert panel.results.shown.nodes.attention.GetScene() is not None


def test_a_what_if_is_answered_before(panel, worker, nodes):
    choose(panel, nodes)
    type_into(panel, "alt", "200")
    panel.ui.applyButton.click()
    worker.holds = True
    panel.ui.doseComboBox.setCurrentIndex(1)
    panel.results.what_if.start()
    assert worker.busy
    panel.ui.prognosisButton.click()
    assert len(worker.jobs) == 2
    worker.finish()
    assert panel.ui.whatIfAnswerLabel.text.startswith("well differentiated")
    assert len(worker.jobs) == 3
    worker.finish()
    assert panel.prognosis.view.shown is not None


def test_an_error_is_said_and_stays(panel, runner):
    type_into(panel, "alt", "200")
    runner.error = EnvironmentProblem("The library is not there.", "Install it.")
    panel.ui.prognosisButton.click()
    assert panel.ui.prognosisStatusLabel.text == "The library is not there. Install it."
    assert panel.ui.prognosisButton.enabled


def test_other_inputs_are_noticed(panel, nodes):
    choose(panel, nodes)
    type_into(panel, "albumin", "4.1 g/dl")
    compute(panel)
    stale = panel.ui.prognosisStaleLabel
    assert not shown(stale)
    type_into(panel, "albumin", "41 g/l")  # the same, written in another unit
    assert not shown(stale)
    type_into(panel, "albumin", "40 g/l")
    assert shown(stale)
    type_into(panel, "albumin", "nonsense")
    assert shown(stale)
    type_into(panel, "albumin", "41 g/l")
    assert not shown(stale)
    panel.ui.prognosisImageCheckBox.checked = False
    assert shown(stale)


def test_computing_again_replaces_the_nodes(panel, nodes, slicer_harness):
    choose(panel, nodes)
    type_into(panel, "alt", "200")
    compute(panel)
    count = slicer_harness.scene.GetNumberOfNodes()
    type_into(panel, "alt", "210")
    compute(panel)
    assert slicer_harness.scene.GetNumberOfNodes() == count


def test_the_table_sorts_by_number(panel, nodes):
    choose(panel, nodes)
    type_into(panel, "alt", "200")
    compute(panel)
    panel.ui.contributionTable._qt.sortByColumn(1, _ascending())
    values = [float(row[1]) for row in rows(panel)]
    assert values == sorted(values)
    assert values[0] < 0


def _ascending():
    from PySide6.QtCore import Qt

    return Qt.AscendingOrder


def test_bars_are_signed(panel, nodes):
    choose(panel, nodes)
    type_into(panel, "alt", "200")
    compute(panel)
    bars = {row[0]: row[2] for row in rows(panel)}
    left, right = bars["original shape"].split("│")
    assert "█" in left and "█" not in right
    left, right = bars["CT: all"].split("│")
    assert "█" in right and "█" not in left


def test_each_set_of_parameters_has_its_prognosis(panel):
    type_into(panel, "alt", "200")
    first = compute(panel).nodes.run
    panel.ui.newParametersButton.click()
    assert panel.prognosis.view.shown is None
    type_into(panel, "alt", "300")
    second = compute(panel).nodes.run
    assert first != second
    panel.ui.parametersComboBox.setCurrentIndex(0)
    assert panel.prognosis.view.shown.nodes.run == first
    assert rows(panel)[1][0].endswith(": 200.0")
    assert stored(panel)["values"] == {"alt": ["200", "U/l"]}


def test_it_comes_back_with_the_scene(panel, nodes, tmp_path):
    import slicer
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.scene_command import SCENE_FILE, save_scene

    choose(panel, nodes)
    type_into(panel, "albumin", "4.1 g/dl")
    before = compute(panel).result
    panel.ui.prognosisHeadlineLabel.text = ""
    context = context_from_slicer_application()
    bundle = tmp_path / SCENE_FILE
    save_scene(context, bundle)
    slicer.mrmlScene.Clear(False)
    assert panel.prognosis.view.shown is None
    assert not shown(panel.ui.prognosisResult)
    opened = tmp_path / "opened"
    opened.mkdir()
    assert context.application_logic.OpenSlicerDataBundle(str(bundle), str(opened))
    after = panel.prognosis.view.shown
    assert after is not None, panel.ui.prognosisStatusLabel.text
    assert panel.ui.prognosisHeadlineLabel.text.startswith("death within 1 year")
    assert after.result.contributions == before.contributions
    assert after.result.missing == before.missing
    assert (after.result.ct_case.attention.array == before.ct_case.attention.array).all()
    assert field(panel, "albumin").unit.currentText == "g/dl"
    assert not shown(panel.ui.prognosisStaleLabel)


@pytest.mark.parametrize("last", ["grade", "prognosis"])
def test_a_scene_opens_with_what_was_shown_last(beside, prognosis_folder, tmp_path, last):
    """Overlay and chart of the grade or of the prognosis, where the scene has both."""
    import slicer
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.scene_command import SCENE_FILE, save_scene

    panel, studies, _worker, _harness = beside
    panel.parameters.prognosis_package = str(prognosis_folder)
    choose(panel, studies[0])
    type_into(panel, "alt", "200")
    panel.ui.applyButton.click()
    panel.ui.layoutButton.click()
    compute(panel)
    panel.ui.prognosisPlotButton.click()
    if last == "grade":
        panel.ui.applyButton.click()
        panel.ui.layoutButton.click()

    def seen():
        """Runs whose overlay and whose chart the views show."""
        scene, found = slicer.mrmlScene, []
        for class_name, shows in (
            ("vtkMRMLSliceCompositeNode", "GetForegroundVolumeID"),
            ("vtkMRMLPlotViewNode", "GetPlotChartNodeID"),
        ):
            count = scene.GetNumberOfNodesByClass(class_name)
            views = [scene.GetNthNodeByClass(n, class_name) for n in range(count)]
            nodes = [scene.GetNodeByID(getattr(view, shows)()) for view in views]
            found.append({node.GetAttribute("REACTKD.case") for node in nodes})
        return found

    shown_last = panel.results if last == "grade" else panel.prognosis.view
    run = shown_last.shown.nodes.run
    assert seen() == [{run}, {run}]
    context, bundle = context_from_slicer_application(), tmp_path / SCENE_FILE
    save_scene(context, bundle)
    assert seen() == [{run}, {run}]
    slicer.mrmlScene.Clear(False)
    assert context.application_logic.OpenSlicerDataBundle(str(bundle), str(tmp_path))
    assert panel.results.shown is not None
    assert panel.prognosis.view.shown is not None
    assert seen() == [{run}, {run}]


@pytest.mark.parametrize("both", [False, True])
def test_the_report_has_the_prognosis(panel, nodes, monkeypatch, tmp_path, both):
    import qt

    choose(panel, nodes)
    type_into(panel, "alt", "200")
    if both:
        panel.ui.applyButton.click()
    compute(panel)
    for suffix in ("html", "pdf", "csv"):
        path = tmp_path / f"report.{suffix}"
        monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *a, path=path: str(path))
        panel.ui.reportButton.click()
        assert panel.ui.statusLabel.text.startswith(f"Saved: {path}")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "death within 1 year" in text
    assert text.count("<!DOCTYPE") == 1
    assert ("Most probable" in text) == both
    assert ("page-break-before" in text) == both
    assert RESEARCH_USE in text
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    table = tmp_path / ("report_prognosis.csv" if both else "report.csv")
    with table.open(encoding="utf-8") as stream:
        found = {row["title"]: row["logit"] for row in csv.DictReader(stream)}
    assert found["Alanine aminotransferase (ALT)"] == "0.5"


def test_the_attention_is_shown_again_by_its_button(beside, prognosis_folder):
    import slicer

    panel, studies, _worker, _harness = beside
    panel.parameters.prognosis_package = str(prognosis_folder)
    choose(panel, studies[0])
    type_into(panel, "alt", "200")
    compute(panel)
    own = panel.prognosis.view.shown.nodes.attention.GetID()
    panel.ui.applyButton.click()
    composites = slicer.mrmlScene.GetNodesByClass("vtkMRMLSliceCompositeNode")

    def foregrounds():
        count = composites.GetNumberOfItems()
        return {composites.GetItemAsObject(n).GetForegroundVolumeID() for n in range(count)}

    assert foregrounds() == {panel.results.shown.nodes.attention.GetID()}
    panel.ui.prognosisAttentionButton.click()
    assert foregrounds() == {own}
    panel.ui.opacitySlider.value = 0.3
    count = composites.GetNumberOfItems()
    assert all(
        composites.GetItemAsObject(n).GetForegroundOpacity() == pytest.approx(0.3)
        for n in range(count)
    )


def test_removing_the_ct_ends_all_of_it(panel, worker, nodes):
    import slicer

    choose(panel, nodes)
    compute(panel)
    worker.holds = True
    panel.ui.prognosisButton.click()
    slicer.mrmlScene.RemoveNode(nodes.ct)
    assert panel.ui.prognosisStatusLabel.text.startswith(
        ("Cancelled: the CT", "Nothing is given yet")
    )
    assert not worker.busy
    assert panel.prognosis.view.shown is None


def test_names_are_escaped_in_the_report(panel, monkeypatch, tmp_path, nodes):
    import qt

    nodes.ct.SetName("<img src=x>")
    choose(panel, nodes)
    compute(panel)
    assert "<img src=x>" in panel.ui.prognosisInputsLabel.text  # plain text
    path = Path(tmp_path, "report.html")
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *arguments: str(path))
    panel.ui.reportButton.click()
    text = path.read_text(encoding="utf-8")
    assert "<img src=x>" not in text
    assert "&lt;img src=x&gt;" in text
