"""How much each part of the input adds to the log odds of the outcome.

Shapley value of each modality; Owen values inside a modality. Shapley (1953) divides what a team
earns fairly among its members: a modality's value is the mean, over all orders of arrival, of what
its arrival adds. Owen (1977) goes on inside the modality: its variables or families arrive together
with it, in any order, whoever came before, and their values sum to the modality's. Both are exact
for the modalities; inside they are exact where few parts are there, else means over random orders
and their reverses (antithetic, Mitchell et al., JMLR 2022), which still sum exactly.

The game is played by the network itself: a part that has not arrived is missing, as it may be at
any patient. Nothing is replaced by values of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np

from ..errors import InputError
from .types import CT, MODALITIES, Contribution

#: bool (M, parts), which parts have arrived, to log odds (M,).
Game = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Part:
    """One part of the input: a variable, a family, the text or the CT."""

    name: str
    title: str
    modality: str
    value: str = ""


@dataclass(frozen=True, eq=False)
class OwenValues:
    """``base`` : log odds with nothing; ``total`` : with everything. ``groups`` : values of the
    groups, they sum to total - base; ``parts`` : values of the parts, they sum to their group's.
    ``errors`` : standard error of each part's value, 0 where it is exact, NaN where one pair alone
    was drawn. ``evaluations`` : how many coalitions were evaluated."""

    base: float
    total: float
    groups: np.ndarray
    parts: np.ndarray
    errors: np.ndarray
    evaluations: int


def owen_values(
    game: Game,
    groups: Sequence[int],
    pairs: int = 8,
    exact_up_to: int = 8,
    seed: int = 0,
) -> OwenValues:
    """Shapley values of groups and Owen values of the parts within them.

    Parameters
    ----------
    game : see :data:`Game`; called with as many coalitions at once as are needed, each once.
    groups : group of each part, 0, 1, ...; every group has a part.
    pairs : orders drawn in each group, each used forwards and backwards.
    exact_up_to : groups of no more parts are enumerated, 2 ** parts coalitions for each set of
        other groups.
    seed : of the orders.

    Raises
    ------
    InputError : no pair, or groups that are not numbered.
    """
    of = np.asarray(groups, dtype=np.intp)
    count = int(of.max()) + 1 if len(of) else 0
    if pairs < 1 or sorted(set(of.tolist())) != list(range(count)):
        raise InputError(
            f"Owen values of the groups {sorted(set(of.tolist()))} from {pairs} pairs of orders.",
            "Number the groups from 0 and draw one pair or more.",
        )
    generator = np.random.default_rng(seed)
    memory = _Memory(game, len(of))
    plans = []
    for group in range(count):
        others = [
            np.isin(of, chosen) for chosen in _subsets([g for g in range(count) if g != group])
        ]
        members = np.flatnonzero(of == group)
        if len(members) <= exact_up_to:
            inner = [np.array(chosen, dtype=np.intp) for chosen in _subsets(members.tolist())]
            orders = None
        else:
            drawn = [generator.permutation(members) for _ in range(pairs)]
            orders = [order for one in drawn for order in (one, one[::-1])]
            inner = [order[:n] for order in orders for n in range(len(members) + 1)]
        for before in others:
            for chosen in inner:
                memory.ask(_with(before, chosen))
        plans.append((members, others, orders))
    memory.ask(np.zeros(len(of), dtype=bool))
    memory.ask(np.ones(len(of), dtype=bool))
    memory.play()
    shapley, parts, errors = np.zeros(count), np.zeros(len(of)), np.zeros(len(of))
    for group, (members, others, orders) in enumerate(plans):
        for before in others:
            arrived = len(set(of[before].tolist()))
            weight = _weight(arrived, count)
            shapley[group] += weight * (memory[_with(before, members)] - memory[before])
            if orders is None:
                parts[members] += weight * _exact(memory, before, members)
        if orders is not None:
            parts[members], errors[members] = _sampled(memory, members, others, orders, of, count)
    nothing, everything = np.zeros(len(of), dtype=bool), np.ones(len(of), dtype=bool)
    return OwenValues(
        memory[nothing], memory[everything], shapley, parts, errors, len(memory.values)
    )


def _exact(memory: _Memory, before: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Shapley values of a group's members in the game that starts with ``before``."""
    values = np.zeros(len(members))
    for n, member in enumerate(members):
        rest = [m for m in members.tolist() if m != member]
        for chosen in _subsets(rest):
            coalition = _with(before, np.array(chosen, dtype=np.intp))
            gain = memory[_with(coalition, np.array([member]))] - memory[coalition]
            values[n] += _weight(len(chosen), len(members)) * gain
    return values


def _sampled(
    memory: _Memory,
    members: np.ndarray,
    others: Sequence[np.ndarray],
    orders: Sequence[np.ndarray],
    of: np.ndarray,
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Means over orders of what each member adds, and standard errors from pair to pair."""
    gains = np.zeros((len(orders), len(members)))
    place = {int(member): n for n, member in enumerate(members)}
    for before in others:
        weight = _weight(len(set(of[before].tolist())), count)
        for row, order in enumerate(orders):
            path = [memory[_with(before, order[:n])] for n in range(len(order) + 1)]
            gains[row, [place[int(m)] for m in order]] += weight * np.diff(path)
    pairs = gains.reshape(-1, 2, len(members)).mean(axis=1)
    few = len(pairs) < 2
    spread = np.full(len(members), np.nan) if few else pairs.std(axis=0, ddof=1)
    return pairs.mean(axis=0), spread / np.sqrt(len(pairs))


class _Memory:
    """Coalitions to evaluate, each once, all in one call."""

    def __init__(self, game: Game, parts: int) -> None:
        self.game, self.parts = game, parts
        self.values: dict[bytes, float] = {}

    def ask(self, coalition: np.ndarray) -> None:
        self.values.setdefault(coalition.tobytes(), np.nan)

    def play(self) -> None:
        keys = list(self.values)
        masks = np.frombuffer(b"".join(keys), dtype=bool).reshape(len(keys), self.parts)
        self.values = dict(zip(keys, np.asarray(self.game(masks), float).tolist(), strict=True))

    def __getitem__(self, coalition: np.ndarray) -> float:
        return self.values[coalition.tobytes()]


def _subsets(items: Sequence[int]) -> list[tuple[int, ...]]:
    return [chosen for n in range(len(items) + 1) for chosen in combinations(items, n)]


def _with(coalition: np.ndarray, more: np.ndarray) -> np.ndarray:
    joined = coalition.copy()
    joined[more] = True
    return joined


def _weight(before: int, count: int) -> float:
    """Share of the orders of ``count`` in which just these ``before`` come before one of them."""
    return factorial(before) * factorial(count - 1 - before) / factorial(count)


@dataclass(frozen=True)
class PrognosisExplanation:
    """``modalities`` : Shapley values, which sum with ``base_logit`` to ``logit``;
    ``parts`` : Owen values of clinical variables, text and radiomics families, which sum to their
    modality's; ``errors`` : standard errors of ``parts``, 0 where exact."""

    base_logit: float
    logit: float
    modalities: tuple[Contribution, ...]
    parts: tuple[Contribution, ...]
    errors: tuple[float, ...]


def explain_contributions(
    game: Game,
    parts: Sequence[Part],
    titles: dict[str, str] | None = None,
    pairs: int = 8,
    exact_up_to: int = 8,
    seed: int = 0,
) -> PrognosisExplanation:
    """Divide the log odds among what one patient has.

    Parameters
    ----------
    game : columns are ``parts``. parts : those the patient has; the CT is one part.
    titles : modality -> title for people. pairs, exact_up_to, seed : as :func:`owen_values`.

    Raises
    ------
    InputError : as :func:`owen_values`.
    """
    present = [name for name in MODALITIES if any(part.modality == name for part in parts)]
    groups = [present.index(part.modality) for part in parts]
    found = owen_values(game, groups, pairs, exact_up_to, seed)
    named = titles or {}
    modalities = tuple(
        Contribution(name, named.get(name, name), name, float(value))
        for name, value in zip(present, found.groups, strict=True)
    )
    inner = [n for n, part in enumerate(parts) if part.modality != CT]
    contributions = tuple(
        Contribution(
            parts[n].name, parts[n].title, parts[n].modality, float(found.parts[n]), parts[n].value
        )
        for n in inner
    )
    errors = tuple(float(found.errors[n]) for n in inner)
    return PrognosisExplanation(found.base, found.total, modalities, contributions, errors)
