"""A 3D ResNet of one channel, restricted to a region of interest.

Same layers and parameter names as MONAI's ``ResNet`` (He et al., CVPR 2016; Hara et al., CVPR 2018)
with shortcuts of type B without bias, whose weights it can load; without a region of interest it
computes the same (``Testing/unit/test_prognosis_resnet.py``). It is written out for the reasons of
:mod:`REACTKDLib.networks.segresnet`: no MONAI at inference, and every convolution and every
group norm sees the region alone, so that a larger box around it gives the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...networks.segresnet import roi_pyramid
from .spec import ResNetSpec


class RegionGroupNorm(nn.GroupNorm):
    """Group norm whose mean and variance are of the region of interest.

    Batch norm is meaningless at the batch sizes that volumes allow; this one knows no batch.
    """

    def forward(self, input: Tensor, roi: Tensor | None = None) -> Tensor:
        """Features (N, C, k, j, i); ``roi`` (N, 1, k, j, i) weights 0..1, None for all alike."""
        if roi is None:
            return super().forward(input)
        grouped = input.unflatten(1, (self.num_groups, -1))
        weights = roi[:, None]
        # An empty region normalises nothing: zeros divided by one.
        total = (weights.sum(dim=(2, 3, 4, 5), keepdim=True) * grouped.shape[2]).clamp_min(1e-6)
        mean = (grouped * weights).sum(dim=(2, 3, 4, 5), keepdim=True) / total
        centred = grouped - mean
        variance = (centred.square() * weights).sum(dim=(2, 3, 4, 5), keepdim=True) / total
        normal = (centred * torch.rsqrt(variance + self.eps)).flatten(1, 2)
        shape = (1, -1, 1, 1, 1)
        return normal * self.weight.view(shape) + self.bias.view(shape)


class PlainBatchNorm(nn.BatchNorm3d):
    """Batch norm over the whole box, as published; the region has no part in it."""

    def forward(self, input: Tensor, roi: Tensor | None = None) -> Tensor:
        """Features (N, C, k, j, i) to the same."""
        return super().forward(input)


def make_norm(channels: int, spec: ResNetSpec) -> nn.Module:
    """The norm layer that a specification asks for."""
    if spec.norm == "group":
        return RegionGroupNorm(spec.groups, channels)
    return PlainBatchNorm(channels)


class Shortcut(nn.Sequential):
    """1x1x1 convolution and norm, where a block changes size or channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, spec: ResNetSpec) -> None:
        convolution = nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False)
        super().__init__(convolution, make_norm(outputs, spec))

    def forward(self, features: Tensor, roi: Tensor | None = None) -> Tensor:
        """``roi`` is that of the output."""
        return self[1](self[0](features), roi)


class Block(nn.Module):
    """Two convolutions of kernel 3, or three of kernels 1, 3, 1; added to the input; ReLU."""

    def __init__(self, inputs: int, width: int, stride: int, spec: ResNetSpec) -> None:
        super().__init__()
        bottleneck = spec.block == "bottleneck"
        outputs = width * 4 if bottleneck else width
        # Kernel, stride and output of each convolution.
        shapes = (
            [(1, 1, width), (3, stride, width), (1, 1, outputs)]
            if bottleneck
            else [(3, stride, width), (3, 1, outputs)]
        )
        self.depth = len(shapes)
        before = inputs
        for n, (kernel, step, after) in enumerate(shapes, start=1):
            convolution = nn.Conv3d(before, after, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{n}", convolution)
            self.add_module(f"bn{n}", make_norm(after, spec))
            before = after
        self.strided = 2 if bottleneck else 1
        self.downsample: Shortcut | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = Shortcut(inputs, outputs, stride, spec)

    def forward(self, features: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        """``before`` and ``after``: the region on the grids of input and output."""
        inner = features
        for n in range(1, self.depth + 1):
            roi = before if n < self.strided else after
            inner = self.get_submodule(f"bn{n}")(self.get_submodule(f"conv{n}")(inner), roi)
            if n < self.depth:
                inner = _within(inner.relu(), roi)
        if self.downsample is not None:
            features = self.downsample(features, after)
        return _within((inner + features).relu(), after)


class ResNet(nn.Module):
    """``outputs`` : None for the feature map alone, else the length of :meth:`pooled`."""

    def __init__(self, spec: ResNetSpec, outputs: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        first = spec.widths[0]
        kernel = spec.conv1_kernel
        self.conv1 = nn.Conv3d(1, first, kernel, spec.conv1_stride, kernel // 2, bias=False)
        self.bn1 = make_norm(first, spec)
        inputs = first
        for stage, (blocks, width) in enumerate(zip(spec.layers, spec.widths, strict=True)):
            made = nn.ModuleList()
            for n in range(blocks):
                stride = 2 if stage and not n else 1
                made.append(Block(inputs, width, stride, spec))
                inputs = width * (4 if spec.block == "bottleneck" else 1)
            self.add_module(f"layer{stage + 1}", made)
        self.fc = None if outputs is None else nn.Linear(inputs, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def regions(self, roi: Tensor | None) -> Sequence[Tensor | None]:
        """The region on the grid of the volume and after every stride, finest first."""
        if roi is None:
            return [None] * (len(self.spec.strides) + 1)
        return roi_pyramid(roi, self.spec.strides)

    def forward(self, volume: Tensor, roi: Tensor | None = None) -> Tensor:
        """Feature map (N, C, k', j', i') of ``volume`` (N, 1, k, j, i); ``roi`` of its shape."""
        regions = self.regions(roi)
        features = self.conv1(_within(volume, regions[0]))
        features = _within(self.bn1(features, regions[1]).relu(), regions[1])
        level = 1
        if self.spec.max_pool:
            features = functional.max_pool3d(features, 3, 2, 1)
            level = 2
        for stage in range(len(self.spec.widths)):
            after = level + 1 if stage else level
            blocks = self.get_submodule(f"layer{stage + 1}")
            assert isinstance(blocks, nn.ModuleList)
            for n, block in enumerate(blocks):
                features = block(features, regions[level if not n else after], regions[after])
            level = after
        return features

    def pooled(self, volume: Tensor, roi: Tensor | None = None) -> Tensor:
        """Mean of the feature map over the region, through the last linear layer, (N, outputs).

        Raises
        ------
        ValueError : the network was made without outputs.
        """
        if self.fc is None:
            raise ValueError("This ResNet has no outputs, only a feature map.")
        features, inside = self(volume, roi), self.regions(roi)[-1]
        if inside is None:
            return self.fc(features.mean(dim=(2, 3, 4)))
        total = inside.sum(dim=(2, 3, 4)).clamp_min(1e-6)
        return self.fc((features * inside).sum(dim=(2, 3, 4)) / total)


def _within(features: Tensor, roi: Tensor | None) -> Tensor:
    return features if roi is None else features * roi
