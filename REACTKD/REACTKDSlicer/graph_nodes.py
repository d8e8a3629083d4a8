"""The region graph in space: glyphs with scalars, locked labels, edges as tubes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from REACTKDLib.types import CaseResult, Edge, Region, RegionShare

from .colors import SHARE_RAMP, SIMILARITY_RAMP, add_color_table
from .context import SceneContext
from .region_names import short_name
from .run_nodes import add_node
from .translation import tr as _
from .volumes import add_legend

MIN_RADIUS_MM = 3.0
MAX_RADIUS_MM = 9.0
#: Direction from which the graph is best seen, RAS: the front, a little from the right and above.
VIEW_FROM = np.array([0.28, 0.92, 0.28]) / np.linalg.norm([0.28, 0.92, 0.28])

_CAGE_GAP_MM = 2.0
_CAGE_WIRE_MM = 0.6
_TUBE_MM = 0.4
#: Of the label of the region that the user has chosen.
_CHOSEN_COLOR = (1.0, 0.85, 0.2)
#: Width of a label's character and height of its line beside a liver that fills the view.
_CHARACTER_MM = 3.0
_LINE_MM = 11.0
_LABEL_GAP_MM = 1.0


def node_radii_mm(case: CaseResult) -> dict[str, float]:
    """Glyph radius by region id: area follows ``|share|``, between the two bounds.

    A rim has nearly the centre of its lesion and is drawn as a cage around it, so its radius is at
    least that of the nearest lesion's glyph and a gap.
    """
    largest = max((abs(s.share) for s in case.shares), default=0.0) or 1.0
    radii = {
        s.region_id: MIN_RADIUS_MM
        + (MAX_RADIUS_MM - MIN_RADIUS_MM) * math.sqrt(abs(s.share) / largest)
        for s in case.shares
    }
    lesions = [region for region in case.regions if region.kind == "lesion"]
    for rim in case.regions:
        if rim.kind == "rim" and lesions:
            centre = rim.centroid_ras
            inner = min(lesions, key=lambda lesion: math.dist(lesion.centroid_ras, centre))
            radii[rim.id] = max(radii[rim.id], radii[inner.id] + _CAGE_GAP_MM)
    return radii


def drawn_edges(case: CaseResult, similarity_threshold: float, count: int) -> tuple[Edge, ...]:
    """The ``count`` most similar of the edges worth drawing, the most similar first.

    Worth drawing are those whose regions touch, or are at least ``similarity_threshold`` alike.
    """
    worth = [
        edge
        for edge in case.graph.edges
        if edge.contact_area_mm2 > 0 or edge.similarity >= similarity_threshold
    ]
    return tuple(sorted(worth, key=lambda edge: -edge.similarity)[:count])


def add_graph_glyphs(context: SceneContext, case: CaseResult, run: str) -> Any:
    """A model of one glyph per region at its centroid, coloured by share.

    Point scalars: ``share``, ``share_per_ml``, ``volume_ml`` and ``region`` (index of the region).
    """
    import vtk

    radii = node_radii_mm(case)
    append = vtk.vtkAppendPolyData()
    for index, (region, share) in enumerate(zip(case.regions, case.shares, strict=True)):
        glyph = _cage(region, radii) if region.kind == "rim" else _sphere(region, radii)
        scalars = {
            "share": share.share,
            "share_per_ml": share.share_per_ml,
            "volume_ml": region.volume_ml,
            "region": float(index),
        }
        append.AddInputData(_with_scalars(glyph, scalars))
    append.Update()
    node = _add_model(context, append.GetOutput(), run, "graph nodes")
    table = add_color_table(context, run, "share", SHARE_RAMP)
    largest = max(abs(s.share) for s in case.shares) or 1.0
    display = node.GetDisplayNode()
    _color_by(display, "share", table, -largest, largest)
    display.SetVisibility2D(True)
    display.SetSliceDisplayModeToIntersection()
    display.SetSliceIntersectionThickness(2)
    legend = add_legend(context, display, _("Share\n(logit)"), largest)
    legend.SetVisibility2D(False)
    legend.SetPosition(0.97, 0.75)  # above the legend of the edges
    return node


def add_graph_edges(
    context: SceneContext, case: CaseResult, run: str, edges: Sequence[Edge]
) -> Any | None:
    """A model of one tube per edge, coloured by similarity; None when there is no edge.

    Point scalars: ``similarity`` and ``contact_area_mm2``.
    """
    import vtk

    if not edges:
        return None
    centres = {region.id: region.centroid_ras for region in case.regions}
    append = vtk.vtkAppendPolyData()
    for edge in edges:
        line = vtk.vtkLineSource()
        line.SetPoint1(*centres[edge.source])
        line.SetPoint2(*centres[edge.target])
        tube = vtk.vtkTubeFilter()
        tube.SetInputConnection(line.GetOutputPort())
        tube.SetRadius(_TUBE_MM)
        tube.SetNumberOfSides(12)
        tube.Update()
        scalars = {"similarity": edge.similarity, "contact_area_mm2": edge.contact_area_mm2}
        append.AddInputData(_with_scalars(tube.GetOutput(), scalars))
    append.Update()
    node = _add_model(context, append.GetOutput(), run, "graph edges")
    table = add_color_table(context, run, "similarity", SIMILARITY_RAMP)
    display = node.GetDisplayNode()
    _color_by(display, "similarity", table, -1.0, 1.0)
    # Off in slices: whole edges, projected, cross what they have nothing to do with. Whoever turns
    # them on in the module Models gets them faint.
    display.SetVisibility2D(False)
    display.SetSliceDisplayModeToProjection()
    display.SetSliceIntersectionThickness(1)
    display.SetSliceIntersectionOpacity(0.3)
    legend = add_legend(context, display, _("Similarity\n(cosine)"), 1.0)
    legend.SetVisibility2D(False)
    return node


def view_axes() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, RAS, to the right and up in a picture seen from ``VIEW_FROM``."""
    right = np.cross([0.0, 0.0, 1.0], VIEW_FROM)
    right /= np.linalg.norm(right)
    return right, np.cross(VIEW_FROM, right)


def labelled_regions(case: CaseResult, count: int) -> set[str]:
    """Ids of the regions whose labels are shown: those with the ``count`` largest ``|share|``.

    Without those whose label would cover that of a lesion or of a larger share, seen from
    ``VIEW_FROM``. A label begins where :func:`label_places` says.
    """
    places = label_places(case)
    pairs = zip(case.regions, case.shares, strict=True)
    leading = sorted(pairs, key=lambda pair: -abs(pair[1].share))[:count]
    chosen: dict[str, tuple[float, float, float]] = {}
    for region, share in sorted(leading, key=lambda pair: pair[0].kind != "lesion"):
        left, height = np.stack(view_axes()) @ places[region.id]
        right = left + _CHARACTER_MM * len(_label(region, share))
        if not any(
            left < other_right and other_left < right and abs(height - other_height) < _LINE_MM
            for other_left, other_right, other_height in chosen.values()
        ):
            chosen[region.id] = (left, right, height)
    return set(chosen)


def label_places(case: CaseResult) -> dict[str, np.ndarray]:
    """Where the labels begin, RAS mm, by region id: at the glyph's edge, right of its centre."""
    right, _up = view_axes()
    radii = node_radii_mm(case)
    return {
        region.id: np.add(region.centroid_ras, right * (radii[region.id] + _LABEL_GAP_MM))
        for region in case.regions
    }


def _label(region: Region, share: RegionShare) -> str:
    return f"{short_name(region.name)} {share.share:+.3g}"


def add_graph_labels(context: SceneContext, case: CaseResult, run: str, count: int) -> Any:
    """A locked fiducial list with one point per region, in the order of regions.

    The points stand beside the regions' glyphs, seen from ``VIEW_FROM``, at the height of their
    centroids, so that glyph and text are both seen. Only the points of :func:`labelled_regions`
    are visible.
    """
    node = add_node(context, "vtkMRMLMarkupsFiducialNode", run, "graph labels")
    node.CreateDefaultDisplayNodes()
    visible, places = labelled_regions(case, count), label_places(case)
    for region, share in zip(case.regions, case.shares, strict=True):
        index = node.AddControlPoint(*places[region.id], _label(region, share))
        node.SetNthControlPointDescription(index, region.id)
        node.SetNthControlPointLocked(index, True)
        node.SetNthControlPointSelected(index, False)
        node.SetNthControlPointVisibility(index, region.id in visible)
    node.SetLocked(True)
    display = node.GetDisplayNode()
    display.SetUseGlyphScale(False)
    display.SetGlyphSize(0.5)
    display.SetTextScale(2.5)
    text = display.GetTextProperty()
    text.SetBackgroundColor(0.0, 0.0, 0.0)
    text.SetBackgroundOpacity(0.6)
    display.SetColor(1.0, 1.0, 1.0)
    display.SetSelectedColor(*_CHOSEN_COLOR)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(True)
    # The labels lie inside translucent surfaces, which would hide them.
    display.SetOccludedVisibility(True)
    display.SetOccludedOpacity(1.0)
    return node


def highlight_region(labels: Any, case: CaseResult, region_id: str | None, count: int) -> None:
    """Show the label of one region in another colour, whether it is among the leading or not.

    ``labels`` is the node of :func:`add_graph_labels`, made with ``count``; None for no region.
    """
    visible = labelled_regions(case, count)
    for index in range(labels.GetNumberOfControlPoints()):
        own = labels.GetNthControlPointDescription(index)
        labels.SetNthControlPointSelected(index, own == region_id)
        labels.SetNthControlPointVisibility(index, own == region_id or own in visible)


def _sphere(region: Region, radii: dict[str, float]) -> Any:
    import vtk

    source = vtk.vtkSphereSource()
    source.SetCenter(*region.centroid_ras)
    source.SetRadius(radii[region.id])
    source.SetThetaResolution(32)
    source.SetPhiResolution(32)
    source.Update()
    return source.GetOutput()


def _cage(region: Region, radii: dict[str, float]) -> Any:
    """Three orthogonal rings, so that what they surround stays visible."""
    import vtk

    append = vtk.vtkAppendPolyData()
    for normal in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        ring = vtk.vtkRegularPolygonSource()
        ring.SetCenter(*region.centroid_ras)
        ring.SetNormal(*normal)
        ring.SetRadius(radii[region.id])
        ring.SetNumberOfSides(48)
        ring.GeneratePolygonOff()
        tube = vtk.vtkTubeFilter()
        tube.SetInputConnection(ring.GetOutputPort())
        tube.SetRadius(_CAGE_WIRE_MM)
        tube.SetNumberOfSides(8)
        append.AddInputConnection(tube.GetOutputPort())
    append.Update()
    return append.GetOutput()


def _with_scalars(mesh: Any, scalars: dict[str, float]) -> Any:
    """A shallow copy of ``mesh`` whose points all carry the given values, and nothing else."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    result = vtk.vtkPolyData()
    result.ShallowCopy(mesh)
    result.GetPointData().Initialize()
    for name, value in scalars.items():
        array = numpy_to_vtk(np.full(mesh.GetNumberOfPoints(), value), deep=True)
        array.SetName(name)
        result.GetPointData().AddArray(array)
    return result


def _add_model(context: SceneContext, mesh: Any, run: str, role: str) -> Any:
    node = add_node(context, "vtkMRMLModelNode", run, role)
    node.SetAndObserveMesh(mesh)
    node.CreateDefaultDisplayNodes()
    return node


def _color_by(display: Any, array: str, table: Any, low: float, high: float) -> None:
    display.SetActiveScalar(array, 0)  # 0 is vtkDataObject::POINT
    display.SetScalarVisibility(True)
    display.SetAndObserveColorNodeID(table.GetID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(low, high)
