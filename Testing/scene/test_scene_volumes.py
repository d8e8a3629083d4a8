"""CT, attention and regions lie where the CT says, on an oblique anisotropic grid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from REACTKDSlicer.colors import ATTENTION_RAMP, ramp_colors
from REACTKDSlicer.offscreen import offscreen_context
from REACTKDSlicer.scene_nodes import SceneStyle, show_case
from REACTKDSlicer.volumes import add_volume
from synthetic_case import LESIONS, oblique_geometry

from REACTKDLib.geometry import image_from_array
from REACTKDLib.palette import region_colors
from REACTKDLib.types import Volume


def ijk_to_ras(node) -> np.ndarray:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def ras_by_simpleitk(volume: Volume, ijk: tuple[int, int, int]) -> np.ndarray:
    """RAS of a voxel, computed by SimpleITK (LPS) and not by REACTKD's geometry."""
    x, y, z = image_from_array(volume.array, volume.geometry).TransformIndexToPhysicalPoint(ijk)
    return np.array([-x, -y, z])


def test_voxels_of_ct_and_attention_lie_where_simpleitk_puts_them(ct, case, shown):
    _, nodes = shown
    ijk = (61, 17, 40)
    for volume, node in ((ct, nodes.ct), (case.attention, nodes.attention)):
        ras = (ijk_to_ras(node) @ [*ijk, 1])[:3]
        assert ras == pytest.approx(ras_by_simpleitk(volume, ijk), abs=1e-6)
        value = node.GetImageData().GetScalarComponentAsDouble(*ijk, 0)
        assert value == pytest.approx(float(volume.array[ijk[::-1]]))


def test_attention_has_the_ct_matrix(shown):
    _, nodes = shown
    np.testing.assert_array_equal(ijk_to_ras(nodes.attention), ijk_to_ras(nodes.ct))
    assert nodes.attention.GetImageData().GetDimensions() == nodes.ct.GetImageData().GetDimensions()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, bool])
def test_every_array_type_becomes_an_image(context, dtype):
    geometry = oblique_geometry((5, 4, 3), (1.0, 2.0, 3.0))
    array = (np.arange(60).reshape(3, 4, 5) % 2).astype(dtype)
    node = add_volume(context, Volume(array, geometry), "run", "image")
    assert node.GetImageData().GetScalarComponentAsDouble(3, 2, 1, 0) == float(array[1, 2, 3])


def test_ct_window_is_the_style_s(context, ct, case):
    nodes = show_case(context, case, ct, style=SceneStyle(window_hu=300, level_hu=70))
    display = nodes.ct.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (300, 70)
    assert not display.GetAutoWindowLevel()


def test_attention_shows_only_what_speaks_for_the_class(case, shown):
    _, nodes = shown
    peak = float(case.attention.array.max())
    display = nodes.attention.GetDisplayNode()
    assert display.GetWindowLevelMin() == 0
    assert display.GetWindowLevelMax() == pytest.approx(peak)
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() == pytest.approx(0.2 * peak)
    assert display.GetUpperThreshold() >= peak


def test_attention_against_the_class_is_hidden(context, ct, case):
    against = Volume(-np.abs(case.attention.array), case.attention.geometry)
    nodes = show_case(context, dataclasses.replace(case, attention=against), ct)
    display = nodes.attention.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() > float(against.array.max())


def test_attention_has_its_own_colors_and_a_legend_with_units(case, shown):
    context, nodes = shown
    display = nodes.attention.GetDisplayNode()
    table = display.GetColorNode()
    assert table.GetName() == "REACTKD attention"
    color = [0.0] * 4
    for index, expected in ((0, ATTENTION_RAMP[0]), (255, ATTENTION_RAMP[-1])):
        table.GetColor(index, color)
        assert color[:3] == pytest.approx(expected, abs=1 / 255)
    legend = context.colors_logic.GetColorLegendDisplayNode(display)
    assert "logit per litre" in legend.GetTitleText()
    assert case.class_title(case.target) in legend.GetTitleText()


def test_attention_colors_grow_lighter():
    lightness = ramp_colors(ATTENTION_RAMP) @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(lightness) > 0)


def test_slice_views_show_the_attention_over_the_ct(viewed):
    context, views, nodes = viewed
    assert context.scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode") == 3
    for view in views.slices.values():
        composite = view.logic.GetSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == nodes.ct.GetID()
        assert composite.GetForegroundVolumeID() == nodes.attention.GetID()
        assert composite.GetForegroundOpacity() == 0.5


def test_segments_have_the_regions_voxels(case, shown):
    from vtk.util.numpy_support import vtk_to_numpy

    _, nodes = shown
    segmentation = nodes.regions.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == len(case.regions)
    for region in case.regions:
        segment = segmentation.GetSegment(region.id)
        assert segment.GetName() == region.name
        image = segment.GetRepresentation("Binary labelmap")
        i0, i1, j0, j1, k0, k1 = image.GetExtent()
        shape = (k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
        labels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
        found = np.zeros(case.region_labels.array.shape, dtype=bool)
        found[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = labels == segment.GetLabelValue()
        np.testing.assert_array_equal(found, case.region_labels.array == region.label)


def test_segment_surfaces_surround_their_lesions(case, shown):
    import vtk

    _, nodes = shown
    voxel = np.linalg.norm(case.region_labels.geometry.spacing_mm)
    for region_id, (centre, radius) in LESIONS.items():
        surface = vtk.vtkPolyData()
        nodes.regions.GetClosedSurfaceRepresentation(region_id, surface)
        bounds = np.array(surface.GetBounds()).reshape(3, 2)
        assert bounds.mean(axis=1) == pytest.approx(centre, abs=voxel / 2)
        assert np.diff(bounds, axis=1).ravel() / 2 == pytest.approx(np.full(3, radius), abs=voxel)


def test_regions_are_outlined_and_lesions_stand_out(case, shown):
    _, nodes = shown
    display = nodes.regions.GetDisplayNode()
    assert display.GetVisibility2DOutline()
    assert not display.GetVisibility2DFill()
    opacity = {r.kind: display.GetSegmentOpacity3D(r.id) for r in case.regions}
    assert 0 < opacity["parenchyma"] < 0.25
    assert opacity["lesion"] > opacity["parenchyma"] > opacity["rim"] > 0


def test_region_colors_are_distinct_and_do_not_depend_on_other_kinds(case):
    colors = region_colors(case.regions)
    assert len(set(colors.values())) == len(case.regions)
    lesions = [r for r in case.regions if r.kind == "lesion"]
    assert region_colors(lesions) == {r.id: colors[r.id] for r in lesions}


def test_showing_leaves_the_case_as_it_was(ct, case):
    before = (case.attention.array.copy(), case.region_labels.array.copy(), ct.array.copy())
    show_case(offscreen_context(), case, ct)
    after = (case.attention.array, case.region_labels.array, ct.array)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_saved_node_is_read_by_simpleitk_at_the_same_place(tmp_path, ct, shown):
    _, nodes = shown
    storage = nodes.ct.CreateDefaultStorageNode()
    storage.SetFileName(str(tmp_path / "ct.nrrd"))
    assert storage.WriteData(nodes.ct)
    image = sitk.ReadImage(str(tmp_path / "ct.nrrd"))
    assert image.GetOrigin() == pytest.approx(ct.geometry.origin_lps)
    assert image.GetDirection() == pytest.approx(ct.geometry.direction_lps)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), ct.array)
