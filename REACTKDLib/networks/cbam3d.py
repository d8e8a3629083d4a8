"""CBAM3D: channel attention, then spatial attention, in three dimensions.

Source: REACT-KD (arXiv 2508.02104), section on the shared attention block; Woo et al., CBAM,
ECCV 2018, carried from 2-D to 3-D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CBAM3D(nn.Module):
    """Weights a feature map by channel, then by position.

    A decision of ours: the logits of the spatial attention are centred over the region of interest.
    Attention then compares positions; uncentred, it grows to 1 everywhere in training, because
    larger features are stronger features, and says nothing.

    Parameters
    ----------
    channels : feature channels.
    ratio : reduction of the shared MLP (8 in REACT-KD).
    kernel_size : side of the spatial attention's kernel (7 in REACT-KD), odd.
    """

    def __init__(self, channels: int, ratio: int = 8, kernel_size: int = 7) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.shared_mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.spatial = nn.Conv3d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, features: Tensor, roi: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weighted features (N, C, k, j, i) and the spatial attention (N, 1, k, j, i), 0..1.

        ``roi`` (N, 1, k, j, i), 0..1: the channel attention averages over it and takes the maximum
        within it, and the spatial attention sees zeros outside; None is the whole grid.
        """
        if roi is None:
            roi = torch.ones_like(features[:, :1])
        maximum = features.masked_fill(roi == 0, -torch.inf).amax(dim=(2, 3, 4))
        channel = torch.sigmoid(self.shared_mlp(_mean(features, roi)) + self.shared_mlp(maximum))
        features = features * channel[:, :, None, None, None]
        summary = torch.cat(
            [features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1
        )
        logits = self.spatial(summary * roi)
        attention = torch.sigmoid(logits - _mean(logits, roi)[:, :, None, None, None])
        return features * attention, attention


class NoAttention(nn.Module):
    """In the place of :class:`CBAM3D`: features as they are, attention 1 everywhere."""

    def forward(self, features: Tensor, roi: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`CBAM3D.forward`."""
        return features, torch.ones_like(features[:, :1])


def _mean(features: Tensor, roi: Tensor) -> Tensor:
    """Mean of (N, C, k, j, i) over the region of interest, (N, C)."""
    return (features * roi).sum(dim=(2, 3, 4)) / roi.sum(dim=(2, 3, 4))
