"""What the CT's branch saw, as a case that reports and Slicer know how to show.

The head is linear in a weighted mean over positions, so every position has an exact part of each
logit (:class:`.networks.batch.PrognosisOutput`). A position stands for the voxels around it with
the weights of linear interpolation, which sum to one over positions: the parts of regions, and the
map, which is interpolated with the same weights, therefore add up to the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import softmax

from ..explain import map_on_ct, per_amount, region_graph
from ..model_package import ModelSpec
from ..normalise import ModelInput, feature_geometry, occupancy
from ..regions import Regions
from ..roi import Roi
from ..types import CaseResult, RegionShare, Study, Volume, frozen_mapping

__all__ = ["CtBranch", "ct_case", "to_positions"]


@dataclass(frozen=True, eq=False)
class CtBranch:
    """Positions (k, j, i) of the feature map of one patient, float64.

    ``logits`` (classes, k, j, i) : their parts of the network's logits; ``attention`` (k, j, i),
    sum 1; ``features`` (channels, k, j, i) : their tokens; ``total`` (classes,) : the logits.
    """

    logits: np.ndarray
    attention: np.ndarray
    features: np.ndarray
    total: np.ndarray


def to_positions(array: np.ndarray, stride_kji: tuple[int, int, int]) -> np.ndarray:
    """Sums (..., k', j', i') of an array (..., k, j, i) over the voxels around each position,
    weighted as linear interpolation between positions weighs the position at the voxel."""
    for axis, stride in zip((-3, -2, -1), stride_kji, strict=True):
        if stride > 1:
            window = 1 - np.abs(np.arange(1 - stride, stride)) / stride
            array = ndimage.correlate1d(array, window, axis=axis, mode="constant")
            array = np.take(array, np.arange(0, array.shape[axis], stride), axis=axis)
    return array


def ct_case(
    branch: CtBranch,
    model_input: ModelInput,
    regions: Regions,
    roi: Roi,
    study: Study,
    spec: ModelSpec,
    outcome: str,
    probability: float,
    scheme: str,
    common: Mapping[str, object],
) -> CaseResult:
    """The branch's part of the answer, divided among the regions.

    ``model_input.roi`` says where the network looks. ``probability`` of ``outcome``, calibrated;
    other classes share the rest as the network divides it. ``common`` : further fields of the
    result (case_id, modalities, notices, provenance).
    """
    row, stride = spec.class_names.index(outcome), spec.network.total_stride
    parts = _parts(model_input, regions, spec)
    amounts = parts.sum(axis=0)
    of_region = np.divide(parts, amounts, out=np.zeros_like(parts), where=amounts > 0)
    logits = branch.logits.reshape(len(branch.logits), -1)
    logit_shares = of_region @ logits.T
    contrast = _contrast(len(logits), row)
    shares = logit_shares @ contrast
    attention = of_region @ branch.attention.ravel()
    sums = of_region * branch.attention.ravel()
    features = branch.features.reshape(len(branch.features), -1)
    means = per_amount(sums @ features.T, sums.sum(axis=1)[:, None])
    bias = branch.total - logits.sum(axis=1)

    def by_class(values: np.ndarray) -> dict[str, float]:
        return dict(zip(spec.class_names, map(float, values), strict=True))

    density = np.divide(contrast @ logits, amounts, out=np.zeros_like(amounts), where=amounts > 0)
    grid = model_input.geometry
    cells = feature_geometry(grid, stride)
    weighted = ModelInput({}, model_input.roi, model_input.roi, grid)
    labels = np.zeros(study.ct.geometry.array_shape, dtype=np.uint8)
    labels[roi.slices] = regions.labels
    return CaseResult(
        task_title=spec.title,
        classes=spec.classes,
        probabilities=frozen_mapping(by_class(_probabilities(branch.total, row, probability))),
        logits=frozen_mapping(by_class(branch.total)),
        bias=frozen_mapping(by_class(bias)),
        target=outcome,
        scheme=scheme,
        regions=regions.regions,
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
        outside_logit_shares=frozen_mapping(by_class(logit_shares[0])),
        contrast=float(contrast @ branch.total),
        reference_contrast=float(contrast @ bias),
        graph=region_graph(regions, means, features @ branch.attention.ravel()),
        attention=map_on_ct(
            density.reshape(cells.array_shape), cells, weighted, roi, study.ct.geometry
        ),
        region_labels=Volume(labels, study.ct.geometry, "regions"),
        simulated_model=spec.simulated,
        **common,  # type: ignore[arg-type]
    )


def _parts(model_input: ModelInput, regions: Regions, spec: ModelSpec) -> np.ndarray:
    """Voxels of each label (0: outside all regions) around each position: (labels, positions)."""
    count = max((r.label for r in regions.regions), default=0) + 1
    fractions = occupancy(
        regions.labels,
        regions.geometry,
        model_input.geometry,
        spec.grid.supersampling,
        count,
    )
    inside = fractions * model_input.roi.astype(np.float64)
    return to_positions(inside, spec.network.total_stride).reshape(count, -1)


def _contrast(classes: int, row: int) -> np.ndarray:
    """The class ``row`` against the mean of the others."""
    contrast = np.full(classes, -1.0 / (classes - 1))
    contrast[row] = 1.0
    return contrast


def _probabilities(logits: np.ndarray, row: int, probability: float) -> np.ndarray:
    others = np.delete(np.arange(len(logits)), row)
    found = np.full(len(logits), probability)
    found[others] = (1 - probability) * softmax(logits[others])
    return found
