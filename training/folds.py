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


def split_units(
    units: Sequence[str],
    labels: Sequence[int],
    parts: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> tuple[Split, ...]:
    """As :func:`split_folds`, of rows given by what must stay whole and by class.

    ``class_names`` name the classes in errors.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    owners, classes = np.asarray(units), np.asarray(labels)
    if not 2 <= parts <= len(set(units)):
        raise OptionError(
            f"{parts} folds of {len(set(units))} patients (or groups) are not possible.",
            "Take from 2 folds up to one for each patient or group.",
        )
    rare = [int(c) for c in np.unique(classes) if len(set(owners[classes == c])) < parts]
    if rare:
        names = ", ".join(class_names[c] if class_names else str(c) for c in rare)
        raise OptionError(
            f"Of the class {names} there are fewer patients (or groups) than {parts} folds.",
            "Take fewer folds, or merge classes.",
        )
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    splits = []
    for train, held_out in splitter.split(classes, classes, owners):
        if set(classes[train]) != set(classes) or set(classes[held_out]) != set(classes):
            raise OptionError(
                f"With {parts} folds and seed {seed} a fold has no case of some class.",
                "Groups may be large: take fewer folds, another seed, or no groups.",
            )
        splits.append(Split(tuple(map(int, train)), tuple(map(int, held_out))))
    return tuple(splits)


def _splits(cohort: Cohort, chosen: Sequence[int], parts: int, seed: int) -> tuple[Split, ...]:
    labels = cohort.labels if cohort.schema else (0,) * len(cohort.cases)
    splits = split_units(
        [cohort.cases[n].unit for n in chosen],
        [labels[n] for n in chosen],
        parts,
        seed,
        cohort.schema.class_names if cohort.schema else ("without label",),
    )
    return tuple(
        Split(
            tuple(sorted(chosen[n] for n in split.train)),
            tuple(sorted(chosen[n] for n in split.held_out)),
        )
        for split in splits
    )
