"""Does the explanation say what the network used? Deletion, insertion, random parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from REACTKDLib.model_package import ModelSpec

from .batches import Batch, whole_case
from .evaluation.perturbation import perturbation_curve, region_steps
from .evaluation.randomisation import cascade
from .forward import AnyStudent, batch_cells, view_of
from .losses import NetworkView
from .measure import evidence
from .prepare import PreparedCase

#: From the head down; each also has all blocks before it random.
_BLOCKS = ("head", "cbam", "projections", "encoders")


def faithfulness_scores(
    student: AnyStudent,
    cases: Sequence[PreparedCase],
    reference: torch.Tensor,
    spec: ModelSpec,
    device: torch.device,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Patient -> score, by CT alone, for cases with two regions or more:

    - ``deletion AUC`` : area under the probability of the predicted class while regions become the
      mean of the region of interest, the largest share first; low is good.
    - ``insertion AUC`` : the same while they come back; high is good.
    - ``map likeness, random network`` : absolute rank correlation of the map with that of a network
      whose parameters are all random. Both maps have the weights of the pooling, which follow from
      the masks: it cannot come near 0.
    - ``density likeness, random network`` : the same of the maps without these weights, of what the
      network itself has learnt; near 0 is good.
    """
    likeness = {False: "map likeness, random network", True: "density likeness, random network"}
    scores: dict[str, dict[str, float]] = {
        name: {} for name in ("deletion AUC", "insertion AUC", *likeness.values())
    }
    for case in cases:
        batch = whole_case(case, spec, device)
        view = _view(student, batch)
        target = int(view.logits[0].argmax())
        shares = _region_shares(student, batch, view, target, reference)
        if len(shares) < 2:
            continue
        assert case.regions is not None  # it has shares
        steps = region_steps(case.regions, shares)

        def predict(volumes: Mapping[str, np.ndarray], batch: Batch = batch) -> np.ndarray:
            ct = torch.from_numpy(volumes["ct"]).to(device)[None, None]
            return _view(student, batch, ct).logits[0].softmax(dim=0).cpu().numpy()

        volumes = {"ct": case.volumes["ct"].astype(np.float32)}
        for mode in ("deletion", "insertion"):
            curve = perturbation_curve(predict, volumes, {"ct": 0.0}, steps, target, mode)
            scores[f"{mode} AUC"][case.patient] = round(curve.auc, 5)

        weights = view.weights[0, 0].cpu().numpy()
        for density, name in likeness.items():
            scale = np.where(weights > 0, weights, 1.0) if density else np.ones_like(weights)

            def explain(
                network: nn.Module,
                batch: Batch = batch,
                target: int = target,
                scale: np.ndarray = scale,
            ) -> np.ndarray:
                view = _view(network, batch)  # type: ignore[arg-type]  # a copy of the student
                return evidence(network, view, target, reference)[0] / scale  # type: ignore[arg-type]

            last = cascade(student, _BLOCKS, explain, seed, weights > 0)[-1]
            scores[name][case.patient] = round(abs(last.absolute_rank_correlation), 5)
    return scores


def _view(student: AnyStudent, batch: Batch, ct: torch.Tensor | None = None) -> NetworkView:
    if ct is not None:
        batch = replace(batch, volumes={"ct": ct}, present={"ct": np.ones(1, bool)})
    with torch.inference_mode():
        return view_of(student.eval(), batch, [("ct",)], dosed=False)


def _region_shares(
    student: AnyStudent, batch: Batch, view: NetworkView, target: int, reference: torch.Tensor
) -> dict[int, float]:
    """Label of each region with voxels -> its part of the contrast of the class ``target``."""
    share, _ = evidence(student, view, target, reference)
    cells = batch_cells(student, batch).regions[0]
    total = (cells * torch.from_numpy(share).to(cells)).sum(dim=(1, 2, 3))
    there = batch.regions[0].flatten(1).any(dim=1)
    return {n + 1: float(total[n]) for n in range(len(total)) if there[n]}
