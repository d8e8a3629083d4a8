"""The fused Gromov-Wasserstein discrepancy of small graphs: exact plans, batched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .transport import linear_transport

_QUANTILES = 32
#: Of the costs' scale: how much the order of the nodes weighs between starts that are equally good.
_TIE = 1e-8
#: Of the costs' scale: a plan that no other beats by more than this is stationary.
_STATIONARY = 1e-9


@dataclass(frozen=True)
class _Problem:
    source: Tensor
    target: Tensor
    p: Tensor
    q: Tensor
    cost: Tensor
    trade_off: float

    def squares(self) -> Tensor:
        """The part of the objective per cell that squared distances have, whatever the plan."""
        source = self.source.square() @ self.p[:, :, None]
        return self.trade_off * (source + (self.target.square() @ self.q[:, :, None]).mT)

    def linear(self) -> Tensor:
        return (1 - self.trade_off) * self.cost

    def products(self, plan: Tensor) -> Tensor:
        """The part that depends on the plan, from the other one of the two factors."""
        return -2 * self.trade_off * (self.source @ plan @ self.target)

    def value(self, plan: Tensor) -> Tensor:
        cells = self.squares() + self.linear() + self.products(plan)
        return (cells * plan).sum(dim=(1, 2))

    def scale(self) -> Tensor:
        return (self.squares() + self.linear()).abs().amax(dim=(1, 2))


@dataclass(frozen=True)
class Transport:
    """``value`` (N,), the discrepancy, differentiable; ``plan`` (N, S, T), float64 on most devices,
    without gradient."""

    value: Tensor
    plan: Tensor


def fused_gromov_wasserstein(
    source: Tensor,
    target: Tensor,
    p: Tensor,
    q: Tensor,
    cost: Tensor | None = None,
    trade_off: float = 0.5,
    start: Tensor | None = None,
    max_steps: int = 50,
) -> Transport:
    """Compare graphs by their distances, and by a cost between their nodes where one is given.

    The discrepancy is ``trade_off * sum_ijkl |D_s(i, j) - D_t(k, l)|^2 pi_ik pi_jl +
    (1 - trade_off) * sum_ik cost_ik pi_ik`` at a locally best plan pi with marginals p and q.
    No entropy: it is zero for equal graphs.

    Parameters
    ----------
    source, target : symmetric distances (N, S, S) and (N, T, T), finite where padded too.
    p, q : marginals (N, S) and (N, T), rows scaled to sum to 1; zero where padded.
    cost : (N, S, T), or None: pure Gromov-Wasserstein, whatever the trade-off.
    trade_off : 0..1, the weight of the distances, as POT's ``alpha``.
    start : plans to begin from; None takes the best plan of Memoli's third lower bound, in which
        two nodes match where their distances to all others are distributed alike. It knows no
        order of the nodes and finds equal graphs.

    The plan is found by conditional gradient with exact line search. Between cosine distances the
    objective is concave over the plans, so steps are whole and few are needed.

    The gradient is that of the objective with the plan held fixed: at a minimum over plans with
    fixed marginals this is the whole gradient (envelope theorem).

    Source: Peyre et al., ICML 2016; Vayer et al., ICML 2019; Memoli, Found. Comput. Math. 2011.
    """
    if cost is None:
        trade_off = 1.0
        cost = source.new_zeros(1).expand(len(source), source.shape[1], target.shape[1])
    exact = _solving_dtype(source.device)
    p, q = (x.to(exact) / x.to(exact).sum(dim=1, keepdim=True) for x in (p, q))
    problem = _Problem(source.to(exact), target.to(exact), p, q, cost.to(exact), trade_off)
    with torch.no_grad():
        plan = _start(problem) if start is None else start.to(exact)
        plan = _conditional_gradient(problem, plan, max_steps)
    return Transport(problem.value(plan).to(source.dtype), plan)


def _conditional_gradient(problem: _Problem, plan: Tensor, max_steps: int) -> Tensor:
    constant = 2 * problem.squares() + problem.linear()
    still = _STATIONARY * problem.scale()
    for _ in range(max_steps):
        slope = constant + 2 * problem.products(plan)
        step = linear_transport(slope, problem.p, problem.q) - plan
        first = (slope * step).sum(dim=(1, 2))
        moving = -first > still
        if not moving.any():
            break
        second = (problem.products(step) * step).sum(dim=(1, 2))
        inside = (-first / (2 * torch.where(second > 0, second, 1.0))).clamp(0, 1)
        length = torch.where(second > 0, inside, (first + second < 0).to(first.dtype))
        plan = plan + torch.where(moving, length, 0.0)[:, None, None] * step
    return plan


def _start(problem: _Problem) -> Tensor:
    p, q = problem.p, problem.q
    quantiles = _quantiles(problem.source, p)[:, :, None]
    difference = quantiles - _quantiles(problem.target, q)[:, None]
    bound = problem.trade_off * difference.square().mean(dim=3) + problem.linear()
    # Symmetric graphs, two nodes already, leave many plans equally good; between two of these no
    # slope leads anywhere. The order of the nodes decides.
    order = ((p.cumsum(dim=1) - p / 2)[:, :, None] - (q.cumsum(dim=1) - q / 2)[:, None]).square()
    return linear_transport(bound + _TIE * problem.scale()[:, None, None] * order, p, q)


def _quantiles(distances: Tensor, p: Tensor) -> Tensor:
    """Quantiles of every node's distances to all nodes, (N, S, quantiles)."""
    weights = p[:, None, :].expand_as(distances)
    values, order = torch.where(weights > 0, distances, torch.inf).sort(dim=2)
    reached = weights.gather(2, order).cumsum(dim=2)
    levels = torch.arange(_QUANTILES, device=p.device, dtype=p.dtype).add(0.5) / _QUANTILES
    places = torch.searchsorted(reached, levels.expand(*reached.shape[:2], -1).contiguous())
    last = (p > 0).sum(dim=1).sub(1).clamp_min(0)[:, None, None]
    return values.gather(2, torch.minimum(places, last))


def _solving_dtype(device: torch.device) -> torch.dtype:
    """Double precision, except on Apple's devices, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64
