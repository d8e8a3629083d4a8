"""The numbers of a case as a text node, from which a saved scene gives the result back."""

from __future__ import annotations

import json
from typing import Any

from REACTKDLib.report import graph_document, result_document
from REACTKDLib.types import CaseResult

from .context import SceneContext
from .run_nodes import add_node

#: Role of the text node among the nodes of its run.
ROLE = "result"

#: Node reference from the text node to the CT.
CT_REFERENCE = "REACTKD.ct"


def add_document(context: SceneContext, case: CaseResult, ct_node: Any, run: str) -> Any:
    """A hidden text node with the numbers of a case; voxels stay in their own nodes."""
    document = {
        "result": result_document(case),
        "graph": graph_document(case),
        "provenance": dict(case.provenance),
    }
    node = add_node(context, "vtkMRMLTextNode", run, ROLE)
    node.SetHideFromEditors(True)
    node.SetText(json.dumps(document))
    node.SetNodeReferenceID(CT_REFERENCE, ct_node.GetID())
    return node
