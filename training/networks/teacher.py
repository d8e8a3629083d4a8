"""Teachers: Swin encoders of groups of modalities, fused as in the student.

Source: REACT-KD (arXiv 2508.02104), stage 1. The structure-function teacher has one branch per
tracer, which reads that tracer's PET and the CT; the dose-aware teacher has one branch, which reads
a CT at any dose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from REACTKDLib.networks.cbam3d import CBAM3D
from REACTKDLib.networks.student import StudentOutput, gate, pool

from .swin import SwinEncoder, SwinSpec


@dataclass(frozen=True)
class TeacherSpec:
    """``branches`` : name -> modalities that its encoder reads together. ``fused_channels``,
    ``attention_ratio`` and ``attention_kernel`` as in the student's ``NetworkSpec``."""

    branches: Mapping[str, tuple[str, ...]]
    swin: SwinSpec
    fused_channels: int
    attention_ratio: int = 8
    attention_kernel: int = 7
    dropout: float = 0.0


class Teacher(nn.Module):
    """Swin encoder, 1x1x1 convolution and CBAM3D per branch; sum; sigmoid; pooling; linear.

    A branch with a missing modality stays out of the sum, so a teacher answers wherever one of its
    branches is complete.
    """

    def __init__(self, spec: TeacherSpec, classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.encoders = nn.ModuleDict(
            {name: SwinEncoder(spec.swin, len(inputs)) for name, inputs in spec.branches.items()}
        )
        self.projections = nn.ModuleDict(
            {n: nn.Conv3d(spec.swin.channels, spec.fused_channels, 1) for n in spec.branches}
        )
        self.cbam: nn.Module = CBAM3D(
            spec.fused_channels, spec.attention_ratio, spec.attention_kernel
        )
        self.dropout = nn.Dropout3d(spec.dropout)
        self.head = nn.Linear(spec.fused_channels, classes)

    def branches_for(self, modalities: Collection[str]) -> list[str]:
        """Branches whose modalities are all there."""
        return [n for n, inputs in self.spec.branches.items() if set(inputs) <= set(modalities)]

    def modalities_of(self, branches: Iterable[str]) -> tuple[str, ...]:
        """All that these branches read, each once, in their order."""
        return tuple(dict.fromkeys(n for name in branches for n in self.spec.branches[name]))

    def cells(self, voxels: Tensor) -> Tensor:
        """Means of (N, C, k, j, i) over the voxels of every cell of the feature map."""
        stride = self.spec.swin.stride
        return functional.avg_pool3d(voxels, stride, ceil_mode=True, count_include_pad=False)

    def fuse(
        self, volumes: Mapping[str, Tensor], roi: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fused feature map and mean spatial attention, as ``Student.fuse``.

        Raises
        ------
        ValueError : no branch is complete.
        """
        names = self.branches_for(volumes)
        if not names:
            raise ValueError(f"Modalities {sorted(volumes)} complete none of {self.spec.branches}.")
        cells = None if roi is None else self.inside(roi)
        found = [
            self.branch(name, torch.cat([volumes[m] for m in inputs], dim=1), roi, cells)
            for name, inputs in self.spec.branches.items()
            if name in names
        ]
        attention = torch.stack([attention for _, attention in found]).mean(dim=0)
        return gate([branch for branch, _ in found]), attention

    def inside(self, roi: Tensor) -> Tensor:
        """Cells with any voxel of a region of interest (N, 1, k, j, i), as 0 and 1."""
        return (self.cells(roi) > 0).to(roi.dtype)

    def branch(
        self, name: str, volume: Tensor, roi: Tensor | None, cells: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One branch's part of the sum under the sigmoid, and its spatial attention.

        ``volume`` : (N, C, k, j, i), the branch's modalities in its order.
        ``cells`` : :meth:`inside` of ``roi``, None without it.
        """
        deepest = self.encoders[name](volume if roi is None else volume * roi)
        branch, attention = self.cbam(self.projections[name](self.dropout(deepest)), cells)
        return branch, attention

    def forward(
        self,
        volumes: Mapping[str, Tensor],
        roi: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> StudentOutput:
        """Classify; arguments and result as ``Student.forward``."""
        features, attention = self.fuse(volumes, roi)
        pooled = pool(features, weights)
        return StudentOutput(self.head(pooled), features, attention, pooled)
