"""Batches in which the classes are balanced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from REACTKDLib.errors import InputError


def balanced_batches(
    labels: Sequence[int] | np.ndarray, batch_size: int, seed: int, epoch: int = 0
) -> Iterator[list[int]]:
    """Batches of indices of one epoch: in every batch the classes' numbers differ by one at most.

    Every patient of the largest class comes at least once; those of smaller classes come again, in
    a new order each time, none twice before all have come. The last batch is filled up. Where a
    batch is no multiple of the number of classes, the surplus goes round, so that over an epoch no
    class has more than one place more than another.

    Parameters
    ----------
    labels : (n,) class of each patient. seed, epoch : draws depend on these alone.

    Raises
    ------
    InputError : fewer places than classes, or no patient.
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    if not len(classes) or batch_size < len(classes):
        raise InputError(
            f"Batches of {batch_size} cannot hold {len(classes)} classes.",
            "Give as many places as classes, and labels.",
        )
    generator = np.random.default_rng((seed, epoch))
    members = [np.flatnonzero(labels == c) for c in classes]
    streams = [_endless(rows, generator) for rows in members]
    places = max(len(rows) for rows in members) * len(classes)
    position = 0
    for _ in range(-(-places // batch_size)):
        turns = [(position + n) % len(classes) for n in range(batch_size)]
        position += batch_size
        batch = [next(streams[turn]) for turn in turns]
        generator.shuffle(batch)
        yield batch


def _endless(rows: np.ndarray, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from generator.permutation(rows).tolist()
