"""Projections that are followed by batch norm while a network is trained.

The sigmoid of the fused features needs inputs of some spread. The encoders' last features have none
in particular, so that a projection alone leaves all features near one half for many epochs; batch
norm gives every branch unit variance from the first step. A convolution and its batch norm are one
convolution once the statistics are fixed: the trained network has the same layers as without.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from REACTKDLib.networks.student import Student

from .teacher import Teacher


class NormalisedConv3d(nn.Module):
    """A convolution, then batch norm of its channels; (N, C, k, j, i) to the same grid."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = nn.BatchNorm3d(convolution.out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Projected features, in training of mean 0 and variance 1 over the batch at first."""
        normalised: Tensor = self.norm(self.convolution(features))
        return normalised

    def folded(self) -> nn.Conv3d:
        """The convolution that computes the same in evaluation mode."""
        return fuse_conv_bn_eval(self.convolution.eval(), self.norm.eval())


def normalise_projections(network: Student | Teacher) -> None:
    """Follow every projection of a network by batch norm, in place."""
    for name, convolution in list(network.projections.items()):
        assert isinstance(convolution, nn.Conv3d)  # once only
        network.projections[name] = NormalisedConv3d(convolution)


def fold_projections(network: Student | Teacher) -> None:
    """Make the projections of a trained network plain convolutions again, in place."""
    for name, projection in list(network.projections.items()):
        if isinstance(projection, NormalisedConv3d):
            network.projections[name] = projection.folded()
