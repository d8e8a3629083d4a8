"""What a result was made from, kept with it in the scene, so that other inputs are noticed."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from REACTKDLib.errors import InputError
from REACTKDLib.model_package import ModelPackage
from REACTKDLib.types import Study

from .document_nodes import CT_REFERENCE
from .study_nodes import roles_of

if TYPE_CHECKING:
    from .parameters import ReactKDParameters

#: Node reference from a result to the parameters that it was made with.
PARAMETERS_REFERENCE = "REACTKD.parameters"
_INPUT_REFERENCE = "REACTKD.input."
_ATTRIBUTE = "REACTKD.inputs"


@dataclass(frozen=True)
class Inputs:
    """Node ID by role (``ct``, ``segmentation``, modalities of PET), the model, the scheme of the
    regions, and the role of every segment ("" for none).

    The class that is explained and the device are no inputs: the result names its class.
    """

    nodes: tuple[tuple[str, str], ...]
    model_sha256: str
    scheme: str
    segments: tuple[tuple[str, str], ...]

    def same_as(self, now: Inputs | None) -> bool:
        """Whether a run would be made from these now; a segment that was added since is an edit of
        the segmentation, as voxels are."""
        return (
            now is not None
            and (self.nodes, self.model_sha256, self.scheme)
            == (now.nodes, now.model_sha256, now.scheme)
            and set(self.segments) <= set(now.segments)
        )


def inputs_of(parameters: ReactKDParameters, package: ModelPackage | None) -> Inputs | None:
    """What a run would be made from now; None while something is missing. Reads no voxels."""
    if package is None or parameters.ct is None or parameters.segmentation is None:
        return None
    nodes = {
        "ct": parameters.ct,
        "segmentation": parameters.segmentation,
        **parameters.pet_nodes(),
    }
    chosen = parameters.chosen_roles()
    try:
        segments = roles_of(parameters.segmentation, package.role_rules, chosen)
    except InputError:
        return None
    segmentation = parameters.segmentation.GetSegmentation()
    return Inputs(
        nodes=tuple(sorted((role, str(node.GetID())) for role, node in nodes.items())),
        model_sha256=package.package_sha256,
        scheme=parameters.region_scheme.value,
        segments=tuple((segmentation.GetNthSegmentID(s.label - 1), s.role or "") for s in segments),
    )


def labels_checksum(study: Study) -> int:
    """Tells an edited segmentation from the one that a saved result was made from."""
    return zlib.crc32(study.segmentation.labels.tobytes())


def keep_inputs(document: Any, inputs: Inputs, checksum: int, parameters_id: str) -> None:
    """Write into the text node of a result what it was made from.

    Nodes are kept as references, which stay right when a scene is loaded into another.
    """
    for role, node_id in inputs.nodes:
        document.SetNodeReferenceID(_INPUT_REFERENCE + role, node_id)
    document.SetNodeReferenceID(PARAMETERS_REFERENCE, parameters_id)
    kept = {
        "roles": [role for role, _ in inputs.nodes],
        "model_sha256": inputs.model_sha256,
        "scheme": inputs.scheme,
        "segments": inputs.segments,
        "labels_checksum": checksum,
    }
    document.SetAttribute(_ATTRIBUTE, json.dumps(kept))


def kept_inputs(document: Any) -> tuple[Inputs, int] | None:
    """What :func:`keep_inputs` wrote; None without it. A node that is gone has the ID ""."""
    kept = json.loads(document.GetAttribute(_ATTRIBUTE) or "{}")
    if not kept:
        return None
    nodes = ((role, document.GetNodeReference(_INPUT_REFERENCE + role)) for role in kept["roles"])
    inputs = Inputs(
        nodes=tuple((role, str(node.GetID()) if node is not None else "") for role, node in nodes),
        model_sha256=kept["model_sha256"],
        scheme=kept["scheme"],
        segments=tuple((segment_id, role) for segment_id, role in kept["segments"]),
    )
    return inputs, kept["labels_checksum"]


def is_result_of(document: Any, ct: Any, parameter_node: Any) -> bool:
    """Whether a result was made from a CT with some parameters, whatever their names are now."""
    return (
        None not in (ct, parameter_node)
        and document.GetNodeReference(CT_REFERENCE) is ct
        and document.GetNodeReference(PARAMETERS_REFERENCE) is parameter_node
    )
