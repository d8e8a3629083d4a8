"""The regions as a segmentation node: outlines in slices, translucent surfaces in 3D."""

from __future__ import annotations

from typing import Any

import numpy as np

from REACTKDLib.palette import region_colors
from REACTKDLib.types import CaseResult

from .context import SceneContext
from .run_nodes import add_node
from .volumes import fill_image, vtk_matrix

#: Opacity of surfaces in 3D and of outlines in slices by kind: what lies inside must stay visible.
_SURFACE_OPACITY = {"lesion": 0.16, "rim": 0.04, "parenchyma": 0.15, "organ": 0.15}
_OUTLINE_OPACITY = {"lesion": 1.0, "rim": 0.9, "parenchyma": 0.5, "organ": 0.6}


def add_regions(context: SceneContext, case: CaseResult, ct_node: Any, run: str) -> Any:
    """A vtkMRMLSegmentationNode with one segment per region; segment ids are region ids."""
    import slicer

    node = add_node(context, "vtkMRMLSegmentationNode", run, "regions")
    node.SetSourceRepresentationToBinaryLabelmap()
    node.SetReferenceImageGeometryParameterFromVolumeNode(ct_node)
    labelmap = _oriented_labelmap(case)
    colors = region_colors(case.regions)
    for region in case.regions:
        segment = slicer.vtkSegment()
        segment.SetName(region.name)
        segment.SetColor(*colors[region.id])
        segment.SetLabelValue(region.label)
        # One labelmap shared by all segments: regions do not overlap.
        segment.AddRepresentation("Binary labelmap", labelmap)
        node.GetSegmentation().AddSegment(segment, region.id)
    node.CreateClosedSurfaceRepresentation()
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetPreferredDisplayRepresentationName2D("Binary labelmap")
    display.SetPreferredDisplayRepresentationName3D("Closed surface")
    for region in case.regions:
        display.SetSegmentOpacity3D(region.id, _SURFACE_OPACITY[region.kind])
        display.SetSegmentOpacity2DOutline(region.id, _OUTLINE_OPACITY[region.kind])
    return node


def _oriented_labelmap(case: CaseResult) -> Any:
    """The region labelmap, cut to the regions, as vtkOrientedImageData in RAS."""
    import slicer

    labels = case.region_labels.array
    ends = []
    for axis in (2, 1, 0):
        filled = np.flatnonzero(labels.any(axis=tuple({0, 1, 2} - {axis})))
        ends.append((int(filled[0]), int(filled[-1])))
    (i0, i1), (j0, j1), (k0, k1) = ends
    image = slicer.vtkOrientedImageData()
    image.SetExtent(i0, i1, j0, j1, k0, k1)
    fill_image(image, labels[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1])
    image.SetImageToWorldMatrix(vtk_matrix(case.region_labels.geometry.ijk_to_ras_matrix))
    return image


def show_outline_only(segmentation: Any | None) -> None:
    """Show the segmentation that a run was given as outlines in slices: its fill would mix with the
    colours of the overlay. None, or a node that is not shown, stays as it is."""
    display = None if segmentation is None else segmentation.GetDisplayNode()
    if display is not None:
        display.SetVisibility2DFill(False)
