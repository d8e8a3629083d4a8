"""How a result is shown, what-ifs of it, and how a saved scene gives it back."""

from __future__ import annotations

import pytest
from fakes import FakeWorker
from harness.waiting import wait_until
from test_panel import apply, choose


@pytest.fixture
def shown(widget, nodes, slicer_harness):
    """The panel with a result, and a slice view that shows it."""
    slicer_harness.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    choose(widget.panel, nodes)
    apply(widget.panel)
    return widget.panel


def composite(scene):
    return scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")


def table_texts(table):
    return [
        [table.item(row, column).text() for column in range(table.columnCount)]
        for row in range(table.rowCount)
    ]


def tick(ui, row, on=True):
    import qt

    item = ui.whatIfTable.item(row, 0)
    item.setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)


def test_groups_are_there_with_a_result_only(widget, nodes, slicer_harness):
    ui = widget.panel.ui
    groups = (ui.resultsGroup, ui.displayGroup, ui.whatIfGroup)
    assert all(group._qt.isHidden() for group in groups)
    choose(widget.panel, nodes)
    apply(widget.panel)
    assert not any(group._qt.isHidden() for group in groups)
    slicer_harness.scene.RemoveNode(nodes.ct)
    assert all(group._qt.isHidden() for group in groups)


def test_a_model_without_prediction_sets_says_so(shown):
    assert "not calibrated" in shown.ui.setLabel.text


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        (("poor", "moderate"), "poorly differentiated, moderately differentiated"),
        (("poor", "moderate", "well"), "no class can be excluded"),
        ((), "no class fits"),
    ],
)
def test_the_prediction_set_in_words(widget, nodes, runner, classes, text):
    from REACTKDLib.types import PredictionSet

    runner.prediction_set = PredictionSet(classes, 0.9)
    choose(widget.panel, nodes)
    apply(widget.panel)
    assert text in widget.panel.ui.setLabel.text
    abstains = len(classes) in (0, 3)
    assert ("The model abstains" in widget.panel.ui.headlineLabel.text) == abstains
    assert ("poorly differentiated" in widget.panel.ui.otherClassesLabel.text) == abstains
    assert "90\N{NO-BREAK SPACE}%" in widget.panel.ui.setLabel.text


def test_the_threshold_hides_low_attention(shown):
    attention = shown.results.shown.nodes.attention.GetDisplayNode()
    top = attention.GetWindowLevelMax()
    assert attention.GetLowerThreshold() == pytest.approx(0.2 * top)
    shown.ui.thresholdSlider.setValue(0.6)
    assert attention.GetLowerThreshold() == pytest.approx(0.6 * top)
    assert shown.parameters.overlay_threshold == pytest.approx(0.6)


def test_the_graph_is_switched_off_and_on(shown):
    nodes = shown.results.shown.nodes
    shown.ui.graphCheckBox.checked = False
    assert not nodes.glyphs.GetDisplayNode().GetVisibility()
    assert not nodes.labels.GetDisplayNode().GetVisibility()
    shown.ui.graphCheckBox.checked = True
    assert nodes.glyphs.GetDisplayNode().GetVisibility()
    assert shown.parameters.graph_visible


def test_display_choices_hold_for_the_next_run(shown):
    shown.ui.thresholdSlider.setValue(0.4)
    shown.ui.graphCheckBox.checked = False
    apply(shown)
    nodes = shown.results.shown.nodes
    display = nodes.attention.GetDisplayNode()
    assert display.GetLowerThreshold() == pytest.approx(0.4 * display.GetWindowLevelMax())
    assert not nodes.glyphs.GetDisplayNode().GetVisibility()


def test_the_layout_shows_chart_and_table(package_folder, runner, small_study):
    import slicer
    from fakes import MODULE
    from harness import installed

    with installed(main_window=True) as harness:
        from REACTKDSlicer.layout import LAYOUT
        from REACTKDSlicer.sample_case import add_study

        widget = harness.load_module(MODULE)
        widget.panel.runs.worker, widget.panel.ensure = FakeWorker(runner), lambda needed: False
        widget.parent.enter()
        widget.panel.parameters.model_package = str(package_folder)
        choose(widget.panel, add_study(small_study))
        shown = apply(widget.panel)
        widget.panel.ui.layoutButton.click()
        manager = slicer.app.layoutManager()
        assert manager.layout == LAYOUT
        plot = manager.plotWidget(0).mrmlPlotViewNode()
        assert plot.GetPlotChartNodeID() == shown.nodes.chart.GetID()
        table = manager.tableWidget(0).mrmlTableViewNode()
        assert table.GetTableNodeID() == shown.nodes.table.GetID()
        widget.cleanup()


def test_a_hidden_region_is_asked_for_and_shown_beside_the_original(shown, worker, slicer_harness):
    ui = shown.ui
    assert table_texts(ui.whatIfTable) == [
        ["The lesion", "+1.50", "", ""],
        ["The liver", "-0.25", "", ""],
    ]
    tick(ui, 0)
    wait_until(lambda: len(worker.jobs) == 2)
    job = worker.jobs[-1]
    assert job.hidden == ("lesion",)
    assert job.original
    assert job.photons == 0
    assert table_texts(ui.whatIfTable) == [
        ["The lesion", "+1.50", "+0.30", "-1.20"],
        ["The liver", "-0.25", "-0.05", "+0.20"],
    ]
    assert "poorly differentiated: 72\N{NO-BREAK SPACE}% → 40" in ui.whatIfAnswerLabel.text
    # The original's words and nodes stay; its overlay gives way to that of the what-if.
    assert ui.headlineLabel.text.endswith("(72\N{NO-BREAK SPACE}%)")
    nodes = shown.results.shown.nodes
    foreground = slicer_harness.scene.GetNodeByID(
        composite(slicer_harness.scene).GetForegroundVolumeID()
    )
    assert foreground.GetAttribute("REACTKD.role") == "what-if attention"
    assert foreground.GetDisplayNode().GetWindowLevelMax() == pytest.approx(
        nodes.attention.GetDisplayNode().GetWindowLevelMax()
    )
    ui.opacitySlider.setValue(0.75)
    assert composite(slicer_harness.scene).GetForegroundOpacity() == pytest.approx(0.75)


def test_taking_the_change_back_shows_the_original(shown, worker, slicer_harness):
    scene, ui = slicer_harness.scene, shown.ui
    before = scene.GetNumberOfNodes()
    tick(ui, 0)
    wait_until(lambda: len(worker.jobs) == 2)
    tick(ui, 0, on=False)
    wait_until(lambda: scene.GetNumberOfNodes() == before)
    attention = shown.results.shown.nodes.attention
    assert composite(scene).GetForegroundVolumeID() == attention.GetID()
    assert table_texts(ui.whatIfTable)[0] == ["The lesion", "+1.50", "", ""]
    assert len(worker.jobs) == 2


def test_a_lower_dose_is_asked_for(shown, worker):
    combo = shown.ui.doseComboBox
    assert [combo.itemText(n) for n in range(combo.count)] == [
        "as it is",
        "1e+06 photons",
        "50000 photons",
        "10000 photons",
        "1000 photons",
        "500 photons",
    ]
    combo.setCurrentIndex(3)
    wait_until(lambda: len(worker.jobs) == 2)
    assert worker.jobs[-1].photons == 1e4
    shown.ui.whatIfResetButton.click()
    assert combo.currentIndex == 0


def test_the_last_of_several_wishes_counts(shown, worker):
    worker.holds = True
    tick(shown.ui, 0)
    wait_until(lambda: len(worker.jobs) == 2)
    tick(shown.ui, 1)
    tick(shown.ui, 0, on=False)
    wait_until(lambda: not shown.results.what_if._timer.active)
    worker.finish()  # the first, which nobody wants any more
    assert len(worker.jobs) == 3
    worker.finish()
    assert worker.jobs[-1].hidden == ("liver",)
    assert table_texts(shown.ui.whatIfTable)[1][2] != ""


def test_an_answer_that_comes_after_the_reset_is_not_shown(shown, worker, slicer_harness):
    scene, ui = slicer_harness.scene, shown.ui
    before = scene.GetNumberOfNodes()
    worker.holds = True
    tick(ui, 0)
    wait_until(lambda: len(worker.jobs) == 2)
    ui.whatIfResetButton.click()
    worker.finish()
    assert scene.GetNumberOfNodes() == before
    assert table_texts(ui.whatIfTable)[0] == ["The lesion", "+1.50", "", ""]
    assert ui.whatIfAnswerLabel.text == ""


def test_editing_the_segmentation_runs_again_when_it_is_followed(shown, nodes, worker):
    segmentation = nodes.segmentation.GetSegmentation()
    edited = segmentation.SourceRepresentationModified
    segmentation.InvokeEvent(edited)
    shown.ui.editedCheckBox.checked = True
    assert len(worker.jobs) == 1
    segmentation.InvokeEvent(edited)
    wait_until(lambda: len(worker.jobs) == 2)
    assert worker.jobs[-1].original == ""
    assert worker.jobs[-1].target == shown.results.shown.result.target
    assert table_texts(shown.ui.whatIfTable)[0][1:] == ["+1.50", "+1.50", "+0.00"]


def test_a_refused_what_if_says_why_and_leaves_the_original(shown, worker, runner):
    from REACTKDLib.errors import OptionError

    runner.error = OptionError("Nothing can take the place of: lesion.", "Hide fewer regions.")
    tick(shown.ui, 0)
    wait_until(lambda: len(worker.jobs) == 2)
    assert "Hide fewer regions" in shown.ui.whatIfAnswerLabel.text
    assert shown.results.shown is not None


@pytest.mark.parametrize("suffix", [".html", ".pdf", ".csv"])
def test_the_report_is_saved_where_the_user_says(shown, monkeypatch, tmp_path, suffix):
    import qt

    file = tmp_path / f"report{suffix}"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *arguments: str(file))
    shown.ui.reportButton.click()
    assert file.stat().st_size > 100
    assert shown.ui.statusLabel.text == f"Saved: {file}"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *arguments: "")
    file.unlink()
    shown.ui.reportButton.click()
    assert not file.exists()


def compare_with(ui, text):
    combo = ui.compareComboBox
    combo.setCurrentIndex([combo.itemText(n) for n in range(combo.count)].index(text))


def foreground(harness, name):
    node = harness.scene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")
    return harness.scene.GetNodeByID(node.GetForegroundVolumeID())


def test_two_classes_side_by_side(beside):
    panel, (first, _), worker, harness = beside
    choose(panel, first)
    shown = apply(panel)
    compare_with(panel.ui, "class: well differentiated")
    assert worker.jobs[-1].target == "well"
    assert worker.jobs[-1].original == ""
    assert foreground(harness, "Red") is shown.nodes.attention
    other = foreground(harness, "Compare")
    assert other.GetAttribute("REACTKD.role") == "compared attention"
    assert table_texts(panel.ui.compareTable)[0] == ["The lesion", "+1.50", "+1.50", "+0.00"]
    assert "“poorly differentiated”" in panel.ui.compareAnswerLabel.text
    assert "“well differentiated”" in panel.ui.compareAnswerLabel.text
    compare_with(panel.ui, "nothing")
    assert foreground(harness, "Compare") is shown.nodes.attention
    assert table_texts(panel.ui.compareTable) == []


def test_two_runs_side_by_side(beside):
    panel, (first, second), worker, harness = beside
    choose(panel, first)
    before = apply(panel)
    choose(panel, second)
    shown = apply(panel)
    jobs = len(worker.jobs)
    compare_with(panel.ui, f"run: {before.nodes.run}")
    assert len(worker.jobs) == jobs  # it is there already
    assert foreground(harness, "Red") is shown.nodes.attention
    assert foreground(harness, "Compare") is before.nodes.attention
    other = harness.scene.GetSingletonNode("Compare", "vtkMRMLSliceCompositeNode")
    assert other.GetBackgroundVolumeID() == first.ct.GetID()


def test_another_set_of_parameters_has_a_run_of_its_own(widget, nodes, worker, slicer_harness):
    panel, ui = widget.panel, widget.panel.ui
    choose(panel, nodes)
    first = apply(panel)
    ui.newParametersButton.click()
    assert ui.parametersComboBox.count == 2
    assert panel.results.shown is None
    assert ui.ctSelector.currentNode() is nodes.ct  # the values are the same
    ui.targetComboBox.setCurrentIndex(1)
    second = apply(panel)
    assert first.nodes.attention.GetScene() is not None
    assert second.result.target == "well"
    ui.parametersComboBox.setCurrentIndex(0)
    assert panel.parameters.target_class == ""
    assert panel.results.shown.nodes.attention is first.nodes.attention
    assert f"run: {second.nodes.run}" in [
        ui.compareComboBox.itemText(n) for n in range(ui.compareComboBox.count)
    ]
    slicer_harness.scene.Clear(False)
    assert ui.parametersComboBox.count == 1


def test_a_saved_scene_gives_the_result_back(shown, worker, slicer_harness, tmp_path):
    from REACTKDSlicer.context import context_from_slicer_application
    from REACTKDSlicer.scene_command import save_scene

    scene, panel = slicer_harness.scene, shown
    texts = [panel.ui.headlineLabel.text, panel.ui.setLabel.text, panel.ui.noticesLabel.text]
    context = context_from_slicer_application()
    save_scene(context, tmp_path / "scene.mrb")
    scene.Clear(False)
    assert panel.results.shown is None
    (tmp_path / "opened").mkdir()
    assert context.application_logic.OpenSlicerDataBundle(
        str(tmp_path / "scene.mrb"), str(tmp_path / "opened")
    )
    assert panel.results.shown is not None, panel.ui.statusLabel.text
    assert [
        panel.ui.headlineLabel.text,
        panel.ui.setLabel.text,
        panel.ui.noticesLabel.text,
    ] == texts
    tick(panel.ui, 0)
    wait_until(lambda: len(worker.jobs) == 2)
    assert worker.jobs[-1].original
    assert table_texts(panel.ui.whatIfTable)[0][2] == "+0.30"
