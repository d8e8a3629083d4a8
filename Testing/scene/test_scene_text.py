"""Table and summary say what the case result says."""

from __future__ import annotations

import dataclasses
import math

import pytest
from REACTKDSlicer.plot_nodes import set_lines
from REACTKDSlicer.scene_nodes import show_case
from REACTKDSlicer.text_nodes import summary_text

from REACTKDLib.types import RESEARCH_USE, PredictionSet


def cell(node, row: int, column: str):
    return node.GetTable().GetColumnByName(column).GetValue(row)


def test_table_cells_equal_the_result(case, shown):
    _, nodes = shown
    table = nodes.table
    assert table.GetNumberOfRows() == len(case.regions) + 1
    for row, (region, share) in enumerate(case.ranked):
        assert cell(table, row, "Region") == region.name
        assert cell(table, row, "Kind") == region.kind
        assert cell(table, row, "Volume (ml)") == region.volume_ml
        assert cell(table, row, "Mean (HU)") == region.mean_hu
        assert cell(table, row, "SD (HU)") == region.sd_hu
        assert cell(table, row, "Share (logit)") == share.share
        assert cell(table, row, "Share per ml (logit/ml)") == share.share_per_ml
        assert cell(table, row, "Spatial attention (0-1)") == share.attention
        diameter = cell(table, row, "Longest diameter (mm)")
        if region.longest_diameter_mm is None:
            assert math.isnan(diameter)
        else:
            assert diameter == region.longest_diameter_mm
    assert table.GetColumnUnitLabel("Volume (ml)") == "ml"
    assert table.GetLocked()


def test_table_shares_sum_to_the_contrast(case, shown):
    _, nodes = shown
    total = sum(cell(nodes.table, row, "Share (logit)") for row in range(len(case.regions) + 1))
    assert total == pytest.approx(case.contrast - case.reference_contrast)


def test_summary_has_probabilities_notices_and_the_intended_use(case, shown):
    _, nodes = shown
    text = nodes.summary.GetText()
    assert "Most probable: Moderately differentiated (71\N{NO-BREAK SPACE}%)" in text
    assert "Moderately differentiated: 71\N{NO-BREAK SPACE}%" in text
    assert "Warning: This CT is unlike the training set." in text
    assert "Warning: This model was trained on simulated images only." in text
    assert text.endswith(RESEARCH_USE)


def test_a_model_trained_on_patients_is_not_called_simulated(case):
    text = summary_text(dataclasses.replace(case, simulated_model=False))
    assert "imulated" not in text
    assert RESEARCH_USE in text


def test_summary_and_plot_have_the_prediction_set(context, ct, case):
    possible = PredictionSet(("moderate", "poor"), 0.9)
    nodes = show_case(context, dataclasses.replace(case, prediction_set=possible), ct)
    assert "Possible classes" in nodes.summary.GetText()
    title = nodes.chart.GetTitle().replace("\n", " ")
    assert "Moderately differentiated, Poorly differentiated" in title
    assert "This CT is unlike the training set." in title
    assert title.endswith(RESEARCH_USE)


def test_summary_and_plot_say_that_the_model_abstains(context, ct, case):
    everything = PredictionSet(tuple(info.name for info in case.classes), 0.9)
    abstains = dataclasses.replace(case, prediction_set=everything)
    nodes = show_case(context, abstains, ct)
    for text in (nodes.summary.GetText(), nodes.chart.GetTitle()):
        assert "The model abstains" in text
        assert "Most probable" not in text
    assert all(len(line) <= 60 for line in set_lines(abstains))


def test_headings_of_table_and_plot_can_be_translated(context, ct, case, monkeypatch):
    import sys
    from types import ModuleType

    translations = ModuleType("slicer.i18n")
    translations.tr = lambda text: f"<{text}>"
    monkeypatch.setitem(sys.modules, "slicer.i18n", translations)
    nodes = show_case(context, case, ct)
    assert nodes.table.GetTable().GetColumnName(0) == "<Region>"
    assert nodes.chart.GetYAxisTitle() == "<Probability>"
    series = nodes.chart.GetNthPlotSeriesNode(0)
    table = series.GetTableNode().GetTable()
    assert table.GetColumnByName(series.GetYColumnName()) is not None
    assert "<Probabilities>" in nodes.summary.GetText()
