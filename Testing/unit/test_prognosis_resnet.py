"""The 3D ResNet of prognosis against MONAI's, and its indifference to what lies outside."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.networks.nets.resnet import ResNet as MonaiResNet
from torch import nn
from torch.nn import functional

from REACTKDLib.prognosis.networks.resnet import RegionGroupNorm, ResNet
from REACTKDLib.prognosis.networks.spec import RESNETS, ResNetSpec

TINY = ResNetSpec("basic", (1, 2, 1, 1), (4, 8, 8, 16), 5, (1, 2, 2), True, "batch", 4, "volume")


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def grouped(network: nn.Module, groups: int) -> nn.Module:
    """MONAI's network with every batch norm a group norm: its own option leaves the stages out."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm3d):
                setattr(parent, name, nn.GroupNorm(groups, child.num_features))
    return network


def monai(spec: ResNetSpec, outputs: int) -> nn.Module:
    network = MonaiResNet(
        block=spec.block,
        layers=list(spec.layers),
        block_inplanes=list(spec.widths),
        n_input_channels=1,
        conv1_t_size=spec.conv1_kernel,
        conv1_t_stride=spec.conv1_stride,
        no_max_pool=not spec.max_pool,
        num_classes=outputs,
        bias_downsample=False,
    )
    return grouped(network, spec.groups) if spec.norm == "group" else network


def random_norms(network: nn.Module) -> nn.Module:
    for name, tensor in network.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            if name.endswith(("weight", "var")):
                tensor.uniform_(0.5, 2)
            elif name.endswith(("bias", "mean")):
                tensor.normal_(0, 0.5)
    return network


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"block": "bottleneck", "max_pool": False},
        {"conv1_stride": (2, 2, 2), "conv1_kernel": 7},
    ],
    ids=["basic", "bottleneck", "stride"],
)
def test_it_computes_what_monai_computes(change, norm, training):
    spec = replace(TINY, norm=norm, **change)
    ours = random_norms(ResNet(spec, outputs=6)).train(training)
    theirs = monai(spec, 6).train(training)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(2, 1, 17, 33, 26)
    one, other = ours.pooled(image), theirs(image)
    assert one.std() > 0.05
    assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet50"])
def test_the_sizes_by_name_are_monais(name):
    """Names and shapes of all parameters, without making their numbers."""
    spec = replace(RESNETS[name], norm="batch")
    with torch.device("meta"):
        ours, theirs = ResNet(spec, outputs=400).state_dict(), monai(spec, 400).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_the_norm_of_a_region_is_the_group_norm_of_its_voxels():
    norm = RegionGroupNorm(2, 4)
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.normal_()
    features = torch.randn(1, 4, 3, 4, 5) * 3 + 1
    roi = torch.zeros(1, 1, 3, 4, 5)
    roi[..., 1:3, :2] = 1
    inside = norm(features, roi)[..., 1:3, :2]
    alone = functional.group_norm(features[..., 1:3, :2], 2, norm.weight, norm.bias)
    assert torch.allclose(inside, alone, atol=1e-5)
    assert torch.allclose(norm(features, torch.ones_like(roi)), norm(features), atol=1e-5)
    assert norm(features, torch.zeros_like(roi)).isfinite().all()


@pytest.mark.parametrize("max_pool", [False, True])
@pytest.mark.parametrize("padding", [(0, 16), (32, 16)])
def test_a_larger_box_around_the_same_region_gives_the_same_answer(padding, max_pool):
    spec = ResNetSpec("basic", (1, 1, 1), (8, 8, 16), 7, max_pool=max_pool, groups=4)
    network = random_norms(ResNet(spec, 5)).eval()
    image = torch.randn(1, 1, 17, 33, 17)  # whole strides and one: it ends with a position
    roi = torch.zeros_like(image)
    roi[..., 3:17, 5:20, 0:14] = 1
    roi[..., 6, 7:9, 3:5] = 0.4
    around = (*padding, *padding, *padding)
    wide_roi = functional.pad(roi, around)
    wide = torch.where(wide_roi > 0, functional.pad(image, around), 55.0)
    with torch.inference_mode():
        one, other = network.pooled(image, roi), network.pooled(wide, wide_roi)
        assert torch.allclose(one, other, atol=1e-5)
        assert not torch.allclose(network.pooled(image), one, atol=1e-3)


def test_only_a_network_with_outputs_pools():
    with pytest.raises(ValueError, match="no outputs"):
        ResNet(TINY).pooled(torch.zeros(1, 1, 8, 8, 8))
