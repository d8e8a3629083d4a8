"""The CT in a network's training: mirrored, with noise, and a second task."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from REACTKDLib.prognosis.networks.batch import PrognosisBatch
from REACTKDLib.prognosis.networks.tokens import TokenSet

from .network_settings import Augmentation

__all__ = ["LesionTask", "augmented", "mirrored"]


class LesionTask(nn.Module):
    """How much of each position of the CT is lesion, from its token alone.

    The encoder must find lesions for it, which the outcome, one bit per patient, hardly teaches.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1)

    def forward(self, tokens: TokenSet, cells: Tensor) -> Tensor:
        """Cross-entropy, mean over the positions of the region; ``cells`` (N, k, j, i), NaN where
        it is not known. 0 where nothing is."""
        wanted = cells.flatten(1)
        known = tokens.mask & wanted.isfinite()
        scores = self.head(tokens.tokens)[..., 0]
        each = functional.binary_cross_entropy_with_logits(
            scores, torch.where(known, wanted, 0.0).clamp(0, 1), reduction="none"
        )
        return torch.where(known, each, 0.0).sum() / known.sum().clamp_min(1)


def augmented(
    batch: PrognosisBatch, how: Augmentation, generator: torch.Generator
) -> tuple[PrognosisBatch, Tensor | None]:
    """A batch with its CT mirrored and with noise, and bool (N, 3), along which axes (k, j, i)
    each patient was mirrored; None for none. The region of interest goes with the CT."""
    ct, roi = batch.ct, batch.roi
    if ct is None:
        return batch, None
    turned = None
    if how.flip:
        turned = torch.rand(len(ct), 3, generator=generator) < 0.5
        ct = mirrored(ct[:, 0], turned)[:, None]
        roi = None if roi is None else mirrored(roi[:, 0], turned)[:, None]
    if how.noise:
        ct = ct + how.noise * torch.randn(ct.shape, generator=generator).to(ct.device)
    return replace(batch, ct=ct, roi=roi), turned


def mirrored(volumes: Tensor, turned: Tensor | None) -> Tensor:
    """Volumes (N, k, j, i), each mirrored along its axes of ``turned`` bool (N, 3)."""
    if turned is None:
        return volumes
    found = volumes.clone()
    for axis in range(3):
        rows = turned[:, axis].nonzero()[:, 0].to(volumes.device)
        if len(rows):
            found[rows] = found[rows].flip(1 + axis)
    return found
