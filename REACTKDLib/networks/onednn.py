"""Fast 3-D convolution of a single case on the CPU.

For one case with few channels torch chooses its reference convolution instead of oneDNN's (it asks
for a batch above 1 or a large slice); on two cores the student is then about ten times slower.
``Testing/benchmarks/pipeline.py`` measures the difference end to end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _OneDnnConv3d(nn.Conv3d):
    """``Conv3d`` that calls oneDNN where torch would not; the same result otherwise."""

    def forward(self, input: Tensor) -> Tensor:
        if len(input) > 1 or input.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(input)
        # The padding of Conv3d is a tuple of numbers unless it was given as text.
        return torch.ops.aten.mkldnn_convolution(
            input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def use_onednn(network: nn.Module) -> None:
    """Make every zero-padded 3-D convolution of ``network`` use oneDNN for single cases.

    Does nothing where this torch has no oneDNN. Training is not affected.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for module in network.modules():
        if type(module) is nn.Conv3d and module.padding_mode == "zeros":
            assert not isinstance(module.padding, str)
            module.__class__ = _OneDnnConv3d
