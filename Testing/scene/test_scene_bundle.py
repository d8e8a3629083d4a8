"""A saved scene opens again with everything in it, and the command writes all or nothing."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import SimpleITK as sitk
from REACTKDSlicer.graph_nodes import label_places
from REACTKDSlicer.offscreen import offscreen_context, offscreen_views
from REACTKDSlicer.run_nodes import ROLE_ATTRIBUTE, folder_of, nodes_of
from REACTKDSlicer.scene_command import PICTURES, SCENE_FILE, main, save_scene, write_scene
from REACTKDSlicer.scene_nodes import show_case
from REACTKDSlicer.stored_cases import stored_case, stored_runs
from synthetic_case import NAMES, make_case
from test_scene_volumes import ijk_to_ras

from REACTKDLib.errors import EnvironmentProblem, InputError, OutputError
from REACTKDLib.geometry import image_from_array
from REACTKDLib.report import graph_document, result_document, write_result


def reopened(bundle, folder):
    """The bundle's scene in a fresh context, and its run's nodes by role."""
    context = offscreen_context()
    assert context.application_logic.OpenSlicerDataBundle(str(bundle), str(folder))
    return context


def by_role(context, run):
    return {node.GetAttribute(ROLE_ATTRIBUTE): node for node in nodes_of(context, run)}


@pytest.fixture(scope="module")
def saved(shown, tmp_path_factory):
    """The saved scene of the case and the nodes of the scene that it opens to."""
    context, _ = shown
    folder = tmp_path_factory.mktemp("bundle")
    save_scene(context, folder / SCENE_FILE)
    fresh = reopened(folder / SCENE_FILE, folder)
    return folder / SCENE_FILE, fresh, by_role(fresh, "synthetic")


def test_all_nodes_come_back_in_their_folder(shown, saved):
    context, _ = shown
    _, fresh, nodes = saved
    assert {role: node.GetName() for role, node in nodes.items()} == {
        role: node.GetName() for role, node in by_role(context, "synthetic").items()
    }
    hierarchy = fresh.subject_hierarchy
    folder = folder_of(fresh, "synthetic")
    assert hierarchy.GetItemName(folder) == "REACTKD synthetic"
    assert hierarchy.GetNumberOfItemChildren(folder) == 12


def test_data_come_back(case, ct, shown, saved):
    _, before = shown
    _, _, nodes = saved
    for volume, role in ((ct, "CT"), (case.attention, "attention")):
        assert ijk_to_ras(nodes[role]) == pytest.approx(volume.geometry.ijk_to_ras_matrix)
        value = nodes[role].GetImageData().GetScalarComponentAsDouble(61, 17, 40, 0)
        assert value == pytest.approx(float(volume.array[40, 17, 61]))
    segmentation = nodes["regions"].GetSegmentation()
    assert [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())] == [
        region.id for region in case.regions
    ]
    for role, node in (("graph nodes", before.glyphs), ("graph edges", before.edges)):
        assert (
            nodes[role].GetPolyData().GetNumberOfPoints() == node.GetPolyData().GetNumberOfPoints()
        )
    assert nodes["summary"].GetText() == before.summary.GetText()
    for index, region in enumerate(case.regions):
        position = nodes["graph labels"].GetNthControlPointPosition(index)
        assert position == pytest.approx(label_places(case)[region.id], abs=1e-3)
    for row, (region, share) in enumerate(case.ranked):
        table = nodes["regions table"].GetTable()
        assert table.GetColumnByName("Region").GetValue(row) == region.name
        stored = table.GetColumnByName("Share (logit)").GetValue(row)
        assert stored == pytest.approx(share.share, rel=1e-5)


def test_the_result_comes_back(case, saved):
    _, context, nodes = saved
    assert stored_runs(context) == ["synthetic"]
    again, shown = stored_case(context, "synthetic")
    assert result_document(again) == result_document(case)
    assert graph_document(again) == graph_document(case)
    assert np.array_equal(again.region_labels.array, case.region_labels.array)
    assert np.array_equal(again.attention.array, case.attention.array)
    assert again.attention.geometry.same_grid(case.attention.geometry)
    assert shown.ct is nodes["CT"]
    assert shown.chart is nodes["probability chart"]
    assert shown.edges is nodes["graph edges"]


def test_the_bar_plot_comes_back(case, saved):
    _, _, nodes = saved
    series = nodes["probability bars"]
    chart = nodes["probability chart"]
    assert chart.GetNthPlotSeriesNode(0) is series
    table = series.GetTableNode().GetTable()
    titles = table.GetColumnByName(series.GetLabelColumnName())
    values = table.GetColumnByName(series.GetYColumnName())
    assert {titles.GetValue(n): values.GetValue(n) for n in range(len(case.classes))} == {
        info.title: pytest.approx(case.probabilities[info.name], rel=1e-5) for info in case.classes
    }
    assert series.GetPlotType() == series.PlotTypeBar
    assert "Research use only" in chart.GetTitle()


def test_a_result_whose_nodes_are_gone_is_refused(case, ct):
    context = offscreen_context()
    shown = show_case(context, case, ct)
    context.scene.RemoveNode(shown.attention)
    with pytest.raises(InputError, match=r"not complete.*Press Apply"):
        stored_case(context, "synthetic")


def test_display_comes_back(case, shown, saved):
    _, before = shown
    _, fresh, nodes = saved
    ct = nodes["CT"].GetDisplayNode()
    assert (ct.GetWindow(), ct.GetLevel()) == (400, 40)
    attention, original = nodes["attention"].GetDisplayNode(), before.attention.GetDisplayNode()
    assert attention.GetColorNode().GetName() == "REACTKD attention"
    assert attention.GetColorNode().GetNumberOfColors() == 256
    assert attention.GetApplyThreshold()
    assert attention.GetLowerThreshold() == pytest.approx(original.GetLowerThreshold(), rel=1e-4)
    assert attention.GetWindowLevelMax() == pytest.approx(original.GetWindowLevelMax(), rel=1e-4)
    legend = fresh.colors_logic.GetColorLegendDisplayNode(attention)
    assert "logit per litre" in legend.GetTitleText()
    regions = nodes["regions"].GetDisplayNode()
    assert not regions.GetVisibility2DFill()
    assert regions.GetSegmentOpacity3D("lesion-1") == pytest.approx(
        before.regions.GetDisplayNode().GetSegmentOpacity3D("lesion-1")
    )
    segment = nodes["regions"].GetSegmentation().GetSegment("lesion-1")
    original_segment = before.regions.GetSegmentation().GetSegment("lesion-1")
    assert segment.GetColor() == pytest.approx(original_segment.GetColor(), abs=0.01)
    glyphs = nodes["graph nodes"].GetDisplayNode()
    assert glyphs.GetActiveScalarName() == "share"
    assert glyphs.GetScalarRange() == pytest.approx((-1.35, 1.35))
    edges = nodes["graph edges"].GetDisplayNode()
    assert edges.GetSliceDisplayMode() == edges.SliceDisplayProjection


def test_an_opened_run_can_be_shown_again(tmp_path, case, ct, shown):
    context, _ = shown
    save_scene(context, tmp_path / SCENE_FILE)
    fresh = reopened(tmp_path / SCENE_FILE, tmp_path)
    roles = sorted(by_role(fresh, "synthetic"))
    show_case(fresh, case, ct)
    assert sorted(by_role(fresh, "synthetic")) == roles
    assert len(nodes_of(fresh, "synthetic")) == len(roles)


def test_a_bundle_says_nothing_of_the_folders_it_was_made_in(saved):
    path, _, _ = saved
    with zipfile.ZipFile(path) as bundle:
        assert {name.split("/")[0] for name in bundle.namelist()} == {"scene"}
        scene = bundle.read("scene/scene.mrml").decode()
    assert str(path.parent) not in scene
    assert "tmp" not in scene


def test_odd_names_survive_saving(tmp_path, context):
    names = {**NAMES, "lesion-1": '<b>Lesion</b>, "one" & two'}
    run = "a/b, <i>ü</i> & d"
    ct, case = make_case((40, 36, 24), (9.0, 7.5, 9.0), case_id=run, names=names)
    show_case(context, case, ct)
    save_scene(context, tmp_path / SCENE_FILE)
    nodes = by_role(reopened(tmp_path / SCENE_FILE, tmp_path), run)
    assert nodes["CT"].GetImageData().GetDimensions() == (40, 36, 24)
    assert nodes["CT"].GetName() == "a_b, _i_ü__i_ _ d CT"
    segment = nodes["regions"].GetSegmentation().GetSegment("lesion-1")
    assert segment.GetName() == names["lesion-1"]
    assert nodes["graph labels"].GetNthControlPointLabel(0) == f"{names['lesion-1']} +1.35"
    table = nodes["regions table"].GetTable()
    assert table.GetColumnByName("Region").GetValue(0) == "<b>Lesion</b>, 'one' & two"
    assert table.GetColumnByName("Kind").GetValue(0) == "lesion"


@pytest.fixture(scope="module")
def result_folder(tmp_path_factory):
    """(result folder, CT file) of a small case; skips where no picture can be drawn."""
    try:
        with offscreen_views(offscreen_context(), (50, 50)):
            pass
    except EnvironmentProblem as problem:
        pytest.skip(f"no picture can be drawn here: {problem}")
    folder = tmp_path_factory.mktemp("result")
    ct, case = make_case((48, 42, 28), (7.4, 6.2, 8.0))
    write_result(case, folder / "result")
    sitk.WriteImage(image_from_array(ct.array, ct.geometry), str(folder / "ct.nii.gz"))
    return folder / "result", folder / "ct.nii.gz"


def test_command_writes_scene_and_pictures_and_replaces_them(result_folder, capsys):
    result, ct = result_folder
    command = [str(result), "--ct", str(ct), "--output", str(result / "scene")]
    written = {SCENE_FILE, *(f"{name}.png" for name in PICTURES)}
    for _ in range(2):
        assert main(command) == 0
        assert {path.name for path in (result / "scene").iterdir()} == written
    assert capsys.readouterr().err == ""
    width, height = sitk.ReadImage(str(result / "scene" / "axial.png")).GetSize()
    assert width == 800 < height  # the view under its title and notices
    leftovers = [path.name for path in result.iterdir() if path.name.startswith(".")]
    assert leftovers == []


def test_command_refuses_a_folder_with_other_files(result_folder, tmp_path, capsys):
    result, ct = result_folder
    (tmp_path / "thesis.docx").write_text("precious")
    command = [str(result), "--ct", str(ct), "--output", str(tmp_path)]
    assert main(command) == OutputError.exit_code
    assert "thesis.docx" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_another_ct_writes_nothing(result_folder, tmp_path, case):
    other, _ = make_case((30, 30, 20), (10.0, 9.0, 11.0))
    with pytest.raises(InputError, match="grid"):
        write_scene(case, other, tmp_path / "scene")
    assert list(tmp_path.iterdir()) == []


def test_a_scene_that_cannot_be_saved_says_so(context, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"scene\.mrb"):
        save_scene(context, tmp_path / "file" / SCENE_FILE)
