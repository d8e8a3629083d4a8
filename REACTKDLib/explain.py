"""Who voted how much: exact shares of regions, the voxel map and the region graph.

With pooled features g = sum_v a_v F_v and a linear head, every logit is a sum over positions. The
contrast of the target class t against the mean of the others has the weight vector
w = W_t - mean(W_others). Sigmoid features are positive everywhere, so raw shares follow volume;
contributions are therefore measured from the mean training feature r:

    contrast - reference contrast = sum_v a_v w.(F_v - r)

Regions and the rest of the region of interest partition a, so their shares add up exactly. With
global average pooling and a linear head this equals Grad-CAM without its ReLU (Selvaraju 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import OptionError
from .geometry import Geometry, resample_array
from .infer import Prediction
from .model_package import ModelSpec
from .normalise import ModelInput, occupancy, to_feature_grid
from .regions import Regions
from .roi import Roi
from .types import Edge, RegionGraph, RegionShare, Volume


@dataclass(frozen=True, eq=False)
class Explanation:
    """Shares of the regions and of the rest, the map and the graph (see ``CaseResult``)."""

    target: str
    shares: tuple[RegionShare, ...]
    outside_share: float
    outside_logit_shares: dict[str, float]
    contrast: float
    reference_contrast: float
    attention: Volume
    graph: RegionGraph


def check_target(target: str | None, package: ModelSpec) -> None:
    """Refuse a class that the package does not have; None is the most probable one.

    Raises
    ------
    OptionError : not a class of the package.
    """
    if target is not None and target not in package.class_names:
        raise OptionError(
            f"Unknown class {target!r}.", f"Choose one of {', '.join(package.class_names)}."
        )


def choose_target(prediction: Prediction, package: ModelSpec, target: str | None) -> str:
    """The class to explain: the one asked for, or the most probable.

    Raises
    ------
    OptionError : as :func:`check_target`.
    """
    check_target(target, package)
    return target or package.class_names[int(prediction.probabilities.argmax())]


def explain(
    prediction: Prediction,
    model_input: ModelInput,
    regions: Regions,
    roi: Roi,
    ct_geometry: Geometry,
    package: ModelSpec,
    target: str | None = None,
) -> Explanation:
    """Divide the decision among the regions.

    Raises
    ------
    OptionError : ``target`` is not a class of the package.
    """
    name = choose_target(prediction, package, target)
    row = package.class_names.index(name)
    others = [c for c in range(len(package.classes)) if c != row]
    contrast_weight = prediction.head_weight[row] - prediction.head_weight[others].mean(axis=0)
    contrast_bias = prediction.head_bias[row] - prediction.head_bias[others].mean()

    parts = _region_weights(prediction, model_input, regions, package)
    features = prediction.features.reshape(len(prediction.features), -1).astype(np.float64)
    sums = parts @ features.T  # (1 + regions, channels): region's part of the pooled features
    amounts = parts.sum(axis=1)
    logit_shares = sums @ prediction.head_weight.T
    shares = (sums - amounts[:, None] * prediction.reference) @ contrast_weight
    attention = per_amount(parts @ prediction.attention.ravel().astype(np.float64), amounts)

    def by_class(values: np.ndarray) -> dict[str, float]:
        return dict(zip(package.class_names, map(float, values), strict=True))

    density = np.tensordot(contrast_weight, prediction.features, axes=1)
    density -= contrast_weight @ prediction.reference
    return Explanation(
        target=name,
        shares=tuple(
            RegionShare(
                region_id=region.id,
                share=float(shares[region.label]),
                share_per_ml=float(shares[region.label] / region.volume_ml),
                logit_shares=by_class(logit_shares[region.label]),
                attention=float(attention[region.label]),
            )
            for region in regions.regions
        ),
        outside_share=float(shares[0]),
        outside_logit_shares=by_class(logit_shares[0]),
        contrast=float(contrast_bias + sums.sum(axis=0) @ contrast_weight),
        reference_contrast=float(contrast_bias + contrast_weight @ prediction.reference),
        attention=map_on_ct(density, prediction.geometry, model_input, roi, ct_geometry),
        graph=region_graph(regions, per_amount(sums, amounts[:, None]), prediction.reference),
    )


def per_amount(sums: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Means from sums; a region smaller than any sample point has no amount and gets 0."""
    return np.divide(sums, amounts, out=np.zeros_like(sums), where=amounts > 0)


def _region_weights(
    prediction: Prediction, model_input: ModelInput, regions: Regions, package: ModelSpec
) -> np.ndarray:
    """Pooling weights divided among label 0 (outside) and the regions: (labels, cells), sum 1."""
    label_count = max((r.label for r in regions.regions), default=0) + 1
    fractions = occupancy(
        regions.labels,
        regions.geometry,
        model_input.geometry,
        package.grid.supersampling,
        label_count,
    )
    parts = to_feature_grid(
        fractions * model_input.weights.astype(np.float64), package.network.total_stride
    )
    return parts.reshape(label_count, -1) / parts.sum()


def map_on_ct(
    density: np.ndarray,
    cells: Geometry,
    model_input: ModelInput,
    roi: Roi,
    ct_geometry: Geometry,
) -> Volume:
    """Contribution density on the CT's grid, logit per litre, float32, 0 outside the ROI.

    ``density`` (k, j, i) on the feature grid ``cells``: contribution per unit of the pooling
    weights ``model_input.weights``.
    """
    grid = model_input.geometry
    contribution = resample_array(density.astype(np.float32), cells, grid)
    contribution *= model_input.weights / np.float32(grid.voxel_volume_ml / 1000.0)
    full = np.zeros(ct_geometry.array_shape, dtype=np.float32)
    full[roi.slices] = resample_array(contribution, grid, roi.geometry)
    return Volume(full, ct_geometry, "attention")


def region_graph(regions: Regions, features: np.ndarray, reference: np.ndarray) -> RegionGraph:
    """Every pair of regions is an edge; ``features`` (labels, channels), row 0 the outside,
    ``reference`` (channels) what similarities are measured from."""
    nodes = regions.regions
    centred = features - reference
    length = np.linalg.norm(centred, axis=1)
    edges = []
    for n, first in enumerate(nodes):
        for second in nodes[n + 1 :]:
            a, b = first.label, second.label
            product = length[a] * length[b]
            edges.append(
                Edge(
                    source=first.id,
                    target=second.id,
                    similarity=float(centred[a] @ centred[b] / product) if product > 0 else 0.0,
                    contact_area_mm2=float(regions.contact_area_mm2[a - 1, b - 1]),
                    distance_mm=float(
                        np.linalg.norm(np.subtract(first.centroid_ras, second.centroid_ras))
                    ),
                )
            )
    return RegionGraph(
        node_ids=tuple(r.id for r in nodes),
        features=features[[r.label for r in nodes]].astype(np.float32),
        edges=tuple(edges),
    )
