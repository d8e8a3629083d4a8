"""The CBAM3D student: one encoder per modality, a shared attention block, a linear head.

Source: REACT-KD (arXiv 2508.02104), student network, with SegResNet encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from .cbam3d import CBAM3D, NoAttention
from .segresnet import SegResEncoder, roi_pyramid

if TYPE_CHECKING:
    from ..model_package import NetworkSpec


@dataclass(frozen=True)
class StudentOutput:
    """One forward pass.

    ``logits`` (N, classes); ``features`` (N, C, k, j, i), the fused map, values 0..1;
    ``attention`` (N, 1, k, j, i), CBAM3D spatial attention averaged over modalities, 0..1;
    ``pooled`` (N, C), the weighted mean of ``features`` that the head reads.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor
    pooled: Tensor


class Student(nn.Module):
    """SegResNet encoder -> 1x1x1 convolution -> CBAM3D per modality; sum; sigmoid; pooling; linear.

    The 1x1x1 convolutions are one per modality, the CBAM3D block is shared by all. Any non-empty
    subset of the modalities may be given: those absent do not enter the sum.

    Parameters
    ----------
    modalities : names, in a fixed order.
    classes : number of classes.
    spec : widths, blocks and strides.
    """

    def __init__(self, modalities: tuple[str, ...], classes: int, spec: NetworkSpec) -> None:
        super().__init__()
        deepest = spec.init_filters * 2 ** (len(spec.blocks_down) - 1)
        self.modalities = modalities
        self.strides = spec.strides
        self.total_stride = spec.total_stride
        self.encoders = nn.ModuleDict(
            {
                name: SegResEncoder(spec.init_filters, spec.blocks_down, spec.strides)
                for name in modalities
            }
        )
        self.projections = nn.ModuleDict(
            {name: nn.Conv3d(deepest, spec.fused_channels, kernel_size=1) for name in modalities}
        )
        self.cbam: nn.Module = NoAttention()
        if spec.cbam:
            self.cbam = CBAM3D(spec.fused_channels, spec.attention_ratio, spec.attention_kernel)
        self.dropout = nn.Dropout3d(spec.dropout)
        self.head = nn.Linear(spec.fused_channels, classes)

    def cells(self, voxels: Tensor) -> Tensor:
        """Means of (N, C, k, j, i) over the voxels of every cell of the feature map.

        As :func:`REACTKDLib.normalise.to_feature_grid`, in torch and batched.
        """
        for axis, stride in enumerate(self.total_stride):
            if stride > 1:
                voxels = _strided_means(voxels, axis + 2, stride)
        return voxels

    def fuse(
        self, volumes: Mapping[str, Tensor], roi: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fused feature map (N, C, k', j', i') and mean spatial attention (N, 1, k', j', i').

        ``volumes`` : modality -> (N, 1, k, j, i), all on one grid.
        ``roi`` : (N, 1, k, j, i) on the same grid, 0..1; what lies outside has no influence on the
            features inside. None is the whole grid.

        Raises
        ------
        ValueError : no volume, or a modality that the network does not have.
        """
        unknown = sorted(set(volumes) - set(self.modalities))
        if unknown or not volumes:
            raise ValueError(
                f"Modalities {sorted(volumes)} given; the network has {self.modalities}."
            )
        cells = None if roi is None else self.inside(roi)
        # A fixed order, so that sums do not depend on the caller's.
        found = [
            self.branch(name, volumes[name], roi, cells)
            for name in self.modalities
            if name in volumes
        ]
        attention = torch.stack([attention for _, attention in found]).mean(dim=0)
        return gate([branch for branch, _ in found]), attention

    def inside(self, roi: Tensor) -> Tensor:
        """How much every cell of the feature map belongs to a region of interest, the last level of
        :func:`~.segresnet.roi_pyramid`."""
        return roi_pyramid(roi, self.strides)[-1]

    def branch(
        self, name: str, volume: Tensor, roi: Tensor | None, cells: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One modality's part of the sum under the sigmoid, and its spatial attention.

        ``cells`` : :meth:`inside` of ``roi``, None without it.
        """
        deepest = self.encoders[name](volume, roi)
        branch, attention = self.cbam(self.projections[name](self.dropout(deepest)), cells)
        return branch, attention

    def forward(
        self,
        volumes: Mapping[str, Tensor],
        roi: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> StudentOutput:
        """Classify.

        ``volumes``, ``roi`` : as in :meth:`fuse`.
        ``weights`` : (N, 1, k', j', i') on the feature grid, each summing to 1: where the global
            average pooling averages; None averages over the whole grid.
        """
        features, attention = self.fuse(volumes, roi)
        pooled = pool(features, weights)
        return StudentOutput(self.head(pooled), features, attention, pooled)


def gate(branches: Sequence[Tensor]) -> Tensor:
    """Fused feature map, 0..1: the sigmoid of the sum of branches (N, C, k, j, i)."""
    return torch.sigmoid(torch.stack(list(branches)).sum(dim=0))


def pool(features: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean of (N, C, k, j, i) over positions, (N, C); plain mean without weights."""
    if weights is None:
        return features.mean(dim=(2, 3, 4))
    return (features * weights).sum(dim=(2, 3, 4))


def _strided_means(voxels: Tensor, axis: int, stride: int) -> Tensor:
    """Means over cells centred on every ``stride``-th voxel along one axis, zeros beyond it."""
    moved = voxels.movedim(axis, -1)
    window = moved.new_ones(stride + 1 - stride % 2) / stride
    if stride % 2 == 0:
        window[[0, -1]] /= 2  # voxels on the border belong to two cells
    flat = moved.reshape(-1, 1, moved.shape[-1])
    means = functional.conv1d(flat, window[None, None], stride=stride, padding=len(window) // 2)
    return means.reshape(*moved.shape[:-1], means.shape[-1]).movedim(-1, axis)
