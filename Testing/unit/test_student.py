"""The student network against its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from random_models import shipped_specification, specification
from scipy import ndimage

from REACTKDLib.model_package import spec_from_section
from REACTKDLib.networks.cbam3d import CBAM3D
from REACTKDLib.networks.student import Student, pool

SPEC = spec_from_section(specification())
MODALITIES = ("ct", "pet_fdg", "pet_acetate")


@pytest.fixture(scope="module")
def student() -> Student:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Student(SPEC.modality_names, len(SPEC.classes), SPEC.network).eval()


@pytest.fixture(scope="module")
def volumes() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn((1, 1, 8, 16, 12), generator=generator) for name in MODALITIES}


def subsets() -> list[tuple[str, ...]]:
    counts = range(1, len(MODALITIES) + 1)
    return [s for n in counts for s in itertools.combinations(MODALITIES, n)]


@pytest.mark.parametrize("names", subsets(), ids="+".join)
def test_any_subset_of_modalities_gives_one_answer(student, volumes, names):
    with torch.inference_mode():
        output = student({name: volumes[name] for name in names})
    assert output.logits.shape == (1, 3)
    assert output.features.shape == (1, 8, 4, 4, 3)
    assert output.attention.shape == (1, 1, 4, 4, 3)
    assert output.pooled.shape == (1, 8)
    assert output.features.min() > 0
    assert output.features.max() < 1
    assert output.attention.min() >= 0
    assert output.attention.max() <= 1
    assert output.features.std() > 1e-3
    assert torch.isfinite(output.logits).all()


def test_the_fused_map_is_the_gate_of_the_sum_of_the_branches(student, volumes):
    def logit_of_map(*names: str) -> torch.Tensor:
        with torch.inference_mode():
            return torch.logit(student.fuse({n: volumes[n] for n in names})[0])

    whole = logit_of_map("ct", "pet_fdg")
    parts = logit_of_map("ct") + logit_of_map("pet_fdg")
    assert torch.allclose(whole, parts, atol=1e-3)


def test_attention_is_the_mean_over_the_modalities_given(student, volumes):
    def attention(*names: str) -> torch.Tensor:
        with torch.inference_mode():
            return student.fuse({n: volumes[n] for n in names})[1]

    mean = (attention("ct") + attention("pet_acetate")) / 2
    assert torch.allclose(attention("ct", "pet_acetate"), mean, atol=1e-6)


def test_the_order_in_which_modalities_are_given_does_not_matter(student, volumes):
    with torch.inference_mode():
        forward = student(volumes).logits
        backward = student(dict(reversed(volumes.items()))).logits
    assert torch.equal(forward, backward)


def test_an_unknown_modality_or_none_is_an_error(student, volumes):
    with pytest.raises(ValueError, match="'mr'"):
        student({"ct": volumes["ct"], "mr": volumes["ct"]})
    with pytest.raises(ValueError, match="given"):
        student({})


def test_plain_pooling_is_adaptive_average_pooling(student, volumes):
    with torch.inference_mode():
        output = student({"ct": volumes["ct"]})
    expected = torch.nn.functional.adaptive_avg_pool3d(output.features, 1).flatten(1)
    assert torch.allclose(output.pooled, expected, atol=1e-6)
    logits = expected @ student.head.weight.T + student.head.bias
    assert torch.allclose(output.logits, logits, atol=1e-5)


def test_weighted_pooling_reads_only_where_the_weights_are():
    features = torch.arange(2 * 24.0).reshape(1, 2, 2, 3, 4)
    weights = torch.zeros(1, 1, 2, 3, 4)
    weights[0, 0, 1, 2, 3], weights[0, 0, 0, 0, 1] = 0.75, 0.25
    expected = [[0.75 * 23 + 0.25 * 1, 0.75 * 47 + 0.25 * 25]]
    assert pool(features, weights).tolist() == expected
    even = torch.full((1, 1, 2, 3, 4), 1 / 24)
    assert torch.allclose(pool(features, even), pool(features, None))


def test_the_shipped_network_is_small():
    spec = spec_from_section(shipped_specification())
    network = Student(spec.modality_names, len(spec.classes), spec.network)
    assert sum(p.numel() for p in network.parameters()) < 3_000_000


def test_without_cbam_the_branches_are_the_projections(volumes):
    document = specification()
    document["network"] |= {"cbam": False}
    plain = Student(SPEC.modality_names, 3, spec_from_section(document).network).eval()
    assert not any("cbam" in name for name in plain.state_dict())
    with torch.inference_mode():
        fused, attention = plain.fuse({"ct": volumes["ct"]})
        expected = plain.projections["ct"](plain.encoders["ct"](volumes["ct"]))
    assert torch.allclose(fused, torch.sigmoid(expected))
    assert torch.equal(attention, torch.ones_like(attention))


def test_a_batch_is_its_cases_one_by_one(student, volumes):
    batch = {"ct": torch.cat([volumes["ct"], volumes["pet_fdg"]])}
    with torch.inference_mode():
        both = student(batch).logits
        each = [student({"ct": volumes[name]}).logits for name in ("ct", "pet_fdg")]
    assert torch.allclose(both, torch.cat(each), atol=1e-5)


def cbam_in_numpy(
    block: CBAM3D, features: np.ndarray, roi: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """CBAM of one map (C, k, j, i) over a region, from the equations of the paper."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def mlp(vector: np.ndarray) -> np.ndarray:
        first, _, second = block.shared_mlp
        hidden = np.maximum(first.weight.numpy() @ vector + first.bias.numpy(), 0)
        return second.weight.numpy() @ hidden + second.bias.numpy()

    inside = features[:, roi > 0]
    mean = np.average(inside, axis=1, weights=roi[roi > 0])
    channel = sigmoid(mlp(mean) + mlp(inside.max(axis=1)))
    weighted = features * channel[:, None, None, None]
    kernels = block.spatial.weight.numpy()[0]
    maps = (weighted.mean(axis=0) * roi, weighted.max(axis=0) * roi)
    response = sum(
        ndimage.correlate(m, kernel, mode="constant")
        for m, kernel in zip(maps, kernels, strict=True)
    )
    spatial = sigmoid(response - np.average(response, weights=roi))
    return weighted * spatial, spatial


@pytest.mark.parametrize(("channels", "ratio", "kernel"), [(16, 8, 7), (6, 2, 3), (4, 8, 5)])
def test_cbam_is_channel_then_spatial_attention(channels, ratio, kernel):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        block = CBAM3D(channels, ratio, kernel).requires_grad_(False)
        features = torch.randn(1, channels, 9, 8, 10)
        soft = torch.rand(1, 1, 9, 8, 10).mul(3).sub(1).clamp(0, 1)
    for roi in (None, soft):
        weighted, attention = block(features, roi)
        region = np.ones((9, 8, 10)) if roi is None else roi[0, 0].numpy()
        expected, expected_attention = cbam_in_numpy(block, features[0].numpy(), region)
        assert np.allclose(weighted[0].numpy(), expected, atol=1e-5)
        assert np.allclose(attention[0, 0].numpy(), expected_attention, atol=1e-5)


def test_attention_compares_positions_however_strong_the_features(student, volumes):
    """All voxels brighter, all features larger: attention must not grow to 1 everywhere."""
    block = CBAM3D(8).requires_grad_(False)
    block.spatial.weight.fill_(1.0)
    features = torch.rand(1, 8, 15, 16, 14, generator=torch.Generator().manual_seed(2))
    _, attention = block(features * 50)
    assert 0.2 < float(attention.mean()) < 0.8
