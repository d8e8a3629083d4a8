"""The published form of TMI-CLNet: it runs, and each of its degeneracies shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from prognosis_networks import FAITHFUL, SPEC, patients, rows
from torch.nn import functional

from REACTKDLib.prognosis.networks.build import build_network, log_probabilities
from REACTKDLib.prognosis.networks.faithful import ChannelCrossAttention, DenseNet1d
from REACTKDLib.prognosis.networks.spec import FamilySpec, published_spec


def test_it_has_the_interface_of_the_corrected_form():
    network, batch = build_network(FAITHFUL, 0).eval(), patients()
    with torch.inference_mode():
        output = network(batch)
        again = network(replace(batch, ct=None, roi=None), network.ct_tokens(batch))
    assert output.logits.shape == (5, 2)
    assert output.vectors.shape == (5, 3, FAITHFUL.width)
    assert output.presence.all() and output.ct_attention is None
    assert torch.equal(output.logits, again.logits)


def test_queries_and_keys_of_the_aggregation_learn_nothing():
    """Degeneracy 1: a softmax over one key is 1. Corrected: ``test_queries_and_keys_learn``."""
    network = build_network(FAITHFUL, 1)
    output = network(patients())
    functional.cross_entropy(output.logits, torch.tensor([0, 1, 1, 0, 1])).backward()
    for layer in network.aggregation.values():
        for part in (layer.query, layer.key):
            assert all(p.grad is None or not p.grad.any() for p in part.parameters())
        assert layer.value.weight.grad.norm() > 0


def test_the_other_modalitys_channels_can_change_places():
    """Degeneracy 2: channels as tokens of width 1 are a set."""
    cross = ChannelCrossAttention().eval()
    own, other = torch.randn(3, 64, 1), torch.randn(3, 64, 1)
    with torch.inference_mode():
        before = cross(own, other)
        assert torch.allclose(cross(own, other[:, torch.randperm(64)]), before, atol=1e-6)
        assert not torch.allclose(cross(own, 2 * other), before, atol=1e-4)


def test_sure_and_wrong_costs_little():
    """Degeneracy 3: the sigmoid before the cross-entropy."""
    wrong = torch.tensor([[100.0, -100.0]])
    assert log_probabilities(wrong, "faithful")[0, 1] == pytest.approx(-1.3133, abs=1e-4)
    assert log_probabilities(wrong, "corrected")[0, 1] == pytest.approx(-200)


def test_in_training_a_patient_depends_on_the_others():
    """Degeneracy 4: batch norm. In evaluation none does."""
    batch = patients()
    network = build_network(FAITHFUL, 0).eval()
    with torch.inference_mode():
        alone = network(rows(batch, [0])).logits
        assert torch.allclose(network(batch).logits[:1], alone, atol=1e-5)
    for module in network.modules():  # batch norms alone in training: no dropout
        module.training = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    with torch.inference_mode():
        one, other = network(rows(batch, [0, 1])).logits, network(rows(batch, [0, 2])).logits
    assert (one[0] - other[0]).abs().max() > 1e-3


def test_a_masked_modalitys_content_has_no_influence():
    network, batch = build_network(FAITHFUL, 0).eval(), patients()
    batch.present[0, 0] = batch.present[1, 1] = batch.present[2, 2] = False
    filled = {name: getattr(batch, name).clone() for name in ("ct", "clinical", "radiomics")}
    filled["ct"][0] = filled["clinical"][1] = filled["radiomics"][2] = 1e3
    with torch.inference_mode():
        one, other = network(batch), network(replace(batch, **filled))
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.presence, batch.present)


@pytest.mark.parametrize(
    "change",
    [
        {"modalities": ("ct",)},
        {"modalities": ("clinical", "radiomics"), "text_hidden": 0},
        {"cross_attention": False},
        {"intra_modality_aggregation": False, "variables": ()},
        {"ct": replace(FAITHFUL.ct, region="roi")},
    ],
)
def test_ablations_and_subsets_learn(change):
    network = build_network(replace(FAITHFUL, **change), 0)
    network(patients()).logits.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert network.head.features[0].weight.grad.norm() > 0


def test_nothing_known_is_an_answer_too():
    network = build_network(FAITHFUL, 0).eval()
    batch = replace(patients(), ct=None, roi=None, clinical=None, text=None, radiomics=None)
    with torch.inference_mode():
        output = network(batch)
    assert output.logits.isfinite().all() and not output.presence.any()


def test_the_published_size():
    """Layers and channels as the reference gives them, without making their numbers."""
    spec = published_spec([FamilySpec("all", 1781)])
    with torch.device("meta"):
        network = build_network(spec)
    assert network.resnet.fc.weight.shape == (400, 2048)
    assert network.clinical.weight.shape == (256, 768)
    assert [tuple(m.weight.shape) for m in network.radiomics if hasattr(m, "weight")] == [
        (1024, 1781),
        (1024,),
        (512, 1024),
        (256, 512),
    ]
    assert [m.heads for m in network.aggregation.values()] == [16, 16, 16]
    assert network.head.classifier[0].weight.shape == (512, 1024)
    assert network.head.classifier[-1].weight.shape == (2, 512)
    dense = [m for m in network.head.features if type(m).__name__ == "DenseLayer"]
    assert len(dense) == 6 + 12 + 24 + 16


def test_the_dense_head_halves_length_and_channels():
    head = DenseNet1d(FAITHFUL)
    features = head.features(torch.randn(2, 1, 3 * FAITHFUL.width))
    # 8 + 2 x 4 = 16, halved 8, + 2 x 4; length 192 / 2 / 2 / 2.
    assert features.shape == (2, 16, 24)
    assert SPEC.form == "corrected"  # the default
