"""Distillation of region graphs by optimal transport: the three terms of REACT-KD."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .gromov import fused_gromov_wasserstein
from .transport import sinkhorn
from .views import RegionGraphs, directions

#: Entropy and iterations of the authors' plan.
_SURROGATE_EPSILON, _SURROGATE_ITERATIONS = 0.05, 100


@dataclass(frozen=True)
class GraphTerms:
    """``node``, ``edge`` and ``gromov_wasserstein``, each (N,); ``plan`` (N, S, T)."""

    node: Tensor
    edge: Tensor
    gromov_wasserstein: Tensor
    plan: Tensor


def similarities(graphs: RegionGraphs) -> Tensor:
    """Cosine similarities of the regions, (N, R, R); 1 on the diagonal, 0 beside padding."""
    nodes = directions(graphs.nodes())
    own = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
    return torch.where(own, 1.0, nodes @ nodes.mT)


def graph_terms(
    student: RegionGraphs,
    teacher: RegionGraphs,
    projected: Tensor | None,
    trade_off: float = 0.5,
) -> GraphTerms:
    """Node, edge and Gromov-Wasserstein term of every pair of graphs.

    With pi the plan of the fused Gromov-Wasserstein problem between the cosine distances
    ``1 - similarity`` of student and teacher, and P its rows divided by their sums:

    - node: mean over student nodes of ``|s_i - (P t)_i|^2`` between directions, 0..4;
    - edge: mean over pairs of student nodes of ``(S_s - P S_t P^T)^2``, diagonals taken as equal;
    - gromov_wasserstein: the discrepancy itself.

    "Mean" is by the student's marginals. The plan carries no gradient.

    Parameters
    ----------
    student, teacher : graphs of N samples, each with a region at least; their node counts and
        widths may differ.
    projected : (N, S, teacher's width), the student's :meth:`~.RegionGraphs.nodes` brought to the
        teacher's width; None where there is no way to compare features: the plan is that of pure
        Gromov-Wasserstein and the node term is zero.
    trade_off : weight of the distances against the feature cost ``1 - cosine`` in plan and
        discrepancy.

    Source: REACT-KD, region graph distillation.
    """
    p, q = student.marginals(), teacher.marginals()
    student_edges, teacher_edges = similarities(student), similarities(teacher)
    teacher_nodes = directions(teacher.nodes())
    nodes = cost = None
    if projected is not None:
        nodes = directions(projected)
        cost = 1 - nodes @ teacher_nodes.mT
    transport = fused_gromov_wasserstein(
        1 - student_edges, 1 - teacher_edges, p, q, cost, trade_off
    )
    dtype = student_edges.dtype
    rows = _divide_rows(transport.plan).to(dtype)
    p = p.to(dtype)
    own = torch.eye(p.shape[1], dtype=torch.bool, device=p.device)
    edge = (student_edges - rows @ teacher_edges @ rows.mT).masked_fill(own, 0.0).square()
    return GraphTerms(
        node=transport.value.new_zeros(len(p))
        if nodes is None
        else ((nodes - rows @ teacher_nodes).square().sum(dim=2) * p).sum(dim=1),
        edge=(edge * p[:, :, None] * p[:, None, :]).sum(dim=(1, 2)),
        gromov_wasserstein=transport.value,
        plan=transport.plan,
    )


def surrogate_terms(student: RegionGraphs, teacher: RegionGraphs) -> GraphTerms:
    """The terms as the authors' code computes them; for comparison with their figures only.

    The plan is that of plain entropic transport on the feature cost, differentiated through. It
    sums to 1 and is applied to edges and distances without rescaling, so projected similarities
    shrink with the number of nodes, and the third term is no Gromov-Wasserstein discrepancy: it is
    not zero for equal graphs. All terms are means over entries, the node term over channels too.

    Parameters
    ----------
    student, teacher : graphs of N samples, each with a region at least, of one feature width.

    Source: the repository of REACT-KD, as described there; the code is ours.
    """
    nodes, teacher_nodes = directions(student.nodes()), directions(teacher.nodes())
    p, q = (replace(graphs, mass=None).marginals().to(nodes.dtype) for graphs in (student, teacher))
    cost = 1 - nodes @ teacher_nodes.mT
    plan = sinkhorn(cost, p, q, _SURROGATE_EPSILON, _SURROGATE_ITERATIONS)
    student_edges, teacher_edges = similarities(student), similarities(teacher)
    own = torch.eye(p.shape[1], dtype=torch.bool, device=p.device)
    projected_edges = torch.where(own, 1.0, plan @ teacher_edges @ plan.mT)
    projected_distances = plan @ (1 - teacher_edges) @ plan.mT
    pairs = p[:, :, None] * p[:, None, :]
    aligned = _divide_rows(plan) @ teacher_nodes
    return GraphTerms(
        node=((nodes - aligned).square().mean(dim=2) * p).sum(dim=1),
        edge=((student_edges - projected_edges).square() * pairs).sum(dim=(1, 2)),
        gromov_wasserstein=((1 - student_edges - projected_distances).square() * pairs).sum(
            dim=(1, 2)
        ),
        plan=plan,
    )


def _divide_rows(plan: Tensor) -> Tensor:
    sums = plan.sum(dim=2, keepdim=True)
    return plan / torch.where(sums > 0, sums, 1.0)
