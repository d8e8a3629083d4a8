"""The region graph terms of REACT-KD and its loss, against numpy and POT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import ot
import pytest
import torch
from loss_views import CLASSES, generator, graphs_of, teach, view

from REACTKDLib.errors import OptionError
from training.losses import RegionGraphs, make_distillation
from training.losses.region_graph import graph_terms, surrogate_terms

TERMS = ("node", "edge", "gromov_wasserstein")


def rows(graphs: RegionGraphs, index: int) -> np.ndarray:
    """Directions of one graph's nodes, without padding."""
    x = graphs.features[index][graphs.mask[index]].detach().numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def expected_terms(s: np.ndarray, t: np.ndarray, plan: np.ndarray, trade_off: float) -> list[float]:
    """The terms from their formulas, uniform marginals, at a plan."""
    aligned = plan / plan.sum(1, keepdims=True)
    edge = (s @ s.T - aligned @ (t @ t.T) @ aligned.T) ** 2
    np.fill_diagonal(edge, 0)
    d_s, d_t = 1 - s @ s.T, 1 - t @ t.T
    np.fill_diagonal(d_s, 0)
    np.fill_diagonal(d_t, 0)
    difference = (d_s[:, :, None, None] - d_t[None, None]) ** 2  # i, j, k, l
    gromov = np.einsum("ijkl,ik,jl->", difference, plan, plan)
    return [
        ((s - aligned @ t) ** 2).sum(1).mean(),
        edge.mean(),
        trade_off * gromov + (1 - trade_off) * ((1 - s @ t.T) * plan).sum(),
    ]


@pytest.mark.parametrize("trade_off", [1.0, 0.4])
def test_the_terms_are_their_formulas_at_pots_plan(trade_off):
    student, teacher = graphs_of(4, 7, 3, seed=1, padding=2), graphs_of(6, 7, 2, seed=2, padding=1)
    terms = graph_terms(student, teacher, student.nodes(), trade_off)
    for index, (n, m) in enumerate([(4, 6), (7, 7), (3, 2)]):
        s, t = rows(student, index), rows(teacher, index)
        start = terms.plan[index, :n, :m].numpy()
        args = (1 - s @ t.T, 1 - s @ s.T, 1 - t @ t.T)
        plan = ot.gromov.fused_gromov_wasserstein(*args, alpha=trade_off, G0=start)
        found = [getattr(terms, name)[index].item() for name in TERMS]
        np.testing.assert_allclose(found, expected_terms(s, t, plan, trade_off), atol=1e-6)
        assert terms.plan[index].sum() == pytest.approx(start.sum())


def test_equal_graphs_in_another_order_cost_nothing():
    student = graphs_of(5, 12, 1, seed=3, padding=1)
    order = torch.randperm(13, generator=generator(0))
    teacher = RegionGraphs(student.features[:, order] * 2.5, student.mask[:, order])
    terms = graph_terms(student, teacher, student.nodes())
    for name in TERMS:
        torch.testing.assert_close(
            getattr(terms, name), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0
        )


def test_without_a_common_width_the_plan_is_pure_and_nodes_are_not_compared():
    student = graphs_of(6, 4, seed=4)
    turned = torch.linalg.qr(torch.randn((12, 12), generator=generator(1)).double()).Q[:8]
    teacher = RegionGraphs(student.features @ turned, student.mask)  # isometric, wider
    terms = graph_terms(student, teacher, None)
    assert terms.node.tolist() == [0, 0]
    torch.testing.assert_close(terms.edge, torch.zeros_like(terms.edge), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        terms.gromov_wasserstein, torch.zeros_like(terms.edge), atol=1e-6, rtol=0
    )


def test_two_orthogonal_nodes_against_two_equal_ones_by_hand():
    """Distances 1 and 0: GW is 2 pairs of weight 1/4, so 1/2. Edges: (0 - 1)^2 off the diagonal,
    half of the pairs. Student e1, e2, teacher e1, e1: squared distances 0 and 2, mean 1."""
    nodes = torch.eye(2, dtype=torch.float64)[None]
    mask = torch.ones(1, 2, dtype=torch.bool)
    teacher = RegionGraphs(nodes[:, [0, 0]], mask)
    terms = graph_terms(RegionGraphs(nodes, mask), teacher, nodes, trade_off=1.0)
    assert [getattr(terms, name).item() for name in TERMS] == pytest.approx([1, 0.5, 0.5], abs=1e-9)


def test_regions_that_are_all_alike_or_silent_give_finite_gradients():
    alike = torch.ones(2, 5, 8, dtype=torch.float64)
    alike[1] = 0  # no direction at all
    alike.requires_grad_()
    student = RegionGraphs(alike, torch.ones(2, 5, dtype=torch.bool))
    terms = graph_terms(student, graphs_of(4, 4, seed=1), student.nodes())
    same = graph_terms(student, student.detach(), student.nodes(), trade_off=1.0)
    assert same.gromov_wasserstein.abs().max() < 1e-7
    loss = sum(getattr(terms, name).sum() for name in TERMS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(alike.grad).all()


def test_mass_weighs_the_regions():
    student, teacher = graphs_of(4, seed=5), graphs_of(3, seed=6)
    heavy = torch.tensor([[8.0, 1.0, 1.0, 2.0]])
    terms = graph_terms(replace(student, mass=heavy), teacher, student.nodes())
    torch.testing.assert_close(terms.plan.sum(dim=2)[0], heavy[0].double() / 12, atol=1e-7, rtol=0)
    aligned = terms.plan / terms.plan.sum(dim=2, keepdim=True)
    s, t = torch.tensor(rows(student, 0)), torch.tensor(rows(teacher, 0))
    node = ((s - aligned[0] @ t).square().sum(dim=1) * heavy[0] / 12).sum()
    torch.testing.assert_close(terms.node[0], node, atol=1e-7, rtol=0)


def test_padding_order_and_batch_change_nothing_and_nan_in_padding_hurts_nobody():
    student, teacher = graphs_of(4, 7, seed=7), graphs_of(6, 5, seed=8)
    whole = graph_terms(student, teacher, student.nodes())
    order = torch.randperm(7, generator=generator(3))
    features = torch.where(student.mask[..., None], student.features, torch.nan)
    features.requires_grad_()
    shuffled = RegionGraphs(features[:, order], student.mask[:, order])
    wide = RegionGraphs(
        torch.nn.functional.pad(teacher.features, (0, 0, 0, 3), value=torch.nan),
        torch.nn.functional.pad(teacher.mask, (0, 3)),
    )
    again = graph_terms(shuffled, wide, shuffled.nodes())
    for name in TERMS:
        torch.testing.assert_close(getattr(again, name), getattr(whole, name), atol=1e-6, rtol=0)
        for index in range(2):
            pick = torch.tensor([index])
            alone = graph_terms(student[pick], teacher[pick], student.nodes()[pick])
            torch.testing.assert_close(
                getattr(alone, name)[0], getattr(whole, name)[index], atol=1e-6, rtol=0
            )
    sum(getattr(again, name).sum() for name in TERMS).backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad[~student.mask].abs().max() == 0


def test_gradients_follow_the_loss():
    """A step along the gradient lowers every term; node and edge hold the plan fixed."""
    teacher = graphs_of(5, seed=9)
    for name in TERMS:
        start = graphs_of(5, seed=10).features.requires_grad_()

        def term(features, name=name):
            graphs = RegionGraphs(features, teacher.mask)
            return getattr(graph_terms(graphs, teacher, features), name).sum()

        (slope,) = torch.autograd.grad(term(start), start)
        drop = term(start) - term(start - 1e-4 * slope / slope.norm())
        assert drop.item() == pytest.approx(1e-4 * slope.norm().item(), rel=1e-2)


def test_the_surrogate_is_the_authors_formulas():
    student, teacher = graphs_of(4, 6, seed=11, padding=1), graphs_of(5, 6, seed=12)
    terms = surrogate_terms(student, teacher)
    for index, (n, m) in enumerate([(4, 5), (6, 6)]):
        s, t = rows(student, index), rows(teacher, index)
        kernel = np.exp(-(1 - s @ t.T) / 0.05)
        u, v = np.ones(n), np.ones(m)
        for _ in range(100):
            u = (1 / n) / (kernel @ v)
            v = (1 / m) / (kernel.T @ u)
        plan = u[:, None] * kernel * v
        edges = plan @ (t @ t.T) @ plan.T
        np.fill_diagonal(edges, 1)
        expected = [
            ((s - plan @ t / plan.sum(1, keepdims=True)) ** 2).mean(),
            ((s @ s.T - edges) ** 2).mean(),
            ((1 - s @ s.T - plan @ (1 - t @ t.T) @ plan.T) ** 2).mean(),
        ]
        found = [getattr(terms, name)[index].item() for name in TERMS]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    # What is wrong with it: equal graphs are not at distance zero.
    assert surrogate_terms(student, student).gromov_wasserstein.min() > 0.1


def test_react_kd_is_the_weighted_sum_over_teachers():
    settings = {"alpha": 0.3, "graph": 2.0, "node": 0.5, "edge": 3.0, "trade_off": 0.7}
    loss = make_distillation("react_kd", settings, 8, (8, 12), CLASSES)
    student, near = view(3, 8, 0), teach(view(3, 8, 1), [True, False, True])
    wide = teach(view(3, 12, 2, grid=(2, 2, 2), regions=6), [True, True, False])
    terms = loss(student, [near, wide], torch.tensor([0, 1, 2]))
    # A layer a teacher, even of the student's width: two teachers have two systems of coordinates.
    nodes = [layer(student.graphs.nodes()) for layer in loss.projections]
    pairs = [
        graph_terms(student.graphs, teacher.graphs, projected, 0.7)
        for teacher, projected in zip((near, wide), nodes, strict=True)
    ]
    for name, weight in zip(TERMS, (1.0, 6.0, 2.0), strict=True):
        a, b = (getattr(pair, name) for pair in pairs)
        expected = weight * ((a[0] + b[0]) / 2 + b[1] + a[2]) / 3
        torch.testing.assert_close(terms[name], expected, atol=1e-5, rtol=0)
    kd = make_distillation("kd", {"alpha": 0.3}, 8, (8, 12), CLASSES)
    assert terms["logits"] == kd(student, [near, wide], torch.tensor([0, 1, 2]))["logits"]


@pytest.mark.parametrize("off", ["logits", *TERMS])
def test_every_term_can_be_switched_off_alone(off):
    student, teachers, labels = view(2, 8, 0), [teach(view(2, 12, 1))], torch.tensor([0, 1])
    torch.manual_seed(0)
    whole = make_distillation("react_kd", {}, 8, (12,), CLASSES)
    less = make_distillation("react_kd", {off: False if off == "logits" else 0}, 8, (12,), CLASSES)
    less.load_state_dict(whole.state_dict())
    expected = whole(student, teachers, labels)
    assert set(expected) == {"logits", *TERMS}
    del expected[off]
    torch.testing.assert_close(less(student, teachers, labels), expected)


def test_react_kd_without_projections_and_as_the_surrogate():
    student, teachers, labels = view(2, 8, 0), [teach(view(2, 12, 1))], torch.tensor([0, 1])
    pure = make_distillation("react_kd", {"project": False}, 8, (12,), CLASSES)
    assert not list(pure.parameters())
    assert pure(student, teachers, labels)["node"] == 0
    with pytest.raises(OptionError, match="surrogate"):
        make_distillation("react_kd", {"surrogate": True}, 8, (12,), CLASSES)
    with pytest.raises(OptionError, match="trade-off"):
        make_distillation("react_kd", {"trade_off": 1.5}, 8, (12,), CLASSES)
    paper = make_distillation("react_kd", {"surrogate": True}, 8, (8,), CLASSES)
    teacher = teach(view(2, 8, 3))
    found = paper(student, [teacher], labels)
    expected = surrogate_terms(student.graphs, teacher.graphs)
    for name in TERMS:
        torch.testing.assert_close(found[name], getattr(expected, name).mean())


def test_samples_without_regions_do_not_count():
    student, teacher = view(3, 8, 0), teach(view(3, 8, 1))
    mask = student.graphs.mask.clone()
    mask[1] = False
    emptied = replace(student, graphs=replace(student.graphs, mask=mask))
    loss = make_distillation("react_kd", {"logits": False}, 8, (8,), CLASSES)
    found = loss(emptied, [teacher], torch.tensor([0, 1, 2]))
    keep = torch.tensor([0, 2])
    one = loss(student[keep], [teach(teacher[keep])], torch.tensor([0, 2]))
    torch.testing.assert_close(found, one)
