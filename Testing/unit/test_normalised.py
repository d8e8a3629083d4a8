"""Batch norm of the projections: there while a network is trained, folded away afterwards."""

from __future__ import annotations

import pytest
import torch
from random_models import specification

from REACTKDLib.model_package import spec_from_section
from REACTKDLib.networks.student import Student
from training.networks.normalised import NormalisedConv3d, fold_projections, normalise_projections
from training.networks.swin import SwinSpec
from training.networks.teacher import Teacher, TeacherSpec

SPEC = spec_from_section(specification())


def student() -> Student:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Student(SPEC.modality_names, 3, SPEC.network)


def teacher() -> Teacher:
    swin = SwinSpec(patch=(2, 4, 4), window=(2, 2, 2), embedding=8, depths=(2,), heads=(2,))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Teacher(TeacherSpec({"fdg": ("ct", "pet_fdg")}, swin, 8), 3)


@pytest.fixture(params=[student, teacher])
def network(request):
    return request.param()


def volumes(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(4, 1, 8, 16, 16, generator=generator) for n in ("ct", "pet_fdg")}


def test_a_trained_network_computes_the_same_when_folded_and_loads_as_a_plain_one(network):
    plain = set(network.state_dict())
    normalise_projections(network)
    network.train()
    for step in range(3):  # statistics that are not those of the start
        network(volumes(step))
    for projection in network.projections.values():
        torch.nn.init.uniform_(projection.norm.weight, 0.5, 2.0)
        torch.nn.init.normal_(projection.norm.bias)
    network.eval()
    with torch.inference_mode():
        before = network(volumes(9)).logits
    fold_projections(network)
    with torch.inference_mode():
        after = network(volumes(9)).logits
    assert set(network.state_dict()) == plain
    assert torch.allclose(before, after, atol=1e-5)


def test_in_training_projected_features_have_unit_variance_whatever_the_scale():
    small = student()
    normalise_projections(small)
    projection = small.projections["ct"]
    assert isinstance(projection, NormalisedConv3d)
    channels = projection.convolution.in_channels
    features = 0.1 * torch.randn(4, channels, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    projected = projection.train()(features)
    assert torch.allclose(projected.mean(dim=(0, 2, 3, 4)), torch.zeros(8), atol=1e-4)
    assert torch.allclose(projected.var(dim=(0, 2, 3, 4)), torch.ones(8), atol=0.05)


def test_folding_leaves_plain_projections_alone(network):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    fold_projections(network)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
