"""Runs replace themselves, leave no orphan, and keep out of each other's way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from REACTKDSlicer.graph_nodes import label_places
from REACTKDSlicer.run_nodes import RUN_ATTRIBUTE, folder_of, nodes_of
from REACTKDSlicer.scene_nodes import most_attended_point, remove_case, show_case
from REACTKDSlicer.volumes import add_ct, add_volume, vtk_matrix
from synthetic_case import NAMES, make_case

from REACTKDLib.errors import InputError


def census(context) -> list[str]:
    """Class names of all nodes of the scene, sorted."""
    scene = context.scene
    return sorted(scene.GetNthNode(n).GetClassName() for n in range(scene.GetNumberOfNodes()))


def hierarchy_names(context) -> list[str]:
    import vtk

    hierarchy = context.subject_hierarchy
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    return [hierarchy.GetItemName(items.GetId(n)) for n in range(items.GetNumberOfIds())]


def give_storage_nodes(context) -> None:
    """As saving the scene does."""
    nodes = [context.scene.GetNthNode(n) for n in range(context.scene.GetNumberOfNodes())]
    for node in nodes:
        if node.GetAttribute(RUN_ATTRIBUTE) and node.IsA("vtkMRMLStorableNode"):
            node.AddDefaultStorageNode()


def test_showing_again_leaves_no_orphans(context, ct, case):
    show_case(context, case, ct)
    nodes_once, items_once = census(context), hierarchy_names(context)
    for _ in range(2):
        give_storage_nodes(context)
        assert len(census(context)) > len(nodes_once)
        show_case(context, case, ct)
        assert census(context) == nodes_once
        assert hierarchy_names(context) == items_once


def test_removing_gives_back_the_scene_as_it_was(context, ct, case):
    before = census(context)
    nodes = show_case(context, case, ct)
    give_storage_nodes(context)
    remove_case(context, nodes)
    assert census(context) == before
    assert hierarchy_names(context) == []


def test_removing_clears_the_slice_layers(ct, case, viewed):
    context, views, _ = viewed
    nodes = show_case(context, case, ct, run="short-lived")
    remove_case(context, nodes)
    composite = views.slices["Red"].logic.GetSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() is None
    assert composite.GetForegroundVolumeID() is None
    show_case(context, case, ct)  # as the other tests of this module expect it


def test_every_node_of_a_run_is_in_its_folder(context, case, ct):
    nodes = show_case(context, case, ct)
    assert hierarchy_names(context) == [
        "REACTKD synthetic",
        *("synthetic " + role for role in ("CT", "attention", "regions", "graph nodes")),
        *("synthetic " + role for role in ("graph edges", "graph labels")),
        *("synthetic " + role for role in ("regions table", "summary", "result")),
        *("synthetic probability " + role for role in ("chart", "bars")),
        "synthetic probabilities",
    ]
    hierarchy = context.subject_hierarchy
    own = [getattr(nodes, field.name) for field in dataclasses.fields(nodes)][2:]
    for node in own:
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == nodes.folder


def test_two_runs_stand_side_by_side(context, case, ct):
    first = show_case(context, case, ct, run="first")
    only_first = census(context)
    second = show_case(context, case, ct, run="second")
    assert first.folder != second.folder
    remove_case(context, second)
    assert census(context) == only_first
    assert folder_of(context, "first") == first.folder
    assert folder_of(context, "second") is None


def test_a_folder_with_something_of_the_user_s_stays(context, case, ct):
    nodes = show_case(context, case, ct)
    note = context.scene.AddNewNodeByClass("vtkMRMLTextNode", "my note")
    context.subject_hierarchy.CreateItem(nodes.folder, note)
    remove_case(context, nodes)
    assert folder_of(context, nodes.run) == nodes.folder
    assert context.scene.IsNodePresent(note)


def test_a_given_ct_node_stays_as_it_is(context, case, ct):
    node = add_volume(context, ct, "mine", "CT")
    node.RemoveAttribute(RUN_ATTRIBUTE)
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevel(77, 7)
    before = census(context)
    nodes = show_case(context, case, node)
    assert nodes.ct is node
    assert node.GetAttribute(RUN_ATTRIBUTE) is None
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (77, 7)
    show_case(context, case, node)
    remove_case(context, nodes)
    assert census(context) == before
    assert context.scene.IsNodePresent(node)


def test_the_ct_of_an_earlier_run_can_be_given(context, case, ct):
    first = show_case(context, case, ct)
    once = census(context)
    second = show_case(context, case, first.ct)
    assert second.ct is first.ct
    assert census(context) == once


def test_nodes_follow_the_ct_s_transform(context, case, ct):
    transform = context.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    shift = np.eye(4)
    shift[:3, 3] = (10.0, -20.0, 30.0)
    transform.SetMatrixTransformToParent(vtk_matrix(shift))
    node = add_volume(context, ct, "elsewhere", "CT")
    node.SetAndObserveTransformNodeID(transform.GetID())
    nodes = show_case(context, case, node)
    for index, region in enumerate(case.regions):
        world = nodes.labels.GetNthControlPointPositionWorld(index)
        assert world == pytest.approx(label_places(case)[region.id] + shift[:3, 3], abs=1e-5)
    for moved in (nodes.attention, nodes.regions, nodes.glyphs, nodes.edges):
        assert moved.GetParentTransformNode() is transform


def test_another_ct_is_refused_and_nothing_changes(context, case, ct):
    show_case(context, case, ct)
    before = census(context)
    other, _ = make_case(size=(30, 30, 20), spacing=(10.0, 9.0, 11.0))
    with pytest.raises(InputError, match=r"\(30, 30, 20\)"):
        show_case(context, case, other)
    assert census(context) == before


def test_a_failure_half_way_leaves_nothing(context, case, ct):
    before = census(context)
    regions = (dataclasses.replace(case.regions[0], kind="unheard-of"), *case.regions[1:])
    with pytest.raises(KeyError):
        show_case(context, dataclasses.replace(case, regions=regions), ct)
    assert census(context) == before


def test_odd_names_are_harmless(context):
    names = dict(NAMES)
    names["lesion-1"] = '<b>Lesion</b>, "one"\t& $x^2$'
    ct, case = make_case(size=(40, 36, 24), spacing=(9.0, 7.5, 9.0), case_id="a/b, <i>ü</i> & c")
    case = dataclasses.replace(
        case, regions=tuple(dataclasses.replace(r, name=names[r.id]) for r in case.regions)
    )
    nodes = show_case(context, case, ct)
    assert nodes.regions.GetSegmentation().GetSegment("lesion-1").GetName() == names["lesion-1"]
    assert nodes.labels.GetNthControlPointLabel(0) == f"{names['lesion-1']} +1.35"
    in_table = nodes.table.GetTable().GetColumnByName("Region").GetValue(0)
    assert in_table == "<b>Lesion</b>, 'one' & $x^2$"
    assert {node.GetAttribute(RUN_ATTRIBUTE) for node in nodes_of(context, nodes.run)} == {
        "a/b, <i>ü</i> & c"
    }
    once = census(context)
    show_case(context, case, ct)
    assert census(context) == once


def test_most_attended_point_is_in_the_region_with_the_largest_share(case):
    peak = np.array(most_attended_point(case))
    voxel = np.linalg.norm(case.attention.geometry.spacing_mm)
    assert np.linalg.norm(peak - [72.0, -2.0, 28.0]) < voxel  # the formula's peak, in lesion 1
    shares = tuple(
        dataclasses.replace(s, share=9.0 if s.region_id == "lesion-2" else s.share)
        for s in case.shares
    )
    elsewhere = np.array(most_attended_point(dataclasses.replace(case, shares=shares)))
    assert np.linalg.norm(elsewhere - [8.0, 42.0, 8.0]) < voxel


def test_most_attended_point_without_support_is_the_highest_of_all_regions(case):
    shares = tuple(dataclasses.replace(s, share=-1.0) for s in case.shares)
    peak = np.array(most_attended_point(dataclasses.replace(case, shares=shares)))
    voxel = np.linalg.norm(case.attention.geometry.spacing_mm)
    assert np.linalg.norm(peak - [72.0, -2.0, 28.0]) < voxel


def test_the_folder_stands_under_the_study_of_the_ct(context, case, ct):
    hierarchy = context.subject_hierarchy
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    ct_node = add_ct(context, ct, "given", 400, 40)
    ct_node.RemoveAttribute("REACTKD.case")
    hierarchy.CreateItem(study, ct_node)
    nodes = show_case(context, case, ct_node)
    assert hierarchy.GetItemParent(nodes.folder) == study
