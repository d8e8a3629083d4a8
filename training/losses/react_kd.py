"""REACT-KD: softened answers and region graphs of several teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from REACTKDLib.errors import OptionError

from .distillation import Distillation, Projections, mean_of_pairs, weighted
from .kd import ResponseSettings, response_term
from .region_graph import graph_terms, surrogate_terms
from .views import NetworkView, TeacherView


@dataclass(frozen=True)
class ReactKDSettings(ResponseSettings):
    """Of :class:`ReactKD`; the response's settings are those of :class:`~.kd.ResponseSettings`.

    ``logits`` off, or a weight of 0, leaves a term out: the ablations. ``graph`` multiplies the
    weights ``node``, ``edge`` and ``gromov_wasserstein``. ``trade_off`` 0..1 weighs distances
    against feature cost in the plan. ``project`` compares features through a learned linear layer
    a teacher; without it a teacher of another width has no node term, and its plan is that of pure
    Gromov-Wasserstein. ``surrogate`` computes the graph terms as the authors' code does.
    """

    logits: bool = True
    graph: float = 1.0
    node: float = 1.0
    edge: float = 1.0
    gromov_wasserstein: float = 1.0
    trade_off: float = 0.5
    project: bool = True
    surrogate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.trade_off <= 1:
            raise OptionError(f"A trade-off of {self.trade_off}.", "Give a number from 0 to 1.")


class ReactKD(Distillation):
    """Answers of the teachers, and their region graphs through optimal transport.

    The loss is ``logits + graph * (node + edge + gromov_wasserstein)``, each with its weight. See
    :func:`~.region_graph.graph_terms`, and :func:`~.region_graph.surrogate_terms` for the
    authors' surrogate. The plan is found whenever a term needs it, so an ablation of the
    Gromov-Wasserstein term leaves the alignment of nodes and edges as it was.

    Source: REACT-KD (arXiv 2508.02104).

    Raises
    ------
    OptionError : the surrogate with teachers of another width.
    """

    Settings = ReactKDSettings

    def __init__(
        self,
        settings: ReactKDSettings,
        student_channels: int,
        teacher_channels: Sequence[int],
        _: int,
    ) -> None:
        super().__init__(student_channels, teacher_channels)
        self.settings = settings
        settings.check_teachers(len(teacher_channels))
        if settings.surrogate and set(teacher_channels) != {student_channels}:
            raise OptionError(
                f"The surrogate with widths {student_channels} and {tuple(teacher_channels)}.",
                "It compares features as they are: make the widths equal, or set surrogate to "
                "false.",
            )
        self.projections = Projections(
            student_channels, teacher_channels if settings.project else ()
        )
        weights = {
            "node": settings.node,
            "edge": settings.edge,
            "gromov_wasserstein": settings.gromov_wasserstein,
        }
        self.weights = {
            name: settings.graph * w for name, w in weights.items() if settings.graph * w
        }

    def terms(
        self, student: NetworkView, teachers: Sequence[TeacherView], labels: Tensor
    ) -> dict[str, Tensor]:
        """``logits``, ``node``, ``edge``, ``gromov_wasserstein``, less what is switched off."""
        terms = {}
        if self.settings.logits:
            terms["logits"] = response_term(student, teachers, self.settings)
        if self.weights:
            means = mean_of_pairs(student, teachers, self._graph, graphs=True)
            terms |= weighted(means, self.weights, student.logits)
        return terms

    def _graph(self, number: int, student: NetworkView, teacher: NetworkView) -> dict[str, Tensor]:
        if self.settings.surrogate:
            found = surrogate_terms(student.graphs, teacher.graphs)
        else:
            projected: Tensor | None = student.graphs.nodes()
            if self.settings.project:
                projected = self.projections[number](projected)
            elif self.teacher_channels[number] != self.student_channels:
                projected = None
            found = graph_terms(student.graphs, teacher.graphs, projected, self.settings.trade_off)
        return {name: getattr(found, name) for name in self.weights}
