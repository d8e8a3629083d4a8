"""Linear optimal transport between small histograms, batched: exact, and with entropy.

Plans here are numbers, not functions of the cost: :func:`linear_transport` gives no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CENTRING = 0.05  # how far a step lowers the barrier
_STEP = 0.999  # part of the way to the boundary that a step goes


@torch.no_grad()
def linear_transport(
    cost: Tensor, p: Tensor, q: Tensor, tolerance: float = 1e-10, max_steps: int = 60
) -> Tensor:
    """Plans of least cost with given marginals, to the accuracy of a linear program's solver.

    A primal-dual interior-point method: all samples step together, each until its duality gap per
    cell is below ``tolerance`` times its largest cost. Where several plans are best, the result
    lies between them. Every iterate has the marginals, so a plan that ran out of steps is dear, not
    wrong.

    Parameters
    ----------
    cost : (N, S, T), finite.
    p, q : (N, S) and (N, T), non-negative, with equal positive sums; zero where padded.

    Returns
    -------
    Tensor : plans (N, S, T), rows summing to p and columns to q.

    Source: Wright, Primal-Dual Interior-Point Methods, 1997. A transport's normal equations reduce
    to one (T, T) Cholesky factor.
    """
    rows, columns = (p > 0).to(cost.dtype), (q > 0).to(cost.dtype)
    inside = rows[:, :, None] * columns[:, None, :]
    outside = 1 - inside
    cells = inside.sum(dim=(1, 2), keepdim=True)
    cost = torch.where(inside > 0, cost, 0.0)
    scale = cost.abs().amax(dim=(1, 2), keepdim=True)
    cost = cost / torch.where(scale > 0, scale, 1.0)

    plan = p[:, :, None] * q[:, None, :]
    slack = cost + 1 + inside  # positive: row potentials -2, column potentials 0; 1 where padded
    for _ in range(max_steps):
        gap = (plan * slack).sum(dim=(1, 2), keepdim=True) / cells
        moving = gap > tolerance
        if not moving.any():
            break
        ratio = plan / slack
        towards = _CENTRING * gap * inside / slack - plan
        by_row = ratio.sum(dim=2) + (1 - rows)
        by_column = ratio.sum(dim=1) + (1 - columns)
        scaled = ratio / by_row[:, :, None]
        normal = torch.diag_embed(by_column) - ratio.mT @ scaled
        # Potentials are free up to a constant; a trace on the diagonal chooses one.
        normal.diagonal(dim1=1, dim2=2).add_(1e-13 * by_column)
        factor, failed = torch.linalg.cholesky_ex(normal)
        moving = moving & (failed == 0)[:, None, None]  # as near as rounding lets it come
        missing = -towards.sum(dim=2)
        rest = -towards.sum(dim=1) - (scaled.mT @ missing[:, :, None])[:, :, 0]
        column_change = torch.cholesky_solve(rest[:, :, None], factor)
        row_change = (missing[:, :, None] - ratio @ column_change) / by_row[:, :, None]
        change = (row_change + column_change.mT) * inside
        step = towards + ratio * change
        plan = torch.where(moving, plan + _reach(plan + outside, -step) * step, plan)
        slack = torch.where(moving, slack - _reach(slack, change) * change, slack)
    return plan


def _reach(values: Tensor, loss: Tensor) -> Tensor:
    """The longest step, 1 at most, that leaves ``values - step * loss`` positive."""
    fastest = (loss / values).amax(dim=(1, 2), keepdim=True)
    return (_STEP / fastest.clamp_min(_STEP)).clamp_max(1.0)


def sinkhorn(cost: Tensor, p: Tensor, q: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Entropic plans by alternate scaling in the log domain; differentiable in the cost.

    Parameters
    ----------
    cost : (N, S, T).
    p, q : (N, S) and (N, T) marginals, zero where padded.
    epsilon : weight of the entropy, in units of the cost.
    iterations : of one row and one column scaling each.

    Returns
    -------
    Tensor : plans (N, S, T). Columns sum to q; rows to p once converged.

    Source: Cuturi, NeurIPS 2013.
    """
    lowest = torch.finfo(cost.dtype).min / 4  # instead of -inf, whose gradients are not numbers
    log_p, log_q = (
        x.clamp_min(torch.finfo(x.dtype).tiny).log().masked_fill(x == 0, lowest) for x in (p, q)
    )
    valid = (p > 0)[:, :, None] & (q > 0)[:, None, :]
    kernel = torch.where(valid, -cost / epsilon, 0.0)
    column = torch.zeros_like(q).masked_fill(q == 0, lowest)
    for _ in range(iterations):
        row = log_p - torch.logsumexp(kernel + column[:, None, :], dim=2)
        column = log_q - torch.logsumexp(kernel + row[:, :, None], dim=1)
    plan = torch.exp(kernel + row[:, :, None] + column[:, None, :])
    return torch.where(valid, plan, 0.0)
