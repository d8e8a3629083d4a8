"""The encoder against MONAI's, and its indifference to what lies outside the region."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets.segresnet_ds import SegResEncoder as MonaiEncoder
from random_models import specification
from torch import nn
from torch.nn import functional

from REACTKDLib.model_package import spec_from_section
from REACTKDLib.networks.segresnet import SegResEncoder, roi_pyramid
from REACTKDLib.networks.student import Student

STRIDES = [((1, 2, 2), (2, 2, 2)), ((2, 2, 2),), ((1, 2, 2), (1, 2, 2))]
SPEC = spec_from_section(specification())


def with_random_norms(network: nn.Module) -> nn.Module:
    """Batch norms that do something, as after training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.5)
    return network


@pytest.fixture
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        yield


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("strides", STRIDES)
def test_it_computes_what_monai_computes(seeded, strides, training):
    blocks = (1, 2, 1)[: len(strides) + 1]
    ours = with_random_norms(SegResEncoder(4, blocks, strides)).train(training)
    theirs = MonaiEncoder(
        spatial_dims=3,
        init_filters=4,
        in_channels=1,
        norm="BATCH",
        blocks_down=blocks,
        anisotropic_scales=(*strides, strides[-1]),
    ).train(training)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(2, 1, 9, 17, 13)
    assert torch.allclose(ours(image), theirs(image)[-1], atol=1e-5)


def a_region(seed: int = 4) -> torch.Tensor:
    """A soft region of odd shape that reaches the border of its grid, (1, 1, 9, 17, 13)."""
    noise = torch.randn(1, 1, 9, 17, 13, generator=torch.Generator().manual_seed(seed))
    smooth = functional.avg_pool3d(noise, 5, 1, 2) * 25
    return smooth.clamp(0, 1)


@pytest.mark.parametrize("padding", [(4, 4), (0, 8), (12, 4)])
def test_a_larger_box_around_the_same_region_gives_the_same_answer(seeded, padding):
    """Whole strides of anything around the region change nothing in it."""
    student = with_random_norms(Student(SPEC.modality_names, len(SPEC.classes), SPEC.network))
    student.eval()
    image, roi = torch.randn(1, 1, 9, 17, 13), a_region()
    assert 0.1 < float((roi > 0).float().mean()) < 0.9
    around = (*padding, *padding, *padding)
    padded_roi = functional.pad(roi, around)
    padded = torch.where(padded_roi > 0, functional.pad(image, around), 7.0)
    stride = SPEC.network.total_stride
    first = [padding[0] // s for s in stride]
    with torch.inference_mode():
        features, attention = student.fuse({"ct": image, "pet_fdg": image}, roi)
        wider, wider_attention = student.fuse({"ct": padded, "pet_fdg": padded}, padded_roi)
    k, j, i = (slice(a, a + n) for a, n in zip(first, features.shape[2:], strict=True))
    inside = (roi_pyramid(roi, SPEC.network.strides)[-1] > 0).expand_as(features)
    assert torch.allclose(wider[..., k, j, i][inside], features[inside], atol=1e-6)
    assert torch.allclose(
        wider_attention[..., k, j, i][inside[:, :1]], attention[inside[:, :1]], atol=1e-6
    )
    assert features[inside].std() > 1e-3


def test_what_lies_outside_the_region_has_no_influence(seeded):
    student = with_random_norms(Student(("ct",), 3, SPEC.network)).eval()
    roi = a_region()
    image = torch.randn(1, 1, 9, 17, 13)
    changed = torch.where(roi > 0, image, 100.0)
    cells = roi_pyramid(roi, SPEC.network.strides)[-1]
    with torch.inference_mode():
        one, other = (student.fuse({"ct": x}, roi)[0] for x in (image, changed))
        unrestricted = student.fuse({"ct": changed})[0]
    inside = (cells > 0).expand_as(one)
    assert torch.equal(one[inside], other[inside])
    assert not torch.allclose(unrestricted[inside], one[inside], atol=1e-3)


def test_no_region_is_too_small_for_the_pyramid():
    for voxel in ((0, 0, 0), (3, 7, 5), (8, 16, 12)):
        roi = torch.zeros(1, 1, 9, 17, 13)
        roi[(0, 0, *voxel)] = 1
        for level in roi_pyramid(roi, ((1, 2, 2), (2, 2, 2))):
            assert level.max() == 1
