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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np

from ..errors import InputError
from .types import CT, MODALITIES, Contribution

#: bool (M, parts), which parts have arrived, to log odds (M,).
Game = Callable[[np.ndarray], np.ndarray]
#: Pairs of orders after which the standard errors are looked at first.
_FIRST_PAIRS = 8


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
    tolerance: float = 0.0,
) -> OwenValues:
    """Shapley values of groups and Owen values of the parts within them.

    Parameters
    ----------
    game : see :data:`Game`; called with as many coalitions at once as are needed, each once.
    groups : group of each part, 0, 1, ...; every group has a part.
    pairs : orders drawn in each group at most, each used forwards and backwards.
    exact_up_to : groups of no more parts are enumerated, 2 ** parts coalitions for each set of
        other groups.
    seed : of the orders.
    tolerance : log odds. No more orders are drawn in a group whose standard errors are all within
        it; their number is doubled until then, from 8 pairs on. 0: all pairs are drawn.

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
    nothing, everything = np.zeros(len(of), dtype=bool), np.ones(len(of), dtype=bool)
    memory.ask(nothing)
    memory.ask(everything)
    found = [_Group(of, group, memory) for group in range(count)]
    small = [group for group in found if len(group.members) <= exact_up_to]
    sampled = large = [group for group in found if len(group.members) > exact_up_to]
    for group in small:
        group.ask(_subsets(group.members.tolist()))
    memory.play()
    drawn = 0
    while large and drawn < pairs:
        more = min(drawn or _FIRST_PAIRS, pairs - drawn)
        for group in large:
            group.draw(more, generator)
        memory.play()
        for group in large:
            group.gain()
        drawn += more
        large = [group for group in large if group.errors.max() > tolerance]
    parts, errors = np.zeros(len(of)), np.zeros(len(of))
    for group in small:
        parts[group.members] = group.exact()
    for group in sampled:
        parts[group.members], errors[group.members] = group.gains.mean(axis=0), group.errors
    return OwenValues(
        memory[nothing],
        memory[everything],
        np.array([group.shapley() for group in found]),
        parts,
        errors,
        len(memory.values),
    )


class _Group:
    """One group in the game: its members, and the sets of other groups that may come before it.

    ``gains`` : (pairs, members), what each member adds in the orders drawn so far, mean over an
    order and its reverse.
    """

    def __init__(self, of: np.ndarray, group: int, memory: _Memory) -> None:
        count = int(of.max()) + 1
        others = _subsets([g for g in range(count) if g != group])
        self.members, self.memory = np.flatnonzero(of == group), memory
        self.before = [(_weight(len(chosen), count), np.isin(of, chosen)) for chosen in others]
        self.gains = np.zeros((0, len(self.members)))
        self._orders: list[np.ndarray] = []  # whose gains are not counted yet
        self.ask([(), self.members])

    def ask(self, chosen: Iterable[Sequence[int] | np.ndarray]) -> None:
        """Have sets of members evaluated, after every set of other groups."""
        for members in chosen:
            for _, before in self.before:
                self.memory.ask(_with(before, np.asarray(members, dtype=np.intp)))

    def draw(self, pairs: int, generator: np.random.Generator) -> None:
        """Have ``pairs`` more orders and their reverses evaluated."""
        drawn = [generator.permutation(self.members) for _ in range(pairs)]
        self._orders = [order for one in drawn for order in (one, one[::-1])]
        self.ask(order[:n] for order in self._orders for n in range(1, len(order)))

    def gain(self) -> None:
        """Add the gains of the orders that were drawn last."""
        gains = np.zeros((len(self._orders), len(self.members)))
        for row, order in enumerate(self._orders):
            columns = np.searchsorted(self.members, order)
            for weight, before in self.before:
                path = [self.memory[_with(before, order[:n])] for n in range(len(order) + 1)]
                gains[row, columns] += weight * np.diff(path)
        pairs = gains.reshape(-1, 2, len(self.members)).mean(axis=1)
        self.gains = np.concatenate([self.gains, pairs])

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the mean gains, from pair to pair; NaN of a single pair."""
        count = len(self.gains)
        if count < 2:
            return np.full(len(self.members), np.nan)
        return self.gains.std(axis=0, ddof=1) / np.sqrt(count)

    def shapley(self) -> float:
        """The group's value: what all of its members add."""
        memory, members = self.memory, self.members
        return sum(
            weight * (memory[_with(before, members)] - memory[before])
            for weight, before in self.before
        )

    def exact(self) -> np.ndarray:
        """The members' Shapley values, of every set of them."""
        values = np.zeros(len(self.members))
        for n, member in enumerate(self.members.tolist()):
            rest = [m for m in self.members.tolist() if m != member]
            for chosen in _subsets(rest):
                share = _weight(len(chosen), len(self.members))
                for weight, before in self.before:
                    coalition = _with(before, np.array(chosen, dtype=np.intp))
                    gain = self.memory[_with(coalition, np.array([member]))]
                    values[n] += weight * share * (gain - self.memory[coalition])
        return values


class _Memory:
    """Coalitions to evaluate, each once, as many as there are in one call."""

    def __init__(self, game: Game, parts: int) -> None:
        self.game, self.parts = game, parts
        self.values: dict[bytes, float] = {}
        self._asked: dict[bytes, None] = {}

    def ask(self, coalition: np.ndarray) -> None:
        key = coalition.tobytes()
        if key not in self.values:
            self._asked[key] = None

    def play(self) -> None:
        keys = list(self._asked)
        if keys:
            masks = np.frombuffer(b"".join(keys), dtype=bool).reshape(len(keys), self.parts)
            answers = np.asarray(self.game(masks), float).tolist()
            self.values.update(zip(keys, answers, strict=True))
        self._asked = {}

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
    tolerance: float = 0.0,
) -> PrognosisExplanation:
    """Divide the log odds among what one patient has.

    Parameters
    ----------
    game : columns are ``parts``. parts : those the patient has; the CT is one part.
    titles : modality -> title for people. pairs, exact_up_to, seed, tolerance : as
        :func:`owen_values`.

    Raises
    ------
    InputError : as :func:`owen_values`.
    """
    present = [name for name in MODALITIES if any(part.modality == name for part in parts)]
    groups = [present.index(part.modality) for part in parts]
    found = owen_values(game, groups, pairs, exact_up_to, seed, tolerance)
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
