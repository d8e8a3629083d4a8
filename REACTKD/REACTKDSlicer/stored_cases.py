"""Results as a scene keeps them, so that a saved scene gives them back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import geometry_from_ijk_to_ras
from REACTKDLib.report import case_from_documents
from REACTKDLib.types import CaseResult, Volume

from .context import SceneContext
from .document_nodes import CT_REFERENCE, ROLE
from .run_nodes import ROLE_ATTRIBUTE, RUN_ATTRIBUTE, folder_of, nodes_of
from .scene_nodes import CaseNodes


def stored_runs(context: SceneContext) -> list[str]:
    """Names of the runs whose results the scene has."""
    scene = context.scene
    texts = (
        scene.GetNthNodeByClass(n, "vtkMRMLTextNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLTextNode"))
    )
    return [n.GetAttribute(RUN_ATTRIBUTE) for n in texts if n.GetAttribute(ROLE_ATTRIBUTE) == ROLE]


def stored_case(context: SceneContext, run: str) -> tuple[CaseResult, CaseNodes]:
    """The result of a run and the nodes that show it.

    Raises
    ------
    InputError : nodes of the run are missing or were altered.
    """
    nodes = _by_role(context, run)
    try:
        document = json.loads(nodes[ROLE].GetText())
        ct = nodes[ROLE].GetNodeReference(CT_REFERENCE)
        attention = _volume(nodes["attention"])
        labels = _region_labels(nodes["regions"], document["result"]["regions"], attention)
        case = case_from_documents(
            document["result"], document["graph"], document["provenance"], attention, labels
        )
        folder = folder_of(context, run)
        shown = CaseNodes(
            run=run,
            folder=-1 if folder is None else folder,
            ct=ct,
            attention=nodes["attention"],
            regions=nodes["regions"],
            glyphs=nodes["graph nodes"],
            edges=nodes.get("graph edges"),
            labels=nodes["graph labels"],
            table=nodes["regions table"],
            summary=nodes["summary"],
            chart=nodes["probability chart"],
            document=nodes[ROLE],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The scene's result of {run} is not complete ({type(error).__name__}: {error}).",
            "Press Apply to make it again.",
        ) from error
    if ct is None:
        raise InputError(f"The CT of {run} is not in the scene.", "Load it, and press Apply.")
    return case, shown


def _by_role(context: SceneContext, run: str) -> dict[str, Any]:
    return {node.GetAttribute(ROLE_ATTRIBUTE): node for node in nodes_of(context, run)}


def _volume(node: Any) -> Volume:
    """The voxels of a volume node, copied, in its own coordinates."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    geometry = geometry_from_ijk_to_ras(
        slicer.util.arrayFromVTKMatrix(matrix), node.GetImageData().GetDimensions()
    )
    return Volume(np.array(slicer.util.arrayFromVolume(node)), geometry, "attention")


def _region_labels(node: Any, regions: list[dict[str, Any]], like: Volume) -> Volume:
    """The labels of the regions on the grid of ``like``, the CT's.

    A segmentation that was saved may come back with other label values and a smaller extent, on the
    same lattice.
    """
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    ids, values = vtk.vtkStringArray(), vtk.vtkIntArray()
    for region in regions:
        ids.InsertNextValue(region["id"])
        values.InsertNextValue(region["label"])
    image = slicer.vtkOrientedImageData()
    if not node.GenerateMergedLabelmapForAllSegments(
        image, slicer.vtkSegmentation.EXTENT_UNION_OF_SEGMENTS, None, ids, values
    ):
        raise ValueError("the regions have no labelmap")
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    size = (i1 - i0 + 1, j1 - j0 + 1, k1 - k0 + 1)
    lattice = geometry_from_ijk_to_ras(slicer.util.arrayFromVTKMatrix(matrix), (1, 1, 1))
    first = like.geometry.ijk_from_lps(lattice.lps_from_ijk(np.array([i0, j0, k0])))
    i, j, k = (round(float(n)) for n in first)
    labels = np.zeros(like.geometry.array_shape, np.uint8)
    part = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(size[::-1])
    labels[k : k + size[2], j : j + size[1], i : i + size[0]] = part
    return Volume(labels, like.geometry, "regions")
