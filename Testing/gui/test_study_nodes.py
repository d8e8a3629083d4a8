"""From nodes to a study: oblique grids, transforms, overlapping segments, surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import geometry_from_ijk_to_ras
from REACTKDLib.roles import RoleRule

RULES = (RoleRule("liver", True, ("liver",)), RoleRule("lesion", False, ("lesion", "hcc")))


@pytest.fixture
def slicer(slicer_harness):
    import slicer

    return slicer


def read(nodes, **changes):
    from REACTKDSlicer.study_nodes import study_from_nodes

    given = {"ct": nodes.ct, "segmentation": nodes.segmentation, "pet": nodes.pet, **changes}
    return study_from_nodes(given["ct"], given["segmentation"], given["pet"], RULES, "case")


def add_linear_transform(slicer, matrix, *children):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
    for child in children:
        child.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def add_grid_transform(slicer, *children):
    """A nonlinear transform: one grid point moved."""
    import vtk

    grid = vtk.vtkImageData()
    grid.SetDimensions(4, 4, 4)
    grid.SetSpacing(50, 50, 50)
    grid.SetOrigin(-75, -75, -75)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    from vtk.util.numpy_support import vtk_to_numpy

    vtk_to_numpy(grid.GetPointData().GetScalars())[:] = 0
    grid.SetScalarComponentFromDouble(1, 1, 1, 0, 9.0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    warp = slicer.vtkOrientedGridTransform()
    warp.SetDisplacementGridData(grid)
    node.SetAndObserveTransformFromParent(warp)
    for child in children:
        child.SetAndObserveTransformNodeID(node.GetID())
    return node


def rotation(degrees, shift=(0, 0, 0)):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(4)
    matrix[:2, :2] = [[c, -s], [s, c]]
    matrix[:3, 3] = shift
    return matrix


def label_points(segmentation, role):
    """RAS mm of the voxels of a role, sorted."""
    (label,) = segmentation.labels_of(role)
    k, j, i = np.nonzero(segmentation.labels == label)
    points = segmentation.geometry.ras_from_ijk(np.stack([i, j, k], axis=1))
    return points[np.lexsort(points.round(3).T)]


def test_volumes_keep_voxels_and_grid(nodes, small_study):
    study = read(nodes)
    assert set(study.volumes) == {"ct", "pet_fdg"}
    for name, volume in study.volumes.items():
        expected = small_study.volumes[name]
        np.testing.assert_array_equal(volume.array, expected.array)
        assert volume.geometry.same_grid(expected.geometry)


def test_segments_keep_their_place_and_get_roles(nodes, small_study):
    segmentation = read(nodes).segmentation
    assert {(s.name, s.role) for s in segmentation.segments} == {
        ("Liver", "liver"),
        ("HCC", "lesion"),
    }
    assert segmentation.labels.dtype == np.uint8
    for role in ("liver", "lesion"):
        np.testing.assert_allclose(
            label_points(segmentation, role),
            label_points(small_study.segmentation, role),
            atol=1e-3,
        )


def test_the_study_does_not_follow_later_changes_of_the_nodes(nodes, slicer):
    study = read(nodes)
    before = study.ct.array.copy()
    slicer.util.arrayFromVolume(nodes.ct)[:] = 7
    np.testing.assert_array_equal(study.ct.array, before)


def test_reading_leaves_the_scene_as_it_is(nodes, slicer):
    before = slicer.mrmlScene.GetNumberOfNodes()
    read(nodes)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_a_transform_above_everything_changes_nothing(nodes, slicer, small_study):
    add_linear_transform(
        slicer, rotation(30, (5, -8, 2)), nodes.ct, nodes.segmentation, *nodes.pet.values()
    )
    study = read(nodes)
    assert study.ct.geometry.same_grid(small_study.ct.geometry)
    np.testing.assert_allclose(
        label_points(study.segmentation, "lesion"),
        label_points(small_study.segmentation, "lesion"),
        atol=1e-3,
    )


def test_a_nonlinear_transform_above_everything_changes_nothing(nodes, slicer, small_study):
    add_grid_transform(slicer, nodes.ct, nodes.segmentation, *nodes.pet.values())
    assert (
        read(nodes).volumes["pet_fdg"].geometry.same_grid(small_study.volumes["pet_fdg"].geometry)
    )


def test_a_transform_of_the_pet_alone_moves_the_pet(nodes, slicer, small_study):
    moved = rotation(25, (4, 7, -3))
    add_linear_transform(slicer, moved, nodes.pet["pet_fdg"])
    pet = read(nodes).volumes["pet_fdg"]
    original = small_study.volumes["pet_fdg"].geometry
    expected = geometry_from_ijk_to_ras(moved @ original.ijk_to_ras_matrix, original.size)
    assert pet.geometry.same_grid(expected)
    assert not pet.geometry.same_grid(original)


def test_a_transform_of_the_ct_alone_moves_the_others_the_other_way(nodes, slicer, small_study):
    moved = rotation(-40, (1, 2, 9))
    add_linear_transform(slicer, moved, nodes.ct)
    study = read(nodes)
    assert study.ct.geometry.same_grid(small_study.ct.geometry)
    points = label_points(small_study.segmentation, "lesion")
    expected = np.c_[points, np.ones(len(points))] @ np.linalg.inv(moved).T
    expected = expected[np.lexsort(expected[:, :3].round(3).T), :3]
    found = label_points(study.segmentation, "lesion")
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), atol=1e-3)


def test_nested_transforms_add_up(nodes, slicer, small_study):
    inner, outer = rotation(20, (3, 0, 0)), rotation(15, (0, -6, 1))
    child = add_linear_transform(slicer, inner, nodes.pet["pet_fdg"])
    add_linear_transform(slicer, outer, child)
    original = small_study.volumes["pet_fdg"].geometry
    expected = geometry_from_ijk_to_ras(outer @ inner @ original.ijk_to_ras_matrix, original.size)
    assert read(nodes).volumes["pet_fdg"].geometry.same_grid(expected)


def test_a_nonlinear_transform_of_one_node_is_refused(nodes, slicer):
    add_grid_transform(slicer, nodes.segmentation)
    with pytest.raises(InputError, match=r"nonlinear transform.*Harden"):
        read(nodes)


def test_a_shearing_transform_is_refused(nodes, slicer):
    shear = np.eye(4)
    shear[0, 1] = 0.5
    add_linear_transform(slicer, shear, nodes.pet["pet_fdg"])
    with pytest.raises(InputError, match="not orthonormal"):
        read(nodes)


def test_empty_volume_is_refused(nodes, slicer):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    with pytest.raises(InputError, match="'nothing' is empty"):
        read(nodes, ct=empty)


def test_segments_without_voxels_are_refused(nodes, slicer):
    bare = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "bare")
    bare.GetSegmentation().AddEmptySegment("", "Liver")
    with pytest.raises(InputError, match=r"'Liver' of 'bare' are empty"):
        read(nodes, segmentation=bare)


def test_a_required_segment_must_be_there(nodes):
    nodes.segmentation.GetSegmentation().GetNthSegment(0).SetName("spleen")
    with pytest.raises(InputError, match=r"no liver.*spleen"):
        read(nodes)


@pytest.mark.parametrize("lesion_first", [True, False])
def test_a_lesion_wins_over_the_liver_that_covers_it(slicer, small_study, lesion_first):
    """Segments drawn in layers overlap; their order in the list must not matter."""
    from REACTKDSlicer.sample_case import StudyNodes, add_study

    nodes = add_study(small_study)
    whole = (small_study.segmentation.labels > 0).astype(np.uint8)
    lesion = (small_study.segmentation.labels == 2).astype(np.uint8)
    layers = [("lesion", lesion), ("liver", whole)]
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for name, mask in layers if lesion_first else layers[::-1]:
        segment_id = node.GetSegmentation().AddEmptySegment("", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, nodes.ct)
    segmentation = read(StudyNodes(nodes.ct, node, {})).segmentation
    for role in ("liver", "lesion"):
        np.testing.assert_allclose(
            label_points(segmentation, role),
            label_points(small_study.segmentation, role),
            atol=1e-3,
        )


def test_segments_without_a_role_do_not_hide_others(slicer, small_study):
    from REACTKDSlicer.sample_case import StudyNodes, add_study

    nodes = add_study(small_study)
    body = nodes.segmentation.GetSegmentation().AddEmptySegment("", "body")
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        np.ones(small_study.ct.array.shape, np.uint8), nodes.segmentation, body, nodes.ct
    )
    segmentation = read(StudyNodes(nodes.ct, nodes.segmentation, {})).segmentation
    assert [s.name for s in segmentation.segments] == ["Liver", "HCC"]
    np.testing.assert_allclose(
        label_points(segmentation, "lesion"),
        label_points(small_study.segmentation, "lesion"),
        atol=1e-3,
    )


def test_surfaces_become_a_labelmap_without_touching_the_node(nodes, slicer):
    """A sphere has 4/3 pi r^3 and its centre of mass in the middle."""
    import vtk

    centre = read(nodes).ct.geometry.ras_from_ijk(np.array([7.5, 6.5, 5.5]))
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*centre)
    sphere.SetRadius(8.0)
    sphere.SetThetaResolution(60)
    sphere.SetPhiResolution(60)
    sphere.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces")
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "liver", [1.0, 0.0, 0.0])
    segmentation = read(nodes, segmentation=node, pet={}).segmentation
    volume = np.count_nonzero(segmentation.labels) * segmentation.geometry.voxel_volume_ml
    assert volume == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.1)
    points = label_points(segmentation, "liver")
    np.testing.assert_allclose(points.mean(axis=0), centre, atol=0.5)
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")
