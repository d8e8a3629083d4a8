"""Matrices of texture: how often grey levels stand beside each other, in runs, in zones.

Definitions: PyRadiomics 3.0.1 with distance 1 in 3-D, that is, 26 neighbours and 13 directions;
Image Biomarker Standardisation Initiative (IBSI) where both agree. Own code, since the matrices of
the library at hand miss two of the directions of runs and need a table of all possible zone sizes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from ..geometry import Index

#: The 13 directions (k, j, i) of the neighbours; the other 13 are their opposites.
DIRECTIONS: tuple[Index, ...] = tuple(
    (k, j, i) for k, j, i in itertools.product((-1, 0, 1), repeat=3) if (k, j, i) > (0, 0, 0)
)


@dataclass(frozen=True, eq=False)
class GreyLevels:
    """Grey levels of a region of interest.

    ``levels`` : those that occur, (n,), increasing. ``labels`` (k, j, i), int32, is 1 + the index
    into ``levels``, 0 outside the region; one layer of zeros all around. ``places`` : flat indices
    of the region's voxels in ``labels``.
    """

    levels: np.ndarray
    labels: np.ndarray
    places: np.ndarray

    @property
    def steps(self) -> list[int]:
        """Flat index from a voxel to its neighbour in each of :data:`DIRECTIONS`."""
        _, rows, columns = self.labels.shape
        return [(k * rows + j) * columns + i for k, j, i in DIRECTIONS]


def grey_levels(image: np.ndarray, mask: np.ndarray, bin_width: float) -> GreyLevels:
    """Bins of fixed width with an edge at 0; the darkest voxel of the mask is in level 1.

    ``image`` (k, j, i), ``mask`` bool of the same shape.
    """
    bins = np.floor(image[mask] / bin_width)
    levels, index = np.unique(bins, return_inverse=True)
    labels = np.zeros(image.shape, dtype=np.int32)
    labels[mask] = index + 1
    labels = np.pad(labels, 1)
    return GreyLevels(levels - levels[0] + 1, labels, np.flatnonzero(labels))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What the neighbours of every voxel are like.

    ``cooccurrence`` : counts (13, n, n) of ordered pairs, symmetric. ``dependence`` : counts
    (n, 27) of voxels by grey level and number of neighbours of the same level. ``tone_counts`` :
    voxels (n,) that have neighbours, ``tone_sums`` : sum of the absolute differences (n,) between
    them and their neighbours' mean.
    """

    cooccurrence: np.ndarray
    dependence: np.ndarray
    tone_counts: np.ndarray
    tone_sums: np.ndarray


def neighbours(grey: GreyLevels) -> Neighbours:
    """Matrices of pairs, dependence (alpha 0) and tone differences, in one pass."""
    n = len(grey.levels)
    flat = grey.labels.ravel()
    own = flat[grey.places]
    values = np.concatenate([[0.0], grey.levels])
    pairs = np.empty((len(DIRECTIONS), n, n))
    same = np.zeros(len(own), dtype=np.int32)
    count = np.zeros(len(own), dtype=np.int32)
    total = np.zeros(len(own))
    for number, step in enumerate(grey.steps):
        for side in (step, -step):
            other = flat[grey.places + side]
            same += own == other
            count += other > 0
            total += values[other]
            if side == step:
                table = np.bincount(own * np.int64(n + 1) + other, minlength=(n + 1) ** 2)
                one_way = table.reshape(n + 1, n + 1)[1:, 1:]
                pairs[number] = one_way + one_way.T
    dependence = np.bincount((own - 1) * 27 + same, minlength=n * 27).reshape(n, 27)
    some = count > 0
    index = own[some] - 1
    difference = np.abs(grey.levels[index] - total[some] / count[some])
    return Neighbours(
        pairs,
        dependence.astype(float),
        np.bincount(index, minlength=n).astype(float),
        np.bincount(index, weights=difference, minlength=n),
    )


def runs(grey: GreyLevels) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per direction, counts (n, lengths) of runs of one grey level, and the lengths that occur.

    A direction in which no line holds two voxels of the region is left out, as PyRadiomics does:
    the region is flat there.
    """
    n = len(grey.levels)
    flat = grey.labels.ravel()
    own = flat[grey.places]
    found = []
    for direction, step in zip(DIRECTIONS, grey.steps, strict=True):
        place = grey.places[own != flat[grey.places - step]]
        level = flat[place]
        columns, lengths, length = [], [], 0
        while len(place):
            length += 1
            place = place + step
            goes_on = flat[place] == level
            ended = level[~goes_on]
            if len(ended):
                columns.append(np.bincount(ended - 1, minlength=n))
                lengths.append(length)
            place, level = place[goes_on], level[goes_on]
        if lengths[-1] > 1 or _share_lines(grey, direction):
            found.append((np.stack(columns, axis=1).astype(float), np.array(lengths, dtype=float)))
    return found


def _share_lines(grey: GreyLevels, direction: Index) -> bool:
    """Whether any line along ``direction`` holds two voxels of the region."""
    place = np.stack(np.unravel_index(grey.places, grey.labels.shape), axis=1)
    step = np.array(direction)
    axis = int(np.flatnonzero(step)[0])
    start = place - place[:, axis, None] * step * step[axis]
    return len(np.unique(start, axis=0)) < len(start)


def zones(grey: GreyLevels) -> tuple[np.ndarray, np.ndarray]:
    """Counts (n, sizes) of connected zones of one grey level, and the sizes that occur, voxels."""
    import SimpleITK as sitk

    # Neighbours, also across corners, whose levels differ by 0 belong together: all levels at once.
    connect = sitk.ScalarConnectedComponentImageFilter()
    connect.SetDistanceThreshold(0.0)
    connect.FullyConnectedOn()
    joined = connect.Execute(sitk.GetImageFromArray(grey.labels))
    zone = sitk.GetArrayFromImage(joined).ravel()[grey.places]
    _, first, voxels = np.unique(zone, return_index=True, return_counts=True)
    sizes, column = np.unique(voxels, return_inverse=True)
    level = grey.labels.ravel()[grey.places[first]] - 1
    counts = np.bincount(
        level * len(sizes) + column, minlength=len(grey.levels) * len(sizes)
    ).reshape(len(grey.levels), len(sizes))
    return counts.astype(float), sizes.astype(float)
