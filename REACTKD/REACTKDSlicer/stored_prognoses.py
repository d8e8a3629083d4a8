"""Prognoses as a scene keeps them, so that a saved scene gives them back."""

from __future__ import annotations

import json
from typing import Any

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.result import prognosis_from_documents
from REACTKDLib.result_records import case_from_documents
from REACTKDLib.types import CaseResult

from .context import SceneContext
from .document_nodes import CT_REFERENCE
from .prognosis_documents import PROGNOSIS_ROLE
from .prognosis_nodes import PrognosisNodes, ShownPrognosis
from .run_nodes import folder_of
from .stored_cases import by_role, region_labels
from .study_nodes import volume_from_node


def stored_prognosis(context: SceneContext, run: str) -> ShownPrognosis:
    """The prognosis of a run and the nodes that show it.

    Raises
    ------
    InputError : nodes of the run are missing or were altered.
    """
    nodes = by_role(context, run)
    try:
        document = json.loads(nodes[PROGNOSIS_ROLE].GetText())
        case = _case(nodes, document) if document["ct_case"] is not None else None
        result = prognosis_from_documents(document["prognosis"], document["provenance"], case)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The scene's prognosis of {run} is not complete ({type(error).__name__}: {error}).",
            "Press Compute prognosis to make it again.",
        ) from error
    ct = nodes[PROGNOSIS_ROLE].GetNodeReference(CT_REFERENCE)
    if case is not None and ct is None:
        raise InputError(
            f"The CT of {run} is not in the scene.", "Load it, and press Compute prognosis."
        )
    folder = folder_of(context, run)
    return ShownPrognosis(
        result,
        PrognosisNodes(
            run=run,
            folder=-1 if folder is None else folder,
            ct=ct,
            attention=nodes.get("attention"),
            regions=nodes.get("regions"),
            # What only shows the result may have been deleted.
            table=nodes.get("contributions table"),
            summary=nodes.get("summary"),
            chart=nodes.get("contributions chart"),
            document=nodes[PROGNOSIS_ROLE],
        ),
    )


def _case(nodes: dict[str, Any], document: dict[str, Any]) -> CaseResult:
    """What the CT's branch saw."""
    attention = volume_from_node(nodes["attention"], nodes["attention"])
    labels = region_labels(
        nodes["regions"], document["ct_case"]["regions"], attention, nodes["attention"]
    )
    return case_from_documents(
        document["ct_case"], document["graph"], document["provenance"], attention, labels
    )
