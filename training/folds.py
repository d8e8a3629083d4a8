"""Which cases train, select and test. No patient, and no group, is ever on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from REACTKDLib.errors import OptionError

from .manifest import Cohort


@dataclass(frozen=True)
class Split:
    """Positions in ``Cohort.cases``, ascending; ``held_out`` tests (or selects)."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split_folds(cohort: Cohort, folds: int, seed: int) -> tuple[Split, ...]:
    """Cross-validation: each case is held out once.

    Classes are spread evenly (:class:`sklearn.model_selection.StratifiedGroupKFold`), patients or
    groups stay whole. The split depends on the cases and ``seed``, not on the order of the rows,
    and leaves the global random state alone. A cohort without labels is split by size.

    Raises
    ------
    OptionError : fewer than two folds; too few patients or groups; a fold that lacks a class.
    """
    return _splits(cohort, range(len(cohort.cases)), folds, seed)


def inner_split(cohort: Cohort, train: Sequence[int], parts: int, seed: int) -> Split:
    """Holds one of ``parts`` parts of the training cases ``train`` out, to select on.

    Same rules and errors as :func:`split_folds`.
    """
    return _splits(cohort, train, parts, seed)[0]


def _splits(cohort: Cohort, chosen: Sequence[int], parts: int, seed: int) -> tuple[Split, ...]:
    from sklearn.model_selection import StratifiedGroupKFold

    units = np.array([cohort.cases[n].unit for n in chosen])
    if not 2 <= parts <= len(set(units)):
        raise OptionError(
            f"{parts} folds of {len(set(units))} patients (or groups) are not possible.",
            "Take from 2 folds up to one for each patient or group.",
        )
    labels = np.array(cohort.labels if cohort.schema else [0] * len(cohort.cases))[list(chosen)]
    rare = [int(c) for c in np.unique(labels) if len(set(units[labels == c])) < parts]
    if rare and cohort.schema:
        names = ", ".join(cohort.schema.class_names[c] for c in rare)
        raise OptionError(
            f"Of the class {names} there are fewer patients (or groups) than {parts} folds.",
            "Take fewer folds, or merge classes.",
        )
    positions = np.asarray(chosen)
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    splits = []
    for train, held_out in splitter.split(labels, labels, units):
        if set(labels[train]) != set(labels) or set(labels[held_out]) != set(labels):
            raise OptionError(
                f"With {parts} folds and seed {seed} a fold has no case of some class.",
                "Groups may be large: take fewer folds, another seed, or no groups.",
            )
        splits.append(
            Split(
                tuple(sorted(int(n) for n in positions[train])),
                tuple(sorted(int(n) for n in positions[held_out])),
            )
        )
    return tuple(splits)
