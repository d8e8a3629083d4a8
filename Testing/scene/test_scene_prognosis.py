"""A prognosis on real MRML: nodes, folder, numbers, and that the scene gives it back."""

from __future__ import annotations

import dataclasses
import types

import pytest
import SimpleITK as sitk
from REACTKDSlicer.offscreen import offscreen_context, offscreen_views
from REACTKDSlicer.prognosis_documents import (
    PrognosisInputs,
    kept_prognosis_inputs,
    stored_prognosis_of,
)
from REACTKDSlicer.prognosis_nodes import show_prognosis
from REACTKDSlicer.run_nodes import ROLE_ATTRIBUTE, folder_of, nodes_of
from REACTKDSlicer.scene_command import PICTURES, SCENE_FILE
from REACTKDSlicer.stored_prognoses import stored_prognosis
from REACTKDSlicer.volumes import add_volume
from synthetic_case import make_case

from REACTKDLib.cli import main
from REACTKDLib.errors import EnvironmentProblem, InputError
from REACTKDLib.geometry import image_from_array
from REACTKDLib.prognosis.result import write_prognosis
from REACTKDLib.prognosis.types import Contribution, PrognosisResult
from REACTKDLib.report import SCENE
from REACTKDLib.types import ClassInfo, Notice, Volume


@pytest.fixture
def prognosis(case):
    return prognosis_of(case)


def prognosis_of(case):
    """The case as that of a CT branch, with a value of each kind of input."""
    return PrognosisResult(
        case_id=case.case_id,
        task_title="Survival",
        classes=(ClassInfo("alive", "alive"), ClassInfo("died", "died")),
        outcome="died",
        probability=0.25,
        logit=-1.0,
        base_logit=-0.5,
        modalities=("ct", "clinical"),
        modality_contributions=(
            Contribution("ct", "CT", "ct", 0.5),
            Contribution("clinical", "Clinical data", "clinical", -1.0),
        ),
        contributions=(
            Contribution("ct", "CT", "ct", 0.5),
            Contribution("albumin", 'Albumin "x"\t', "clinical", -0.75, "41 g/l", None),
            Contribution("age", "Age", "clinical", -0.25, "61 years", 0.1),
        ),
        simulated_model=True,
        notices=(Notice("simulated_model", "warning", "Simulated patients only."),),
        provenance=dict(case.provenance),
        outcome_title="Death",
        horizon="1 year",
        missing={"sex": "Sex"},
        ct_case=case,
    )


def request_of(context, ct, run="P prognosis"):
    parameters = context.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")
    nodes = (("ct", ct.GetID()),) if ct is not None else ()
    return types.SimpleNamespace(
        run=run,
        ct=ct,
        overlay_opacity=0.4,
        inputs=PrognosisInputs(nodes, "sha", (("Segment_1", "liver"),), "anatomical", "digest"),
        parameters_id=parameters.GetID(),
    )


def cells(table, column):
    array = table.GetTable().GetColumnByName(column)
    return [array.GetValue(row) for row in range(table.GetNumberOfRows())]


def test_numbers_stand_in_table_plot_and_summary(context, ct, prognosis):
    ct_node = add_volume(context, ct, "other", "CT")
    shown = show_prognosis(request_of(context, ct_node), prognosis, context)
    nodes = shown.nodes
    assert cells(nodes.table, "Log odds") == [0.5, -1.0, -0.75, -0.25]
    assert cells(nodes.table, "Input")[2] == "Albumin 'x' "
    assert nodes.table.GetLocked()
    low, high = nodes.chart.GetYAxisRange()
    assert low < -1.0 < 0.5 < high
    title = nodes.chart.GetTitle()
    assert title.startswith("Death: 25")
    assert "Simulated patients only." in title
    assert "Research use only" in title
    summary = nodes.summary.GetText()
    assert "Missing values (1): Sex" in summary
    assert "-0.75 (error unknown)" in summary and "-0.25 ± 0.10" in summary


def test_the_nodes_stand_in_one_folder_beside_the_ct(context, ct, prognosis):
    ct_node = add_volume(context, ct, "other", "CT")
    hierarchy = context.subject_hierarchy
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, ct_node)
    shown = show_prognosis(request_of(context, ct_node), prognosis, context)
    folder = folder_of(context, "P prognosis")
    assert shown.nodes.folder == folder
    assert hierarchy.GetItemParent(folder) == study
    for node in nodes_of(context, "P prognosis"):
        if not node.IsA("vtkMRMLDisplayNode") and not node.IsA("vtkMRMLColorNode"):
            assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder


def test_the_scene_gives_it_back(context, ct, prognosis):
    ct_node = add_volume(context, ct, "other", "CT")
    request = request_of(context, ct_node)
    show_prognosis(request, prognosis, context)
    parameters = context.scene.GetNodeByID(request.parameters_id)
    assert stored_prognosis_of(context.scene, ct_node, parameters) == "P prognosis"
    assert stored_prognosis_of(context.scene, None, parameters) is None
    again = stored_prognosis(context, "P prognosis")
    for name in ("contributions", "modality_contributions", "missing", "probability", "horizon"):
        assert getattr(again.result, name) == getattr(prognosis, name)
    assert (again.result.ct_case.attention.array == prognosis.ct_case.attention.array).all()
    assert kept_prognosis_inputs(again.nodes.document) == request.inputs


def test_without_a_ct_there_is_no_attention(context, prognosis):
    alone = dataclasses.replace(prognosis, ct_case=None)
    request = request_of(context, None)
    shown = show_prognosis(request, alone, context)
    assert shown.nodes.attention is None
    parameters = context.scene.GetNodeByID(request.parameters_id)
    assert stored_prognosis_of(context.scene, None, parameters) == "P prognosis"
    assert stored_prognosis(context, "P prognosis").nodes.ct is None


def test_a_ct_of_another_grid_is_refused(context, ct, prognosis):
    geometry = dataclasses.replace(ct.geometry, origin_lps=(1.0, 2.0, 3.0))
    other = add_volume(context, Volume(ct.array, geometry), "other", "CT")
    before = context.scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="grid"):
        show_prognosis(request_of(context, other), prognosis, context)
    assert context.scene.GetNumberOfNodes() == before + 1  # the parameters


def test_a_damaged_document_is_told(context, ct, prognosis):
    ct_node = add_volume(context, ct, "other", "CT")
    shown = show_prognosis(request_of(context, ct_node), prognosis, context)
    shown.nodes.document.SetText("{}")
    with pytest.raises(InputError, match="is not complete"):
        stored_prognosis(context, "P prognosis")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """(result folder, CT file, prognosis) of a small case."""
    made = tmp_path_factory.mktemp("prognosis")
    ct, case = make_case((48, 42, 28), (7.4, 6.2, 8.0))
    result = prognosis_of(case)
    write_prognosis(result, made / "result")
    sitk.WriteImage(image_from_array(ct.array, ct.geometry), str(made / "ct.nii.gz"))
    return made / "result", made / "ct.nii.gz", result


def test_the_command_makes_a_scene_of_a_folder(folder, tmp_path):
    path, ct, result = folder
    try:
        with offscreen_views(offscreen_context(), (50, 50)):
            pass
    except EnvironmentProblem as problem:
        pytest.skip(f"no picture can be drawn here: {problem}")
    assert main(["scene", str(path), "--ct", str(ct)]) == 0
    written = {SCENE_FILE, *(f"{name}.png" for name in PICTURES)}
    assert {file.name for file in (path / SCENE).iterdir()} == written
    context = offscreen_context()
    bundle = path / SCENE / SCENE_FILE
    assert context.application_logic.OpenSlicerDataBundle(str(bundle), str(tmp_path))
    run = result.case_id
    nodes = {node.GetAttribute(ROLE_ATTRIBUTE): node for node in nodes_of(context, run)}
    again = stored_prognosis(context, run)
    assert again.result.contributions == result.contributions
    assert again.result.probability == result.probability
    assert (again.result.ct_case.attention.array == result.ct_case.attention.array).all()
    assert again.nodes.ct is nodes["CT"]
    assert again.nodes.chart.GetTitle().startswith("Death: 25")
    assert nodes["regions"].GetDisplayNode().GetVisibility()
    hierarchy = context.subject_hierarchy
    filed = [
        node
        for node in nodes.values()
        if not node.IsA("vtkMRMLDisplayNode") and not node.IsA("vtkMRMLColorNode")
    ]
    inside = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in filed}
    assert inside == {folder_of(context, run)} and nodes["CT"] in filed


def test_a_prognosis_without_a_map_of_a_ct_is_not_drawn(folder, tmp_path, capsys):
    _, ct, result = folder
    write_prognosis(dataclasses.replace(result, ct_case=None), tmp_path / "result")
    assert main(["scene", str(tmp_path / "result"), "--ct", str(ct)]) == InputError.exit_code
    assert "has no map of a CT: there is nothing to draw" in capsys.readouterr().err
    assert not (tmp_path / "result" / SCENE).exists()
