"""Splits: no patient or group on two sides, every class on each, the same split every time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from REACTKDLib.errors import OptionError
from training.folds import Split, split_units
from training.label_schema import GRADE3
from training.manifest import Cohort, CohortCase


def cohort_of(*cases: tuple[str, int | None, str]) -> Cohort:
    """Cases of (patient, label, group)."""
    return Cohort(
        "generated",
        tuple(CohortCase(p, Path("ct"), str(n), g, c) for n, (p, c, g) in enumerate(cases)),
        None if cases[0][1] is None else GRADE3,
    )


def split_folds(cohort: Cohort, folds: int, seed: int) -> tuple[Split, ...]:
    labels = cohort.labels if cohort.schema else (0,) * len(cohort.cases)
    names = cohort.schema.class_names if cohort.schema else ()
    return split_units([case.unit for case in cohort.cases], labels, folds, seed, names)


def unequal(groups: bool) -> Cohort:
    """97 patients of 37, 40 and 20 of a class; every third has two studies; or 24 centres."""
    classes = np.repeat([0, 1, 2], [37, 40, 20])
    np.random.default_rng(5).shuffle(classes)
    cases = []
    for n, label in enumerate(classes):
        group = f"centre{n % 24}" if groups else ""
        cases += [(f"P{n:02d}", int(label), group)] * (2 if n % 3 == 0 else 1)
    return cohort_of(*cases)


def check(cohort: Cohort, split: Split, cases: set[int]) -> None:
    units = [{cohort.cases[n].unit for n in side} for side in (split.train, split.held_out)]
    patients = [{cohort.cases[n].patient for n in side} for side in (split.train, split.held_out)]
    assert not units[0] & units[1]
    assert not patients[0] & patients[1]
    assert set(split.train) | set(split.held_out) == cases
    for side in (split.train, split.held_out):
        assert {cohort.labels[n] for n in side} == {0, 1, 2}
        assert list(side) == sorted(side)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 7])
def test_folds(groups, folds, seed):
    cohort = unequal(groups)
    everything = set(range(len(cohort.cases)))
    splits = split_folds(cohort, folds, seed)
    assert len(splits) == folds
    for split in splits:
        check(cohort, split, everything)
    held_out = Counter(n for split in splits for n in split.held_out)
    assert held_out == Counter(everything)
    assert splits == split_folds(cohort, folds, seed)


def test_classes_are_spread_evenly():
    cohort = cohort_of(*((f"P{n}", c, "") for n, c in enumerate([0] * 30 + [1] * 20 + [2] * 10)))
    for split in split_folds(cohort, 5, 1):
        assert Counter(cohort.labels[n] for n in split.held_out) == {0: 6, 1: 4, 2: 2}


def test_the_seed_matters_and_the_order_of_rows_does_not():
    cohort = unequal(groups=False)

    def folds_of(one: Cohort, seed: int) -> set[frozenset[str]]:
        return {
            frozenset(one.cases[n].case_id for n in split.held_out)
            for split in split_folds(one, 3, seed)
        }

    order = np.random.default_rng(1).permutation(len(cohort.cases))
    shuffled = Cohort(cohort.name, tuple(cohort.cases[n] for n in order), cohort.schema)
    assert folds_of(shuffled, 4) == folds_of(cohort, 4)
    assert folds_of(cohort, 5) != folds_of(cohort, 4)


def test_a_cohort_without_labels():
    cohort = cohort_of(*((f"P{n // 2}", None, "") for n in range(20)))
    splits = split_folds(cohort, 5, 0)
    assert Counter(n for s in splits for n in s.held_out) == Counter(range(20))
    assert all(len(s.held_out) == 4 for s in splits)


def test_global_random_state_is_left_alone():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    split_folds(unequal(groups=False), 3, 0)
    assert np.array_equal(np.random.get_state()[1], before)


def test_impossible_splits():
    few = cohort_of(("a", 0, ""), ("b", 1, ""), ("c", 2, ""), ("d", 0, ""), ("d", 1, ""))
    with pytest.raises(OptionError, match="Of the class poor there are fewer"):
        split_folds(few, 2, 0)
    for folds in (1, 5):
        with pytest.raises(OptionError, match=f"{folds} folds of 4 patients"):
            split_folds(few, folds, 0)
    # Two of the three classes are in one centre only beside the others: some fold must lack one.
    centres = cohort_of(
        ("a", 0, "A"), ("b", 1, "A"), ("c", 0, "B"), ("d", 2, "B"), ("e", 1, "C"), ("f", 2, "C")
    )
    with pytest.raises(OptionError, match="no case of some class"):
        split_folds(centres, 2, 0)
