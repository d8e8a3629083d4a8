"""The slider "Edge similarity" hides the edges of regions that are less alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes import PROBABILITIES
from test_panel import apply, choose

from REACTKDLib.types import Edge, Region, RegionGraph, RegionShare

SIMILARITIES = {("liver", "lesion"): 0.35, ("liver", "rim"): 0.8, ("lesion", "rim"): -0.2}


@pytest.fixture
def shown(widget, nodes, worker):
    """The panel with a result of three regions that all touch each other."""
    plain = worker.runner

    def with_edges(*given):
        case = plain(*given)
        rim = Region("rim", "Rim", "rim", 3, 1.0, (9.0, 5.0, 1.0), 60.0, 9.0)
        labels = case.region_labels.array.copy()
        labels[-1] = 3
        share = RegionShare("rim", 0.2, 0.2, dict.fromkeys(PROBABILITIES, 0.0), 0.5)
        edges = (Edge(a, b, s, 100.0, 10.0) for (a, b), s in SIMILARITIES.items())
        return dataclasses.replace(
            case,
            regions=(*case.regions, rim),
            shares=(*case.shares, share),
            region_labels=dataclasses.replace(case.region_labels, array=labels),
            graph=RegionGraph(("liver", "lesion", "rim"), np.eye(3), tuple(edges)),
        )

    worker.runner = with_edges
    choose(widget.panel, nodes)
    apply(widget.panel)
    return widget.panel


def drawn(panel) -> set[float]:
    """Similarities of the edges that the display node lets through to the views."""
    from vtk.util.numpy_support import vtk_to_numpy

    display = panel.results.shown.nodes.edges.GetDisplayNode()
    display.GetOutputMeshConnection().GetProducer().Update()
    mesh = display.GetOutputMesh()
    if mesh is None or mesh.GetNumberOfCells() == 0:
        return set()
    values = vtk_to_numpy(mesh.GetPointData().GetArray("similarity"))
    return {round(float(value), 3) for value in values}


def test_edges_below_the_slider_are_not_drawn(shown):
    slider = shown.ui.edgeSlider
    assert drawn(shown) == {0.35, 0.8, -0.2}
    slider.value = 0.3
    assert drawn(shown) == {0.35, 0.8}
    slider.value = 0.5
    assert drawn(shown) == {0.8}
    slider.value = 0.9
    assert drawn(shown) == set()
    slider.value = 0.0
    assert drawn(shown) == {0.35, 0.8, -0.2}


def test_the_next_result_is_shown_as_the_slider_says(shown):
    shown.ui.edgeSlider.value = 0.5
    apply(shown)
    assert drawn(shown) == {0.8}
