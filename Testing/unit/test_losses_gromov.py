"""Linear and Gromov-Wasserstein transport, against POT."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from loss_views import generator, unit

from training.losses.gromov import fused_gromov_wasserstein
from training.losses.transport import linear_transport, sinkhorn

SIZES = [(4, 4), (4, 9), (7, 5), (12, 12), (11, 16), (16, 16)]
DOUBLE = {"dtype": torch.float64}


def histogram(n: int, uniform: bool, g: torch.Generator) -> torch.Tensor:
    weights = torch.ones(n, **DOUBLE) if uniform else torch.rand(n, generator=g, **DOUBLE) + 0.1
    return weights / weights.sum()


def problem(n: int, m: int, seed: int, uniform: bool = True, noise: float | None = None):
    """Cosine distances of two graphs, their cosine cost, marginals. Unrelated, or one a noisy copy
    of the other in another order."""
    g = generator(seed)
    x, y = torch.randn((n, 6), generator=g, **DOUBLE), torch.randn((m, 6), generator=g, **DOUBLE)
    if noise is not None:
        same = min(n, m)
        y[:same] = x[:same] + noise * y[:same]
        y = y[torch.randperm(m, generator=g)]
    x, y = unit(x), unit(y)
    p, q = histogram(n, uniform, g), histogram(m, uniform, g)
    return distances(x), distances(y), 1 - x @ y.T, p, q


def distances(x: torch.Tensor) -> torch.Tensor:
    return (1 - x @ x.mT).masked_fill(torch.eye(x.shape[-2]).bool(), 0.0)


def solve(source, target, cost, p, q, trade_off, start=None):
    numbers = (source, target, p, q, cost)
    batch = [None if x is None else x[None] for x in (*numbers, start)]
    result = fused_gromov_wasserstein(*batch[:5], trade_off, batch[5])
    return result.value[0], result.plan[0]


def pot(source, target, cost, p, q, trade_off, start=None) -> float:
    args = [x.numpy() for x in (cost, source, target, p, q)]
    start = None if start is None else start.numpy()
    return float(ot.gromov.fused_gromov_wasserstein2(*args, alpha=trade_off, G0=start))


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize(("n", "m"), [*SIZES, (1, 1), (1, 5), (2, 2)])
def test_linear_plans_are_as_cheap_as_pots_and_have_the_marginals(n, m, uniform):
    g = generator(n * 100 + m)
    cost = (
        torch.rand((5, n, m), generator=g, **DOUBLE)
        * torch.tensor([1e-6, 1, 50, 1, 1])[:, None, None]
        - 0.5
    )
    p = torch.stack([histogram(n, uniform, g) for _ in range(5)])
    q = torch.stack([histogram(m, uniform, g) for _ in range(5)])
    plan = linear_transport(cost, p, q)
    assert plan.min() >= 0
    torch.testing.assert_close(plan.sum(dim=2), p, atol=1e-8, rtol=0)
    torch.testing.assert_close(plan.sum(dim=1), q, atol=1e-8, rtol=0)
    for index in range(5):
        exact = ot.emd2(p[index].numpy(), q[index].numpy(), cost[index].numpy())
        found = (cost[index] * plan[index]).sum().item()
        assert found == pytest.approx(exact, abs=3e-8 * cost[index].abs().max().item())


def test_padding_is_no_part_of_a_linear_plan():
    g = generator(5)
    cost = torch.rand((1, 4, 3), generator=g, **DOUBLE)
    p, q = histogram(4, True, g)[None], histogram(3, True, g)[None]
    padded = torch.full((1, 6, 5), 1e6, **DOUBLE)
    padded[:, :4, 1:4] = cost
    plan = linear_transport(
        padded, torch.nn.functional.pad(p, (0, 2)), torch.nn.functional.pad(q, (1, 1))
    )
    torch.testing.assert_close(plan[:, :4, 1:4], linear_transport(cost, p, q), atol=1e-9, rtol=0)
    assert plan.count_nonzero() == plan[:, :4, 1:4].count_nonzero()


def test_sinkhorn_is_pots_with_padding_and_has_a_gradient():
    g = generator(6)
    cost = torch.rand((1, 5, 4), generator=g, **DOUBLE)
    p, q = histogram(5, False, g), histogram(4, False, g)
    expected = ot.sinkhorn(p.numpy(), q.numpy(), cost[0].numpy(), 0.05, numItermax=5000)
    padded = torch.nn.functional.pad(cost, (0, 2, 0, 1), value=7.0).requires_grad_()
    pads = torch.nn.functional.pad(p, (0, 1))[None], torch.nn.functional.pad(q, (0, 2))[None]
    plan = sinkhorn(padded, *pads, epsilon=0.05, iterations=2000)
    np.testing.assert_allclose(plan[0, :5, :4].detach().numpy(), expected, atol=1e-9)
    assert plan.sum().item() == pytest.approx(1)

    def cut(c: torch.Tensor) -> torch.Tensor:
        return sinkhorn(c, p[None], q[None], 0.2, 20)

    assert torch.autograd.gradcheck(cut, cost.requires_grad_())
    (gradient,) = torch.autograd.grad(plan.square().sum(), padded)
    assert torch.isfinite(gradient).all()
    assert gradient[:, 5:].abs().max() == 0


@pytest.mark.parametrize("trade_off", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("noise", [None, 0.3])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_the_value_is_pots(n, m, noise, trade_off):
    for seed in range(3):
        args = problem(n, m, seed, uniform=seed < 2, noise=noise)
        p, q = args[-2:]
        product = p[:, None] * q[None]
        # From the same plan, the same value.
        value, _ = solve(*args, trade_off, product)
        assert value.item() == pytest.approx(pot(*args, trade_off, product), abs=1e-6)
        # From our own start, one that POT cannot lower.
        value, plan = solve(*args, trade_off)
        assert value.item() == pytest.approx(pot(*args, trade_off, plan), abs=1e-6)
        torch.testing.assert_close(plan.sum(dim=1), p, atol=1e-8, rtol=0)


def test_pure_gromov_wasserstein_is_pots():
    source, target, _, p, q = problem(9, 6, 1)
    value, plan = solve(source, target, None, p, q, 0.5)
    args = [x.numpy() for x in (source, target, p, q)]
    found = ot.gromov.gromov_wasserstein2(*args, G0=plan.numpy())
    assert value.item() == pytest.approx(float(found), abs=1e-6)


def test_the_start_is_better_than_the_product_on_graphs_that_resemble_each_other():
    ours, pots = [], []
    for seed in range(20):
        args = problem(10, 8, seed, noise=0.3)
        ours.append(solve(*args, 1.0)[0].item())
        pots.append(pot(*args, 1.0))
    assert np.mean(ours) < np.mean(pots)


def test_the_definition_in_four_loops():
    source, target, cost, p, q = problem(4, 3, 2, uniform=False)
    value, plan = solve(source, target, cost, p, q, 0.3)
    total = 0.0
    for i in range(4):
        for k in range(3):
            total += 0.7 * cost[i, k] * plan[i, k]
            for j in range(4):
                for m in range(3):
                    difference = (source[i, j] - target[k, m]) ** 2
                    total += 0.3 * difference * plan[i, k] * plan[j, m]
    assert value.item() == pytest.approx(float(total), abs=1e-9)


def test_where_the_objective_is_convex_a_step_ends_inside():
    """Not so between cosine distances. Conditional gradient is slow there, hence the tolerance."""
    args = problem(8, 8, 3)
    args = (-args[0].sqrt(), args[1].sqrt(), *args[2:])
    value, plan = solve(*args, 0.9)
    assert value.item() == pytest.approx(pot(*args, 0.9, plan), abs=1e-3)
    assert len(torch.unique(plan.round(decimals=4))) > 2  # no permutation


@pytest.mark.parametrize("trade_off", [1.0, 0.5])
def test_gradients_are_pots_and_finite_differences(trade_off):
    source, target, cost, p, q = problem(6, 5, 4)
    source.requires_grad_()
    cost.requires_grad_()
    value, plan = solve(source, target, cost, p, q, trade_off)
    gradients = torch.autograd.grad(value, (source, cost))
    args = [x.detach().clone().requires_grad_() for x in (cost, source)]
    oracle = ot.gromov.fused_gromov_wasserstein2(*args, target, p, q, alpha=trade_off, G0=plan)
    expected = torch.autograd.grad(oracle, args, allow_unused=True)
    torch.testing.assert_close(gradients[0], expected[1], atol=1e-7, rtol=0)
    torch.testing.assert_close(gradients[1], expected[0], atol=1e-7, rtol=0)
    # The plan is found anew on either side: the envelope theorem, not only the formula.
    step = 1e-4
    g = generator(9)
    for _ in range(4):
        d_source = torch.randn((6, 6), generator=g, **DOUBLE)
        d_source = d_source + d_source.T
        d_cost = torch.randn((6, 5), generator=g, **DOUBLE)
        with torch.no_grad():
            ends = [
                solve(source + h * d_source, target, cost + h * d_cost, p, q, trade_off, plan)[0]
                for h in (step, -step)
            ]
        slope = (gradients[0] * d_source).sum() + (gradients[1] * d_cost).sum()
        assert ((ends[0] - ends[1]) / (2 * step)).item() == pytest.approx(slope.item(), abs=1e-5)


@pytest.mark.parametrize("trade_off", [1.0, 0.5])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 16])
def test_equal_graphs_in_any_order_are_no_distance_apart(n, trade_off):
    source, _, _, p, _ = problem(n, n, n)
    order = torch.randperm(n, generator=generator(n))
    target = source[order][:, order]
    value, plan = solve(source, target, None, p, p, trade_off)
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert value.item() >= 0
    if n > 2:  # two nodes match either way
        torch.testing.assert_close(plan[order], torch.eye(n, **DOUBLE) / n, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        solve(source, source, None, p, p, trade_off)[1],
        torch.eye(n, **DOUBLE) / n,
        atol=1e-4,
        rtol=0,
    )


def test_two_nodes_by_hand():
    """Distances a and b: |a - b|^2 twice over pairs of weight 1/4, with either matching."""
    source, target = (torch.tensor([[0.0, d], [d, 0.0]], **DOUBLE) for d in (0.9, 0.4))
    half = torch.full((2,), 0.5, **DOUBLE)
    assert solve(source, target, None, half, half, 1.0)[0].item() == pytest.approx(0.125, abs=1e-8)


def test_order_batch_and_padding_change_nothing():
    batch = [problem(n, m, n) for n, m in ((5, 8), (7, 4), (2, 2), (8, 8))]
    size, single, permuted = 10, [], []
    padded = {
        "source": torch.full((4, size, size), 3.0, **DOUBLE),
        "target": torch.full((4, size, size), 5.0, **DOUBLE),
        "p": torch.zeros(4, size, **DOUBLE),
        "q": torch.zeros(4, size, **DOUBLE),
        "cost": torch.full((4, size, size), -9.0, **DOUBLE),
    }
    for index, (source, target, cost, p, q) in enumerate(batch):
        single.append(solve(source, target, cost, p, q, 0.5))
        n, m = cost.shape
        o, r = (torch.randperm(k, generator=generator(k)) for k in (n, m))
        permuted.append(solve(source[o][:, o], target[r][:, r], cost[o][:, r], p[o], q[r], 0.5)[0])
        rows = torch.randperm(size, generator=generator(n))[:n].sort().values
        columns = torch.randperm(size, generator=generator(m + 50))[:m].sort().values
        padded["source"][index, rows[:, None], rows] = source
        padded["target"][index, columns[:, None], columns] = target
        padded["cost"][index, rows[:, None], columns] = cost
        padded["p"][index, rows] = p
        padded["q"][index, columns] = q
    together = fused_gromov_wasserstein(**padded, trade_off=0.5)
    values = torch.stack([value for value, _ in single])
    torch.testing.assert_close(together.value, values, atol=1e-7, rtol=0)
    torch.testing.assert_close(torch.stack(permuted), values, atol=1e-7, rtol=0)


def test_single_precision_in_and_out():
    args = [x.float() for x in problem(6, 6, 8)]
    value, _ = solve(*args, 0.5)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(solve(*problem(6, 6, 8), 0.5)[0].item(), abs=1e-6)
