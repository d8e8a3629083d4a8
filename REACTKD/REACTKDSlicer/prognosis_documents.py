"""Which prognoses the scene has, and what each was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .document_nodes import CT_REFERENCE
from .inputs import PARAMETERS_REFERENCE
from .run_nodes import ROLE_ATTRIBUTE, RUN_ATTRIBUTE

#: Role of the text node with the numbers of a prognosis among the nodes of its run.
PROGNOSIS_ROLE = "prognosis"
_INPUT_REFERENCE = "REACTKD.input."
_ATTRIBUTE = "REACTKD.inputs"


@dataclass(frozen=True)
class PrognosisInputs:
    """What a prognosis was made from.

    ``nodes`` : node ID by role (``ct``, ``segmentation``); ``segments`` : the role of every one;
    ``scheme`` of the regions, "" without images; ``clinical`` : digest of the values and text that
    were used, "" without any.
    """

    nodes: tuple[tuple[str, str], ...]
    model_sha256: str
    segments: tuple[tuple[str, str], ...]
    scheme: str
    clinical: str

    def same_as(self, now: PrognosisInputs | None) -> bool:
        """Whether a prognosis would be made from these now; a segment that was added since is an
        edit of the segmentation, as voxels are."""
        return (
            now is not None
            and (self.nodes, self.model_sha256, self.scheme, self.clinical)
            == (now.nodes, now.model_sha256, now.scheme, now.clinical)
            and set(self.segments) <= set(now.segments)
        )


def prognosis_documents(scene: Any) -> list[Any]:
    """The text nodes of the prognoses in the scene."""
    texts = (
        scene.GetNthNodeByClass(n, "vtkMRMLTextNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLTextNode"))
    )
    return [node for node in texts if node.GetAttribute(ROLE_ATTRIBUTE) == PROGNOSIS_ROLE]


def stored_prognosis_of(scene: Any, ct: Any | None, parameter_node: Any) -> str | None:
    """Name of the prognosis of a CT (None for one without) with some parameters, if there is."""
    return next(
        (
            node.GetAttribute(RUN_ATTRIBUTE)
            for node in prognosis_documents(scene)
            if node.GetNodeReference(CT_REFERENCE) is ct
            and node.GetNodeReference(PARAMETERS_REFERENCE) is parameter_node
        ),
        None,
    )


def keep_prognosis_inputs(document: Any, inputs: PrognosisInputs, parameters_id: str) -> None:
    """Write into the text node of a prognosis what it was made from.

    Nodes are kept as references, which stay right when a scene is loaded into another.
    """
    for role, node_id in inputs.nodes:
        document.SetNodeReferenceID(_INPUT_REFERENCE + role, node_id)
    document.SetNodeReferenceID(PARAMETERS_REFERENCE, parameters_id)
    kept = {
        "roles": [role for role, _ in inputs.nodes],
        "model_sha256": inputs.model_sha256,
        "segments": inputs.segments,
        "scheme": inputs.scheme,
        "clinical": inputs.clinical,
    }
    document.SetAttribute(_ATTRIBUTE, json.dumps(kept))


def kept_prognosis_inputs(document: Any) -> PrognosisInputs | None:
    """What :func:`keep_prognosis_inputs` wrote; None without it. A node that is gone has the ID
    ""."""
    kept = json.loads(document.GetAttribute(_ATTRIBUTE) or "{}")
    if not kept:
        return None
    nodes = ((role, document.GetNodeReference(_INPUT_REFERENCE + role)) for role in kept["roles"])
    return PrognosisInputs(
        nodes=tuple((role, str(node.GetID()) if node is not None else "") for role, node in nodes),
        model_sha256=kept["model_sha256"],
        segments=tuple((segment_id, role) for segment_id, role in kept["segments"]),
        scheme=kept["scheme"],
        clinical=kept["clinical"],
    )
