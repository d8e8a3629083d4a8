"""Losses of prognosis: values computed by hand and with numpy, bounds, gradients, the queue."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.networks.batch import PrognosisOutput
from training.prognosis.losses import (
    FeatureQueue,
    PrognosisLoss,
    PrognosisLossSpec,
    distribution_matching,
    feature_fusion_loss,
    label_loss,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def by_numpy(rows, columns, row_labels, column_labels, tau=2.0, epsilon=1e-8):
    """KL(p || q) of every row, written from its definition."""
    found = []
    for row, label in zip(rows, row_labels, strict=True):
        cosine = columns @ row / np.linalg.norm(row) / np.linalg.norm(columns, axis=1)
        p = np.exp(tau * cosine) / np.exp(tau * cosine).sum()
        q = (column_labels == label) / (column_labels == label).sum()
        found.append(np.sum(p * np.log(p / (q + epsilon))))
    return float(np.mean(found))


def test_matching_of_two_rows_by_hand():
    """Unit vectors along the axes: cosines 1 and 0, tau 2, so p is e^2 : 1."""
    rows = torch.eye(2).double()
    labels = torch.tensor([0, 1])
    p = math.exp(2) / (math.exp(2) + 1)
    expected = p * math.log(p / (1 + 1e-8)) + (1 - p) * math.log((1 - p) / 1e-8)
    assert expected == pytest.approx(1.8305, abs=1e-4)
    assert float(distribution_matching(rows, rows, labels, labels)) == pytest.approx(expected)
    # All of one label: q is even, so is p of orthogonal rows against a third axis.
    third = torch.tensor([[0.0, 0.0, 1.0]]).double()
    columns = torch.eye(3)[:2].double()
    zeros = torch.zeros(2, dtype=torch.long)
    assert abs(float(distribution_matching(third, columns, zeros[:1], zeros))) < 1e-7


def test_matching_against_numpy():
    rows, columns = drawn(5, 7), drawn(9, 7, seed=1)
    row_labels, column_labels = torch.tensor([0, 1, 2, 0, 1]), torch.arange(9) % 3
    for tau, epsilon in ((2.0, 1e-8), (0.5, 1e-3)):
        found = distribution_matching(rows, columns, row_labels, column_labels, tau, epsilon)
        arrays = [t.numpy() for t in (rows, columns, row_labels, column_labels)]
        assert float(found) == pytest.approx(by_numpy(*arrays, tau, epsilon))
    # The length of a vector means nothing.
    longer = distribution_matching(7 * rows, columns, row_labels, column_labels)
    same = distribution_matching(rows, columns, row_labels, column_labels)
    assert float(longer) == pytest.approx(float(same))


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_matching_is_bounded(scale):
    """However wrong: every row is exactly its enemy."""
    rows = torch.eye(4).double() * scale
    labels = torch.tensor([0, 1, 2, 3])
    worst = distribution_matching(rows, rows, labels, labels.roll(1), temperature=500.0)
    assert 18.4 < float(worst) <= -math.log(1e-8) + 1e-6
    best = distribution_matching(rows, rows, labels, labels, temperature=500.0)
    assert -1e-6 <= float(best) < 1e-6


def test_gradients_of_the_matching():
    rows, columns = drawn(3, 4).requires_grad_(), drawn(5, 4, seed=1).requires_grad_()
    labels, others = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1, 0, 1])
    assert torch.autograd.gradcheck(
        lambda a, b: distribution_matching(a, b, labels, others), (rows, columns)
    )


def test_a_row_without_a_match_drops_out():
    rows, columns = drawn(3, 4), drawn(2, 4, seed=1)
    labels, others = torch.tensor([0, 7, 1]), torch.tensor([0, 1])
    kept = torch.tensor([0, 2])
    expected = distribution_matching(rows[kept], columns, labels[kept], others)
    assert torch.equal(distribution_matching(rows, columns, labels, others), expected)
    alone = rows[1:2].requires_grad_()
    nothing = distribution_matching(alone, columns, labels[1:2], others)
    nothing.backward()
    assert nothing.item() == 0 and not alone.grad.any()


def test_fusion_loss_by_numpy():
    """0.8 of radiomics and image, 0.1 of image and clinical, 0.1 of radiomics and clinical."""
    vectors, labels = drawn(6, 3, 5), torch.tensor([0, 1, 0, 1, 1, 0])
    presence = torch.ones(6, 3, dtype=torch.bool)
    v, t, r = (vectors[:, n].numpy() for n in range(3))
    y = labels.numpy()
    pairs = ((r, v, 0.8), (v, t, 0.1), (r, t, 0.1))
    expected = sum(w * (by_numpy(a, b, y, y) + by_numpy(b, a, y, y)) for a, b, w in pairs)
    assert float(feature_fusion_loss(vectors, presence, labels)) == pytest.approx(expected)
    # Those who lack a modality are no row and no column of it.
    presence[0, 2] = presence[3, 0] = False
    here = {n: presence[:, n].numpy() for n in range(3)}
    of = {0: v, 1: t, 2: r}
    expected = 0.0
    for one, other, weight in ((2, 0, 0.8), (0, 1, 0.1), (2, 1, 0.1)):
        for a, b in ((one, other), (other, one)):
            expected += weight * by_numpy(of[a][here[a]], of[b][here[b]], y[here[a]], y[here[b]])
    vectors[0, 2] = vectors[3, 0] = 1e3
    assert float(feature_fusion_loss(vectors, presence, labels)) == pytest.approx(expected)


def test_nobody_with_two_modalities_is_no_loss():
    vectors = drawn(4, 3, 5).requires_grad_()
    presence = torch.tensor([[True, False, False]] * 4)
    loss = feature_fusion_loss(vectors, presence, torch.tensor([0, 1, 0, 1]))
    loss.backward()
    assert loss.item() == 0 and not vectors.grad.any()


def test_the_queue_holds_the_last_patients():
    queue = FeatureQueue(4, 2)
    assert len(queue.columns(0)[0]) == 0
    vectors = torch.arange(18.0).view(3, 3, 2).requires_grad_()
    presence = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
    queue.push(vectors, presence, torch.tensor([0, 1, 0]))
    queue.push(vectors + 100, presence, torch.tensor([1, 0, 1]))
    found, labels = queue.columns(0)
    assert found[:, 0].tolist() == [12, 100, 106, 112] and labels.tolist() == [0, 1, 0, 1]
    assert queue.columns(1)[0][:, 0].tolist() == [14, 102, 114]
    assert not found.requires_grad
    queue.push(torch.zeros(6, 3, 2), torch.ones(6, 3, dtype=torch.bool), torch.arange(6))
    assert queue.columns(2)[1].tolist() == [2, 3, 4, 5]
    assert FeatureQueue(4, 2).load_state_dict(queue.state_dict())


def test_the_queue_makes_a_small_batch_meaningful():
    """Two patients of two classes have but themselves to match; with the queue they have others."""
    vectors, presence = drawn(10, 3, 5), torch.ones(10, 3, dtype=torch.bool)
    labels = torch.arange(10) % 2
    queue = FeatureQueue(8, 5).double()
    queue.push(vectors[2:], presence[2:], labels[2:])
    found = feature_fusion_loss(vectors[:2], presence[:2], labels[:2], queue)
    everyone, y, two = vectors.numpy(), labels.numpy(), slice(0, 2)
    expected = 0.0
    for one, other, weight in ((2, 0, 0.8), (0, 1, 0.1), (2, 1, 0.1)):
        for a, b in ((one, other), (other, one)):
            expected += weight * by_numpy(everyone[two, a], everyone[:, b], y[two], y)
    assert float(found) == pytest.approx(expected)


def test_label_losses():
    logits, labels = drawn(6, 3).requires_grad_(), torch.tensor([0, 1, 2, 0, 1, 2])
    expected = functional.cross_entropy(logits, labels)
    assert torch.allclose(label_loss(logits, labels), expected)
    paper = functional.cross_entropy(torch.sigmoid(logits), labels)
    assert torch.allclose(label_loss(logits, labels, "paper"), paper)
    p = logits.detach().softmax(dim=1)[range(6), labels]
    focal = (-((1 - p) ** 2) * p.log()).mean()
    assert torch.allclose(label_loss(logits, labels, gamma=2.0), focal)
    assert torch.autograd.gradcheck(lambda x: label_loss(x, labels, gamma=2.0), logits)
    with pytest.raises(InputError, match="no form 'right'"):
        label_loss(logits, labels, "right")


def test_the_papers_loss_is_bounded_and_ours_is_not():
    right, wrong = torch.tensor([0]), torch.tensor([1])
    logits = torch.tensor([[500.0, -500.0]])
    assert float(label_loss(logits, right, "paper")) == pytest.approx(math.log(1 + 1 / math.e))
    assert float(label_loss(logits, wrong, "paper")) == pytest.approx(math.log(1 + math.e))
    assert float(label_loss(logits, wrong)) == pytest.approx(1000)


def test_the_loss_of_training_fills_its_queue_in_training_alone():
    loss = PrognosisLoss(PrognosisLossSpec(queue=4, gamma=1.0), 5, torch.tensor([1.0, 3.0]))
    vectors, presence = drawn(4, 3, 5).float(), torch.ones(4, 3, dtype=torch.bool)
    labels = torch.tensor([0, 1, 0, 1])
    output = PrognosisOutput(drawn(4, 2).float(), vectors, presence)
    first = loss(output, labels)
    assert len(loss.queue.columns(0)[0]) == 4
    matched = feature_fusion_loss(vectors, presence, labels)
    assert torch.allclose(first["fusion"], 0.01 * matched)
    weighted = label_loss(output.logits, labels, gamma=1.0, class_weights=torch.tensor([1.0, 3.0]))
    assert torch.equal(first["label"], weighted)
    before = loss.queue.get_buffer("vectors").clone()
    loss.eval()(output, labels)
    assert torch.equal(loss.queue.get_buffer("vectors"), before)
    bare = PrognosisLoss(PrognosisLossSpec(fusion=0.0), 5)
    assert set(bare(output, labels)) == {"label"} and bare.queue is None
