"""A case result becomes MRML nodes. The same code runs in Slicer and on slicer-core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Vector, geometry_from_ijk_to_ras
from REACTKDLib.types import CaseResult, Volume

from .context import SceneContext
from .document_nodes import add_document
from .graph_nodes import add_graph_edges, add_graph_glyphs, add_graph_labels, drawn_edges
from .plot_nodes import add_probability_plot
from .region_nodes import add_regions
from .run_nodes import RUN_ATTRIBUTE, file_in_folder, remove_run
from .text_nodes import add_region_table, add_summary
from .volumes import add_attention, add_attention_legend, add_ct, set_slice_layers


@dataclass(frozen=True)
class SceneStyle:
    """How a case is shown.

    Parameters
    ----------
    window_hu, level_hu : CT window; the default is the usual one for the abdomen. A CT node that
        is already in the scene keeps its own.
    attention_floor : attention below this fraction of its maximum is hidden, 0..1.
    attention_opacity : of the attention over the CT, 0..1.
    similarity_threshold : edges of regions that do not touch are drawn from this cosine on.
    edge_count : how many edges are drawn at most, the most similar first.
    label_count : how many regions, those with the largest absolute shares, show their label.
    """

    window_hu: float = 400.0
    level_hu: float = 40.0
    attention_floor: float = 0.2
    attention_opacity: float = 0.5
    similarity_threshold: float = 0.9
    edge_count: int = 16
    label_count: int = 5


class MapNodes(Protocol):
    """The nodes of a run that show a map over the CT, and the regions."""

    @property
    def attention(self) -> Any:
        """The vtkMRMLScalarVolumeNode of the map."""

    @property
    def regions(self) -> Any:
        """The vtkMRMLSegmentationNode of the regions."""


@dataclass(frozen=True)
class CaseNodes:
    """The nodes that show one run.

    ``edges`` is None when the graph has no edge to draw. Of a stored result, glyphs, edges, labels,
    table, summary and chart are None where they were deleted. Users may delete any of them later:
    ask ``run_nodes.in_scene`` first.
    """

    run: str
    folder: int
    ct: Any
    attention: Any
    regions: Any
    glyphs: Any | None
    edges: Any | None
    labels: Any | None
    table: Any | None
    summary: Any | None
    chart: Any | None
    document: Any


def show_case(
    context: SceneContext,
    case: CaseResult,
    ct: Volume | Any,
    *,
    run: str | None = None,
    style: SceneStyle | None = None,
    surfaces: bool = True,
) -> CaseNodes:
    """Show ``case`` in the scene, replacing what an earlier run of the same name left there.

    Parameters
    ----------
    ct : the CT as a Volume, which becomes a node of the run, or a vtkMRMLScalarVolumeNode of the
        scene, which stays as it is; the other nodes then follow its parent transform.
    run : name of the run and its folder; the case id when None.
    surfaces : whether the regions' surfaces are made too, which takes most of the time; False
        leaves that to ``region_nodes.SurfaceMaker``.

    Raises
    ------
    InputError : attention or regions are not on the CT's grid. The scene is unchanged then.
    """
    run = case.case_id if run is None else run
    style = style or SceneStyle()
    given_node = None if isinstance(ct, Volume) else ct
    check_grid(case, ct)
    keep = () if given_node is None else (given_node,)
    remove_run(context, run, keep)
    try:
        ct_node = given_node or add_ct(context, ct, run, style.window_hu, style.level_hu)
        return _add_nodes(context, case, ct_node, run, style, surfaces)
    except Exception:
        remove_run(context, run, keep)  # half a case is worse than none
        raise


def _add_nodes(
    context: SceneContext,
    case: CaseResult,
    ct_node: Any,
    run: str,
    style: SceneStyle,
    surfaces: bool,
) -> CaseNodes:
    edges = drawn_edges(case, style.similarity_threshold, style.edge_count)
    nodes = {
        "attention": add_attention(context, case, run, style.attention_floor),
        "regions": add_regions(context, case, ct_node, run, surfaces),
        "glyphs": add_graph_glyphs(context, case, run),
        "edges": add_graph_edges(context, case, run, edges),
        "labels": add_graph_labels(context, case, run, style.label_count),
        "table": add_region_table(context, case, run),
        "summary": add_summary(context, case, run),
        "document": add_document(context, case, ct_node, run),
    }
    nodes["chart"], *behind = add_probability_plot(context, case, run)
    own = [node for node in (*nodes.values(), *behind) if node is not None]
    for node in own:
        if node.IsA("vtkMRMLTransformableNode"):
            node.SetAndObserveTransformNodeID(ct_node.GetTransformNodeID())
    if ct_node.GetAttribute(RUN_ATTRIBUTE) == run:
        own.insert(0, ct_node)
    folder = file_in_folder(context, run, own, ct_node)
    set_slice_layers(context, ct_node, nodes["attention"], style.attention_opacity)
    add_attention_legend(context, case, nodes["attention"])
    return CaseNodes(run=run, folder=folder, ct=ct_node, **nodes)


def remove_case(context: SceneContext, nodes: CaseNodes) -> None:
    """Remove everything that :func:`show_case` added for this run. A given CT node stays."""
    remove_run(context, nodes.run)


def most_attended_point(case: CaseResult) -> Vector:
    """RAS mm of the attention's maximum in the region with the largest share.

    When no region speaks for the target class, of the maximum over all regions.
    """
    region, share = case.ranked[0]
    labels = case.region_labels.array
    mask = labels == region.label if share.share > 0 else labels > 0
    k, j, i = np.unravel_index(
        np.argmax(np.where(mask, case.attention.array, -np.inf)), labels.shape
    )
    right, anterior, superior = case.attention.geometry.ras_from_ijk(np.array([i, j, k]))
    return (float(right), float(anterior), float(superior))


def jump_to_attention(context: SceneContext, case: CaseResult, nodes: MapNodes) -> Vector:
    """Move all slice views to the most attended point; its world RAS mm, transforms applied."""
    world = [0.0, 0.0, 0.0]
    nodes.attention.TransformPointToWorld(most_attended_point(case), world)
    context.markups_logic.JumpSlicesToLocation(*world, False)
    return (world[0], world[1], world[2])


def check_grid(case: CaseResult, ct: Volume | Any) -> None:
    """Refuse a result that was not made on the grid of a CT, a Volume or a node.

    Raises
    ------
    InputError : attention or regions are on another grid.
    """
    if isinstance(ct, Volume):
        geometry = ct.geometry
    else:
        import vtk

        matrix = vtk.vtkMatrix4x4()
        ct.GetIJKToRASMatrix(matrix)
        affine = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
        geometry = geometry_from_ijk_to_ras(affine, ct.GetImageData().GetDimensions())
    for volume, what in ((case.attention, "attention"), (case.region_labels, "regions")):
        if not volume.geometry.same_grid(geometry):
            raise InputError(
                f"The {what} of case {case.case_id} ({volume.geometry.size} voxels) do not lie on"
                f" the grid of this CT ({geometry.size} voxels).",
                "Give the CT that the result was made from.",
            )
