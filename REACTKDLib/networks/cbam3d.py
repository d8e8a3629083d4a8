"""CBAM3D: channel attention, then spatial attention, in three dimensions.

Source: REACT-KD (arXiv 2508.02104), section on the shared attention block; Woo et al., CBAM,
ECCV 2018, carried from 2-D to 3-D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CBAM3D(nn.Module):
    """Weights a feature map by channel, then by position.

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
        self.spatial = nn.Conv3d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted features (N, C, k, j, i) and the spatial attention (N, 1, k, j, i), 0..1."""
        average = self.shared_mlp(features.mean(dim=(2, 3, 4)))
        maximum = self.shared_mlp(features.amax(dim=(2, 3, 4)))
        features = features * torch.sigmoid(average + maximum)[:, :, None, None, None]
        summary = torch.cat(
            [features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1
        )
        attention = torch.sigmoid(self.spatial(summary))
        return features * attention, attention
