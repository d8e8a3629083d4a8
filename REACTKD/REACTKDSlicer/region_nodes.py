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


#: Of the outline of the region that the user has chosen; and for none, as MRML has it.
CHOSEN_COLOR = (1.0, 0.85, 0.2)
_NO_COLOR = (-1.0, -1.0, -1.0)

_LABELMAP, _SURFACE = "Binary labelmap", "Closed surface"


def add_regions(
    context: SceneContext, case: CaseResult, ct_node: Any, run: str, surfaces: bool = True
) -> Any:
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
        segment.AddRepresentation(_LABELMAP, labelmap)
        node.GetSegmentation().AddSegment(segment, region.id)
    if surfaces:
        node.CreateClosedSurfaceRepresentation()
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetPreferredDisplayRepresentationName2D(_LABELMAP)
    display.SetPreferredDisplayRepresentationName3D(_SURFACE)
    for region in case.regions:
        display.SetSegmentOpacity3D(region.id, _SURFACE_OPACITY[region.kind])
        display.SetSegmentOpacity2DOutline(region.id, _OUTLINE_OPACITY[region.kind])
    return node


class SurfaceMaker:
    """Makes the surfaces of regions one by one, so that nobody waits for all of them.

    They are shown when all are there: Slicer expects the same representations of all segments.
    """

    def __init__(self, node: Any) -> None:
        self.node = node
        segmentation = node.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        self._missing = [i for i in ids if _surface_of(segmentation.GetSegment(i)) is None]
        self._made: dict[str, Any] = {}

    def step(self) -> bool:
        """Make one more surface; whether there is more to do."""
        segmentation = self.node.GetSegmentation()
        if not self._missing:
            return False
        segment_id = self._missing.pop()
        segment = segmentation.GetSegment(segment_id)
        if segment is not None:
            self._made[segment_id] = _make_surface(segment)
        if self._missing:
            return True
        for segment_id, surface in self._made.items():
            segment = segmentation.GetSegment(segment_id)
            if segment is not None:
                segment.AddRepresentation(_SURFACE, surface)
        return False


def _surface_of(segment: Any) -> Any | None:
    return segment.GetRepresentation(_SURFACE)


def _make_surface(segment: Any) -> Any:
    """The closed surface of a segment, as the segmentation node would make it."""
    import slicer

    part = slicer.vtkSegment()
    part.SetLabelValue(segment.GetLabelValue())
    part.AddRepresentation(_LABELMAP, segment.GetRepresentation(_LABELMAP))
    alone = slicer.vtkSegmentation()
    alone.SetSourceRepresentationName(_LABELMAP)
    alone.AddSegment(part, "part")
    alone.CreateRepresentation(_SURFACE)
    return _surface_of(part)


def highlight_segment(node: Any, region_id: str | None) -> None:
    """Outline one region in another colour, in slices and in 3D; None for no region."""
    display = node.GetDisplayNode()
    if display is None:
        return
    segmentation = node.GetSegmentation()
    for n in range(segmentation.GetNumberOfSegments()):
        segment_id = segmentation.GetNthSegmentID(n)
        color = CHOSEN_COLOR if segment_id == region_id else _NO_COLOR
        display.SetSegmentOverrideColor(segment_id, *color)


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
