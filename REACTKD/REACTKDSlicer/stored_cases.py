"""Results as a scene keeps them, so that a saved scene gives them back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from REACTKDLib.errors import InputError
from REACTKDLib.result_records import case_from_documents
from REACTKDLib.types import CaseResult, Volume

from .context import SceneContext
from .document_nodes import CT_REFERENCE, ROLE
from .inputs import is_result_of
from .run_nodes import ROLE_ATTRIBUTE, RUN_ATTRIBUTE, folder_of, nodes_of
from .scene_nodes import CaseNodes
from .study_nodes import merged_labels, volume_from_node


def documents(scene: Any) -> list[Any]:
    """The text nodes of the results in the scene."""
    texts = (
        scene.GetNthNodeByClass(n, "vtkMRMLTextNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLTextNode"))
    )
    return [node for node in texts if node.GetAttribute(ROLE_ATTRIBUTE) == ROLE]


def stored_runs(context: SceneContext) -> list[str]:
    """Names of the runs whose results the scene has."""
    return [node.GetAttribute(RUN_ATTRIBUTE) for node in documents(context.scene)]


def stored_run_of(scene: Any, ct: Any, parameter_node: Any) -> str | None:
    """Name of the run of a CT with some parameters, if the scene has its result."""
    return next(
        (
            node.GetAttribute(RUN_ATTRIBUTE)
            for node in documents(scene)
            if is_result_of(node, ct, parameter_node)
        ),
        None,
    )


def stored_case(context: SceneContext, run: str) -> tuple[CaseResult, CaseNodes]:
    """The result of a run and the nodes that show it.

    Raises
    ------
    InputError : nodes of the run are missing or were altered.
    """
    nodes = by_role(context, run)
    try:
        document = json.loads(nodes[ROLE].GetText())
        ct = nodes[ROLE].GetNodeReference(CT_REFERENCE)
        attention = volume_from_node(nodes["attention"], nodes["attention"])
        labels = region_labels(
            nodes["regions"], document["result"]["regions"], attention, nodes["attention"]
        )
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
            # What only shows the result may have been deleted.
            glyphs=nodes.get("graph nodes"),
            edges=nodes.get("graph edges"),
            labels=nodes.get("graph labels"),
            table=nodes.get("regions table"),
            summary=nodes.get("summary"),
            chart=nodes.get("probability chart"),
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


def by_role(context: SceneContext, run: str) -> dict[str, Any]:
    """The nodes of a run by their role."""
    return {node.GetAttribute(ROLE_ATTRIBUTE): node for node in nodes_of(context, run)}


def region_labels(node: Any, regions: list[dict[str, Any]], like: Volume, frame: Any) -> Volume:
    """The labels of the regions on the grid of ``like``, the CT's.

    A segmentation that was saved may come back with other label values and a smaller extent, on the
    same lattice.
    """
    part = merged_labels(node, {region["id"]: region["label"] for region in regions}, frame)
    if part is None:
        raise ValueError("the regions have no labelmap")
    first = like.geometry.ijk_from_lps(np.array(part.geometry.origin_lps))
    i, j, k = (round(float(n)) for n in first)
    labels = np.zeros(like.geometry.array_shape, np.uint8)
    depth, height, width = part.array.shape
    labels[k : k + depth, j : j + height, i : i + width] = part.array
    return Volume(labels, like.geometry, "regions")
