"""The encoder of SegResNet, restricted to a region of interest.

Same layers and parameter names as MONAI's ``SegResEncoder`` (Myronenko, 3D MRI brain tumor
segmentation using autoencoder regularization, 2018), whose weights it can load; without a region of
interest it computes the same (``Testing/unit/test_segresnet.py``). It is written out here, because
every convolution must see zeros outside the region: then a larger box around the same region gives
the same answer. It also keeps the import of MONAI, longer than a whole run, out of inference.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

#: Step between encoder levels along (k, j, i).
Stride = tuple[int, int, int]


def kernel_for(stride: Stride) -> Stride:
    """Kernel of the convolutions of a level: 3 along the axes that its end halves, else 1."""
    k, j, i = (3 if step > 1 else 1 for step in stride)
    return (k, j, i)


def padding_for(stride: Stride) -> Stride:
    """Padding that centres :func:`kernel_for` on its voxel."""
    k, j, i = (n // 2 for n in kernel_for(stride))
    return (k, j, i)


class SegResBlock(nn.Module):
    """Two times norm, ReLU, convolution, added to the input."""

    def __init__(self, channels: int, stride: Stride) -> None:
        super().__init__()
        kernel, padding = kernel_for(stride), padding_for(stride)
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv1 = nn.Conv3d(channels, channels, kernel, padding=padding, bias=False)
        self.norm2 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel, padding=padding, bias=False)

    def forward(self, features: Tensor, roi: Tensor | None) -> Tensor:
        """Features (N, C, k, j, i) to the same; ``roi`` (N, 1, k, j, i)."""
        inner = self.conv1(_within(self.norm1(features).relu(), roi))
        return features + self.conv2(_within(self.norm2(inner).relu(), roi))


class SegResLevel(nn.Module):
    """Residual blocks, then the strided convolution to the next level where there is one."""

    def __init__(self, channels: int, blocks: int, stride: Stride, deepest: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SegResBlock(channels, stride) for _ in range(blocks))
        self.downsample = None
        if not deepest:
            kernel, padding = kernel_for(stride), padding_for(stride)
            self.downsample = nn.Conv3d(
                channels, 2 * channels, kernel, stride=stride, padding=padding, bias=False
            )

    def forward(self, features: Tensor, roi: Tensor | None) -> Tensor:
        """Features (N, C, k, j, i) to those that the next level begins with."""
        for block in self.blocks:
            features = block(features, roi)
        return features if self.downsample is None else self.downsample(_within(features, roi))


class SegResEncoder(nn.Module):
    """One channel in, ``init_filters * 2 ** (levels - 1)`` channels of the deepest level out.

    Parameters
    ----------
    init_filters : channels of the first level; every level doubles them.
    blocks_down : residual blocks of each level.
    strides : (k, j, i) step from each level to the next; one fewer than levels. The last one also
        chooses the kernel of the deepest level.
    """

    def __init__(
        self, init_filters: int, blocks_down: Sequence[int], strides: Sequence[Stride]
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        of_level = (*strides, strides[-1])
        kernel, padding = kernel_for(of_level[0]), padding_for(of_level[0])
        self.conv_init = nn.Conv3d(1, init_filters, kernel, padding=padding, bias=False)
        self.layers = nn.ModuleList(
            SegResLevel(init_filters * 2**level, blocks, stride, level == len(self.strides))
            for level, (blocks, stride) in enumerate(zip(blocks_down, of_level, strict=True))
        )

    def forward(self, volume: Tensor, roi: Tensor | None = None) -> Tensor:
        """Features of the deepest level, (N, C, k', j', i').

        ``volume`` (N, 1, k, j, i); ``roi`` (N, 1, k, j, i), 0..1, None for no restriction.
        """
        rois: Sequence[Tensor | None] = [None] * len(self.layers)
        if roi is not None:
            rois = roi_pyramid(roi, self.strides)
        features = self.conv_init(_within(volume, rois[0]))
        for level, inside in zip(self.layers, rois, strict=True):
            features = level(features, inside)
        return features


def roi_pyramid(roi: Tensor, strides: Sequence[Stride]) -> tuple[Tensor, ...]:
    """The region of interest at every encoder level, (N, 1, k, j, i) each, finest first.

    A cell belongs to the region as much as the most belonging voxel under its strided convolution,
    so no region is lost, however small.
    """

    def coarser(finer: Tensor, stride: Stride) -> Tensor:
        return functional.max_pool3d(finer, kernel_for(stride), stride, padding_for(stride))

    return tuple(itertools.accumulate(strides, coarser, initial=roi))


def _within(features: Tensor, roi: Tensor | None) -> Tensor:
    return features if roi is None else features * roi
