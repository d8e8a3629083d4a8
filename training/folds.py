"""Which cases train, select and test. No patient, and no group, is ever on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from REACTKDLib.errors import OptionError


@dataclass(frozen=True)
class Split:
    """Positions of cases, ascending; ``held_out`` tests (or selects)."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split_units(
    units: Sequence[str],
    labels: Sequence[int],
    parts: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> tuple[Split, ...]:
    """Cross-validation: each case is held out once.

    ``units`` : of each case what must stay whole, its patient or group. Classes are spread evenly
    (:class:`sklearn.model_selection.StratifiedGroupKFold`). The split depends on the cases and
    ``seed``, not on their order, and leaves the global random state alone. ``class_names`` name
    the classes in errors.

    Raises
    ------
    OptionError : fewer than two parts; too few patients or groups; a part that lacks a class.
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
