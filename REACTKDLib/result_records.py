"""The documents of a result as typed records: every field there, each of its type.

A result folder may come from anywhere. What is read here is what its writer wrote, or it is
refused: no text where a number belongs, no region that the graph does not know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .geometry import Vector
from .typed_json import FieldError, build
from .types import (
    CaseResult,
    ClassInfo,
    Edge,
    Notice,
    PredictionSet,
    Region,
    RegionGraph,
    RegionShare,
    Volume,
)


@dataclass(frozen=True)
class _RegionRecord:
    id: str
    name: str
    kind: str
    label: int
    volume_ml: float
    centroid_ras: Vector
    mean_hu: float
    sd_hu: float
    longest_diameter_mm: float | None
    share: float
    share_per_ml: float
    logit_shares: Mapping[str, float]
    attention: float


@dataclass(frozen=True)
class _ResultRecord:
    case_id: str
    task: str
    classes: tuple[ClassInfo, ...]
    probabilities: Mapping[str, float]
    logits: Mapping[str, float]
    bias: Mapping[str, float]
    target: str
    scheme: str
    regions: tuple[_RegionRecord, ...]
    outside_share: float
    outside_logit_shares: Mapping[str, float]
    contrast: float
    reference_contrast: float
    modalities: tuple[str, ...]
    simulated_model: bool
    notices: tuple[Notice, ...]
    prediction_set: PredictionSet | None = None  # absent in results of early versions


@dataclass(frozen=True)
class _NodeRecord:
    id: str
    features: tuple[float, ...]


@dataclass(frozen=True)
class _GraphRecord:
    nodes: tuple[_NodeRecord, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class _InputRecord:
    role: str
    path: str
    sha256: str


@dataclass(frozen=True)
class _SegmentRecord:
    label: int
    name: str
    role: str | None


@dataclass(frozen=True)
class _ModelRecord:
    name: str | None = None
    version: str | None = None
    weights_sha256: str = ""


@dataclass(frozen=True)
class _ProvenanceRecord:
    """The part of a provenance that is shown; all of it may be missing."""

    reactkd_version: str = ""
    time_utc: str = ""
    inputs: tuple[_InputRecord, ...] = ()
    segments: tuple[_SegmentRecord, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)


def case_from_documents(
    document: Mapping[str, Any],
    graph: Mapping[str, Any],
    provenance: Mapping[str, Any],
    attention: Volume,
    region_labels: Volume,
) -> CaseResult:
    """The case of ``result_document``, ``graph_document`` and its provenance and volumes.

    Raises
    ------
    ValueError : a document is not one of these, or they do not belong together.
    """
    record: _ResultRecord = _known(_ResultRecord, document, "result")
    drawn = _graph(graph)
    check_provenance(provenance)
    _check_names(record, drawn)
    features = [node.features for node in drawn.nodes]
    return CaseResult(
        case_id=record.case_id,
        task_title=record.task,
        classes=record.classes,
        probabilities=record.probabilities,
        logits=record.logits,
        bias=record.bias,
        target=record.target,
        scheme=record.scheme,
        regions=tuple(
            Region(**{f.name: getattr(r, f.name) for f in dataclasses.fields(Region)})
            for r in record.regions
        ),
        shares=tuple(
            RegionShare(r.id, r.share, r.share_per_ml, r.logit_shares, r.attention)
            for r in record.regions
        ),
        outside_share=record.outside_share,
        outside_logit_shares=record.outside_logit_shares,
        contrast=record.contrast,
        reference_contrast=record.reference_contrast,
        graph=RegionGraph(
            node_ids=tuple(node.id for node in drawn.nodes),
            features=np.array(features, dtype=np.float32),
            edges=drawn.edges,
        ),
        attention=attention,
        region_labels=region_labels,
        modalities=record.modalities,
        simulated_model=record.simulated_model,
        notices=record.notices,
        provenance=provenance,
        prediction_set=record.prediction_set,
    )


def check_provenance(provenance: Any) -> None:
    """Refuse a provenance of which what is shown is not of its type.

    Raises
    ------
    ValueError : it is not.
    """
    _known(_ProvenanceRecord, provenance, "provenance")
    _known(_ModelRecord, provenance.get("model", {}), "provenance.model")


def _known(cls: type, fields: Any, where: str) -> Any:
    """The record of a document that may say more than the record holds."""
    if not isinstance(fields, Mapping):
        raise FieldError(f"{where} is no table.")
    names = {f.name for f in dataclasses.fields(cls)}
    return build(cls, {name: value for name, value in fields.items() if name in names}, where)


def _graph(graph: Mapping[str, Any]) -> _GraphRecord:
    nodes, edges = (graph.get(key) for key in ("nodes", "edges")) if graph else (None, None)
    if not isinstance(nodes, list) or not isinstance(edges, list):
        raise FieldError("the graph has no lists of nodes and edges.")
    return _GraphRecord(
        tuple(_known(_NodeRecord, node, "graph.nodes") for node in nodes),
        tuple(build(Edge, edge, "graph.edges") for edge in edges),
    )


def _check_names(record: _ResultRecord, graph: _GraphRecord) -> None:
    """Raises ValueError where classes or regions of one place are not those of another."""
    classes = {c.name for c in record.classes}
    by_class = [record.probabilities, record.logits, record.bias, record.outside_logit_shares]
    by_class += [r.logit_shares for r in record.regions]
    if not all(set(numbers) == classes for numbers in by_class) or record.target not in classes:
        raise FieldError(f"numbers are not those of the classes {sorted(classes)}.")
    if record.prediction_set is not None and not set(record.prediction_set.classes) <= classes:
        raise FieldError("the prediction set has other classes.")
    regions = [r.id for r in record.regions]
    ends = {end for edge in graph.edges for end in (edge.source, edge.target)}
    if [node.id for node in graph.nodes] != regions or len(set(regions)) < len(regions):
        raise FieldError("the graph's nodes are not the regions.")
    if not ends <= set(regions) or not all(0 < r.label < 256 for r in record.regions):
        raise FieldError("an edge or a label is that of no region.")
    if len({len(node.features) for node in graph.nodes}) > 1:
        raise FieldError("the graph's nodes have features of several lengths.")
