"""Attention transfer, CIRKD, MSKD and MTCM-KD, against numpy and numbers found by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from loss_views import CLASSES, GRID, generator, teach, view
from torch.nn import functional

from REACTKDLib.errors import InputError
from training.losses import RegionGraphs, make_distillation
from training.losses.cirkd import MemoryBank

LABELS = torch.tensor([0, 1, 2])


def unit(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def numbers(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def attention_map(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    energy = (features**2).sum(1) * (weights[:, 0] > 0)
    return unit(energy.reshape(len(energy), -1))


def test_attention_transfer_is_numpys_on_one_grid_and_ignores_what_is_outside():
    student, teacher = view(3, 8, 0), teach(view(3, 5, 1))
    loss = make_distillation("at", {"weight": 3.0}, 8, (5,), CLASSES)
    found = loss(student, [teacher], LABELS)["attention"]
    maps = [
        attention_map(numbers(v.features), numbers(student.weights)) for v in (student, teacher)
    ]
    assert found.item() == pytest.approx(3 * ((maps[0] - maps[1]) ** 2).sum(1).mean(), rel=1e-5)
    outside = torch.where(student.weights > 0, teacher.features, 1e3)
    moved = loss(student, [replace(teacher, features=outside)], LABELS)["attention"]
    torch.testing.assert_close(moved, found)


def test_attention_transfer_by_hand_and_over_grids():
    """Two cells; the student looks at the first, the teacher at both alike: 2 - sqrt 2."""
    student = view(1, 2, 0, grid=(1, 1, 2))
    features = torch.tensor([[[3.0, 0.0], [4.0, 0.0]]]).reshape(1, 2, 1, 1, 2)
    student = replace(student, features=features, weights=torch.full((1, 1, 1, 1, 2), 0.5))
    teacher = teach(view(1, 3, 1, grid=(2, 4, 4)))
    teacher = replace(teacher, features=torch.full_like(teacher.features, 7.0))
    loss = make_distillation("at", {}, 2, (3,), CLASSES)
    found = loss(student, [teacher], torch.tensor([0]))["attention"].item()
    assert found == pytest.approx(2 - 2**0.5, rel=1e-6)
    same = replace(teacher, features=features.repeat(1, 5, 2, 3, 1))
    assert loss(student, [same], torch.tensor([0]))["attention"].item() == pytest.approx(
        0, abs=1e-6
    )


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def relation(student: np.ndarray, teacher: np.ndarray) -> float:
    """Mean over rows of KL(teacher || student) of similarities at temperature 0.1."""
    own, theirs = log_softmax(student / 0.1), log_softmax(teacher / 0.1)
    return float((np.exp(theirs) * (theirs - own)).sum(-1).mean())


def regions_of(graphs: RegionGraphs) -> list[np.ndarray]:
    return [unit(numbers(f[m])) for f, m in zip(graphs.features, graphs.mask, strict=True)]


def with_mask(network, mask: torch.Tensor):
    graphs = RegionGraphs(torch.where(mask[..., None], network.graphs.features, torch.nan), mask)
    return replace(network, graphs=graphs)


MASK = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1]]).bool()


def test_cirkd_compares_every_pair_of_images():
    student = with_mask(view(3, 8, 0), MASK)
    teacher = with_mask(teach(view(3, 5, 1)), MASK)
    loss = make_distillation("cirkd", {"batch": 2.0}, 8, (5,), CLASSES)
    found = loss(student, [teacher], LABELS)
    s, t = regions_of(student.graphs), regions_of(teacher.graphs)
    expected = np.mean([relation(s[i] @ s[j].T, t[i] @ t[j].T) for i in range(3) for j in range(3)])
    assert found["batch"].item() == pytest.approx(2 * expected, rel=1e-5)
    assert found["memory"] == 0  # nothing is remembered yet


def test_cirkd_remembers_regions_of_earlier_batches():
    loss = make_distillation("cirkd", {"memory_size": 16}, 8, (5,), CLASSES)
    earlier = with_mask(teach(view(3, 5, 1)), MASK)
    loss(view(3, 8, 0), [earlier], LABELS)
    bank = np.concatenate(regions_of(earlier.graphs))
    np.testing.assert_allclose(numbers(loss.banks[0].contents()), bank, atol=1e-6)

    student, teacher = view(1, 8, 2), teach(view(1, 5, 3))
    loss.eval()
    found = loss(student, [teacher], LABELS[:1])
    own = loss.projections[0](student.graphs.features[0])
    expected = relation(unit(numbers(own)) @ bank.T, regions_of(teacher.graphs)[0] @ bank.T)
    assert found["memory"].item() == pytest.approx(0.1 * expected, rel=1e-4)
    assert len(loss.banks[0]) == len(bank)  # evaluation does not write
    found["memory"].backward()
    assert loss.projections[0][0].weight.grad.abs().sum() > 0

    twin = make_distillation("cirkd", {"memory_size": 16}, 8, (5,), CLASSES).eval()
    twin.load_state_dict(loss.state_dict())
    torch.testing.assert_close(twin(student, [teacher], LABELS[:1]), found)


def test_cirkd_with_one_image_compares_within_it():
    student, teacher = view(1, 8, 0), teach(view(1, 5, 1))
    found = make_distillation("cirkd", {}, 8, (5,), CLASSES)(student, [teacher], LABELS[:1])
    (s,), (t,) = regions_of(student.graphs), regions_of(teacher.graphs)
    assert found["batch"].item() == pytest.approx(relation(s @ s.T, t @ t.T), rel=1e-5)


def test_a_memory_bank_keeps_the_last():
    bank = MemoryBank(4, 1)
    assert len(bank) == 0
    bank.push(torch.tensor([[1.0], [2.0], [3.0]]))
    assert bank.contents()[:, 0].tolist() == [1, 2, 3]
    bank.push(torch.tensor([[4.0], [5.0]]))
    assert sorted(bank.contents()[:, 0].tolist()) == [2, 3, 4, 5]
    bank.push(torch.arange(10.0, 17.0)[:, None])
    assert sorted(bank.contents()[:, 0].tolist()) == [13, 14, 15, 16]
    bank.push(torch.tensor([[20.0]]))
    assert sorted(bank.contents()[:, 0].tolist()) == [14, 15, 16, 20]


def test_mskd_is_numpys():
    student = with_mask(view(3, 8, 0), MASK)
    teacher = with_mask(teach(view(3, 5, 1)), MASK)
    settings = {"feature": 2.0, "node": 3.0, "edge": 5.0}
    loss = make_distillation("mskd", settings, 8, (5,), CLASSES)
    found = loss(student, [teacher], LABELS)
    w = numbers(loss.projections[0].weight)
    f_s = unit(np.einsum("nckji,dc->ndkji", numbers(student.features), w), 1)
    f_t = numbers(teacher.features)
    filters = numbers(student.weights)[:, 0] * (f_t**2).sum(1)
    filters /= filters.sum((1, 2, 3), keepdims=True)
    feature = (((f_s - unit(f_t, 1)) ** 2).sum(1) * filters).sum((1, 2, 3)).mean()
    node, edge = [], []
    for i in range(3):
        raw, t = numbers(student.graphs.features[i][MASK[i]]), regions_of(teacher.graphs)[i]
        s = unit(raw)
        node.append(((unit(raw @ w.T) - t) ** 2).sum(1).mean())
        edge.append(((s @ s.T - t @ t.T) ** 2).mean())
    expected = {"feature": 2 * feature, "node": 3 * np.mean(node), "edge": 5 * np.mean(edge)}
    assert {name: term.item() for name, term in found.items()} == pytest.approx(expected, rel=1e-5)


def test_mskd_of_a_copy_is_zero_and_needs_the_same_regions():
    student = view(3, 8, 0)
    loss = make_distillation("mskd", {}, 8, (8,), CLASSES)
    scaled = replace(student, features=student.features * 3)
    for value in loss(student, [teach(scaled)], LABELS).values():
        assert value.item() == pytest.approx(0, abs=1e-6)
    for name in ("mskd", "cirkd"):
        other = make_distillation(name, {}, 8, (8,), CLASSES)
        with pytest.raises(InputError, match=r"\(3, 4\) and \(3, 6\)"):
            other(student, [teach(view(3, 8, 1, regions=6))], LABELS)


def test_mtcm_kd_is_numpys():
    student = view(3, 8, 0)
    present = [[True, True, False], [True, True, True]]
    teachers = [teach(view(3, 8, 1), present[0]), teach(view(3, 5, 2), present[1])]
    loss = make_distillation("mtcm_kd", {"fusion": 2.0, "feature": 3.0}, 8, (8, 5), CLASSES)
    found = loss(student, teachers, LABELS)

    here = np.array(present, dtype=float).T
    log_p = np.stack([log_softmax(numbers(t.logits)) for t in teachers], 1)
    right = np.exp(log_p[np.arange(3), :, LABELS])
    performance = (right * here).sum(0) / here.sum(0)
    w = performance * here
    w /= w.sum(1, keepdims=True)
    theirs = np.stack([log_softmax(numbers(t.logits) / 2) for t in teachers], 1)
    own = log_softmax(numbers(student.logits) / 2)[:, None]
    divergences = 4 * (np.exp(theirs) * (theirs - own)).sum(2)
    assert found["logits"].item() == pytest.approx(0.7 * (w * divergences).sum(1).mean(), rel=1e-5)

    maps, scores = [], []
    v, c = numbers(loss.attention.weight).reshape(-1), numbers(loss.attention.bias)
    for number, teacher in enumerate(teachers):
        layer = loss.projections[number]
        m = np.einsum(
            "nckji,dc->ndkji", numbers(teacher.features), numbers(layer.weight)[..., 0, 0, 0]
        )
        maps.append(m + numbers(layer.bias).reshape(-1, 1, 1, 1))
        scores.append(np.exp(np.einsum("ndkji,d->nkji", maps[-1], v) + c))
        scores[-1] *= here[:, number, None, None, None]
    fused = (np.stack(maps) * (np.stack(scores) / np.sum(scores, 0))[:, :, None]).sum(0)
    pool = numbers(student.weights)
    logits = loss.head(torch.tensor((fused * pool).sum((2, 3, 4))).float())
    assert found["fusion"].item() == pytest.approx(
        2 * functional.cross_entropy(logits, LABELS).item(), rel=1e-5
    )
    distance = ((unit(numbers(student.features), 1) - unit(fused, 1)) ** 2).sum(1)
    expected = 3 * (distance * pool[:, 0]).sum((1, 2, 3)).mean()
    assert found["feature"].item() == pytest.approx(expected, rel=1e-5)


def test_mtcm_kd_trains_the_fusion_by_labels_and_the_student_by_the_fusion():
    student = view(3, 8, 0, requires_grad=True)
    loss = make_distillation("mtcm_kd", {}, 8, (5,), CLASSES)
    found = loss(student, [teach(view(3, 5, 1, grid=(2, 2, 3)))], LABELS)
    found["feature"].backward(retain_graph=True)
    assert student.features.grad.abs().sum() > 0
    assert all(p.grad is None for p in loss.parameters())
    student.features.grad = None
    found["fusion"].backward()
    assert student.features.grad is None
    assert loss.head.weight.grad.abs().sum() > 0
    assert loss.projections[0].weight.grad.abs().sum() > 0


def test_features_on_other_grids_are_brought_to_the_students():
    """A teacher that sees the same smooth ramps on a finer grid agrees with the student."""

    def ramps(size: tuple[int, ...]) -> torch.Tensor:
        axes = torch.meshgrid(*[(torch.arange(n) + 0.5) / n for n in size], indexing="ij")
        return torch.stack([axes[0] + 1, axes[1] + 2, axes[2] + 0.5])[None]

    student = replace(view(1, 3, 0), features=ramps(GRID))
    fine = tuple(2 * n for n in GRID)
    teacher = replace(teach(view(1, 3, 1, grid=fine)), features=ramps(fine))
    noise = torch.randn(teacher.features.shape, generator=generator(0))
    for name, term in (("at", "attention"), ("mskd", "feature")):
        loss = make_distillation(name, {}, 3, (3,), CLASSES)
        near = loss(student, [teacher], LABELS[:1])[term].item()
        far = loss(student, [replace(teacher, features=noise)], LABELS[:1])[term].item()
        assert near < 0.002 < 0.05 < far
