"""The graph in space stands at the regions' centroids and carries their numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from REACTKDSlicer.graph_nodes import (
    MAX_RADIUS_MM,
    MIN_RADIUS_MM,
    drawn_edges,
    labelled_regions,
    node_radii_mm,
    view_axes,
)
from REACTKDSlicer.scene_nodes import SceneStyle, show_case

from REACTKDLib.types import RegionGraph


def points_and_scalars(node) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    from vtk.util.numpy_support import vtk_to_numpy

    mesh = node.GetPolyData()
    data = mesh.GetPointData()
    scalars = {
        data.GetArrayName(n): vtk_to_numpy(data.GetArray(n))
        for n in range(data.GetNumberOfArrays())
    }
    return vtk_to_numpy(mesh.GetPoints().GetData()), scalars


def test_glyphs_are_centred_at_the_centroids_and_carry_the_shares(case, shown):
    _, nodes = shown
    points, scalars = points_and_scalars(nodes.glyphs)
    radii = node_radii_mm(case)
    for index, (region, share) in enumerate(zip(case.regions, case.shares, strict=True)):
        own = scalars["region"] == index
        low, high = points[own].min(axis=0), points[own].max(axis=0)
        assert (low + high) / 2 == pytest.approx(region.centroid_ras, abs=0.1)
        assert (high - low) / 2 == pytest.approx(np.full(3, radii[region.id]), abs=0.7)
        np.testing.assert_array_equal(scalars["share"][own], share.share)
        np.testing.assert_array_equal(scalars["share_per_ml"][own], share.share_per_ml)
        np.testing.assert_array_equal(scalars["volume_ml"][own], region.volume_ml)


def test_radius_grows_with_the_share_within_bounds(case):
    radii = node_radii_mm(case)
    spheres = [
        (abs(s.share), radii[r.id])
        for r, s in zip(case.regions, case.shares, strict=True)
        if r.kind != "rim"
    ]
    assert sorted(spheres) == sorted(spheres, key=lambda pair: pair[1])
    assert max(radius for _, radius in spheres) == MAX_RADIUS_MM
    assert min(radius for _, radius in spheres) >= MIN_RADIUS_MM


def test_a_rim_s_cage_encloses_its_lesion_s_sphere(case):
    radii = node_radii_mm(case)
    assert radii["rim-1"] > radii["lesion-1"]
    assert radii["rim-2"] > radii["lesion-2"]


def test_shares_of_zero_are_shown(context, ct, case):
    shares = tuple(dataclasses.replace(s, share=0.0, share_per_ml=0.0) for s in case.shares)
    nodes = show_case(context, dataclasses.replace(case, shares=shares), ct)
    low, high = nodes.glyphs.GetDisplayNode().GetScalarRange()
    assert low < 0 < high


def test_glyphs_are_colored_by_share_about_zero(case, shown):
    _, nodes = shown
    display = nodes.glyphs.GetDisplayNode()
    assert display.GetActiveScalarName() == "share"
    assert display.GetScalarVisibility()
    assert display.GetScalarRange() == (-1.35, 1.35)
    assert display.GetColorNode().GetName() == "REACTKD share"


def test_labels_stand_beside_the_glyphs_and_are_locked(case, shown):
    _, nodes = shown
    right, up = view_axes()
    radii = node_radii_mm(case)
    assert nodes.labels.GetNumberOfControlPoints() == len(case.regions)
    assert nodes.labels.GetLocked()
    for index, (region, share) in enumerate(zip(case.regions, case.shares, strict=True)):
        position = nodes.labels.GetNthControlPointPosition(index)
        from_centre = np.subtract(position, region.centroid_ras)
        assert from_centre @ right > radii[region.id]  # seen from the front, the glyph is free
        assert from_centre @ right < radii[region.id] + 2
        assert from_centre @ up == pytest.approx(0, abs=1e-6)
        assert from_centre[2] == pytest.approx(0, abs=1e-6)  # in the same axial slice
        assert nodes.labels.GetNthControlPointLabel(index) == f"{region.name} {share.share:+.3g}"
        assert nodes.labels.GetNthControlPointLocked(index)


def test_only_leading_labels_that_do_not_cover_each_other_are_visible(case, shown):
    _, nodes = shown
    visible = {
        nodes.labels.GetNthControlPointDescription(n)
        for n in range(nodes.labels.GetNumberOfControlPoints())
        if nodes.labels.GetNthControlPointVisibility(n)
    }
    # Largest |share|: lesion 1, right lower, lesion 2, rim 1 (inside lesion 1), left lower (below
    # lesion 2, seen from the front).
    assert visible == {"lesion-1", "lesion-2", "parenchyma-right-lower"}
    assert labelled_regions(case, 1) == {"lesion-1"}


def test_a_label_needs_the_room_of_its_text(case):
    """As in a thin series: two regions side by side at one height, 80 mm apart."""
    right, _ = view_axes()
    first, second = case.regions[:2]

    def labelled(name: str, apart_mm: float) -> set[str]:
        places = (np.zeros(3), right * apart_mm)
        regions = tuple(
            dataclasses.replace(region, name=name, centroid_ras=tuple(place.tolist()))
            for region, place in zip((first, second), places, strict=True)
        )
        two = dataclasses.replace(case, regions=regions, shares=case.shares[:2])
        return labelled_regions(two, 2)

    long_name = "Nameless organ right superior part"
    assert labelled(long_name, 80.0) == {first.id}
    assert labelled(long_name, -80.0) == {first.id}
    assert labelled(long_name, 130.0) == {first.id, second.id}
    assert labelled("Lesion 1", 50.0) == {first.id, second.id}


def test_a_lesion_keeps_its_label_beside_a_stronger_rim(case):
    shares = tuple(
        dataclasses.replace(s, share=9.0) if s.region_id == "rim-2" else s for s in case.shares
    )
    labelled = labelled_regions(dataclasses.replace(case, shares=shares), 4)
    assert "lesion-2" in labelled
    assert "rim-2" not in labelled


def test_edges_run_from_centroid_to_centroid_and_carry_the_similarity(case, shown):
    _, nodes = shown
    points, scalars = points_and_scalars(nodes.edges)
    edges = drawn_edges(case, SceneStyle().similarity_threshold, SceneStyle().edge_count)
    centres = {r.id: np.array(r.centroid_ras) for r in case.regions}
    assert len(set(scalars["similarity"])) == len(edges)
    for edge in edges:
        tube = points[scalars["similarity"] == edge.similarity]
        start, end = centres[edge.source], centres[edge.target]
        length = np.linalg.norm(end - start)
        along = (tube - start) @ (end - start) / length
        across = np.linalg.norm(tube - start - along[:, None] * (end - start) / length, axis=1)
        assert (along.min(), along.max()) == pytest.approx((0, length), abs=1e-2)
        assert across.max() < 1.0


def test_drawn_edges_touch_or_are_alike(case):
    touching = {(e.source, e.target) for e in case.graph.edges if e.contact_area_mm2 > 0}
    assert {(e.source, e.target) for e in drawn_edges(case, 2.0, 99)} == touching
    drawn = {(e.source, e.target) for e in drawn_edges(case, 0.9, 99)}
    assert drawn == touching | {("lesion-1", "lesion-2")}
    assert len(drawn_edges(case, -1.0, 99)) == len(case.graph.edges)


def test_the_most_similar_edges_are_drawn_first(case):
    similarities = [e.similarity for e in drawn_edges(case, -1.0, 99)]
    assert similarities == sorted(similarities, reverse=True)
    assert [e.similarity for e in drawn_edges(case, -1.0, 3)] == similarities[:3]


def test_edges_are_projected_onto_slices_and_colored_by_weight(shown):
    _, nodes = shown
    display = nodes.edges.GetDisplayNode()
    assert not display.GetVisibility2D()  # until the user wants them
    assert display.GetSliceDisplayMode() == display.SliceDisplayProjection
    assert display.GetActiveScalarName() == "similarity"
    assert display.GetScalarRange() == (-1, 1)
    assert display.GetColorNode().GetName() == "REACTKD similarity"


def test_a_graph_without_edges_has_no_edge_node(context, ct, case):
    graph = RegionGraph(case.graph.node_ids, case.graph.features, ())
    nodes = show_case(context, dataclasses.replace(case, graph=graph), ct)
    assert nodes.edges is None
    assert context.scene.GetFirstNodeByName("synthetic graph edges") is None
