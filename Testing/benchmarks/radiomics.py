"""Radiomics by class beside numpyradiomics used plainly, same region, same run.

``make bench`` prints seconds and the ratio for regions of 60 000 and 300 000 voxels, then the time
of all 1781 features of a liver in a CT of 512x512x148 voxels.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpyradiomics

from REACTKDLib.geometry import Geometry
from REACTKDLib.prognosis.radiomics import radiomics_features
from REACTKDLib.prognosis.radiomics_formulas import (
    cooccurrence,
    dependence,
    first_order,
    run_lengths,
    tone_differences,
    zone_sizes,
)
from REACTKDLib.prognosis.radiomics_settings import RadiomicsSettings
from REACTKDLib.prognosis.radiomics_shape import shape
from REACTKDLib.prognosis.radiomics_textures import grey_levels, neighbours, runs, zones
from REACTKDLib.types import Volume

SIZES = (60_000, 300_000)
BIN_HU = 25.0


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process: other processes do not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def liver(voxels: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise of a liver, HU, and an ellipsoid of about so many voxels, cropped."""
    half = (voxels / (4 / 3 * np.pi * 0.7 * 0.9)) ** (1 / 3)
    radii = np.array([0.7, 0.9, 1.0]) * half
    axes = np.meshgrid(*(np.arange(-int(r), int(r) + 1) / r for r in radii), indexing="ij")
    mask = sum(axis**2 for axis in axes) <= 1
    return np.random.default_rng(0).normal(100, 40, mask.shape).round(), mask


def by_class(voxels: int) -> None:
    """Print one table."""
    image, mask = liver(voxels)
    count = int(mask.sum())
    grey = grey_levels(image, mask, BIN_HU)
    levels = grey.levels
    counts = np.bincount(grey.labels.ravel()[grey.places] - 1)
    around = neighbours(grey)

    def pairs() -> None:
        cooccurrence(around.cooccurrence, levels)
        dependence(around.dependence, levels, count)
        tone_differences(around.tone_counts, around.tone_sums, levels)

    spacing = (3.0, 3.0, 3.0)
    library = {
        name: getattr(numpyradiomics, name) for name in ("glcm", "gldm", "ngtdm", "glrlm", "glszm")
    }
    rows = {
        "first order": (
            lambda: first_order(image[mask], counts, 27.0, 0.0),
            lambda: numpyradiomics.firstorder(image, mask, voxelVolume=27.0, extend=False),
        ),
        "glcm, gldm, ngtdm": (
            lambda: (neighbours(grey), pairs()),
            lambda: [library[name](image, mask) for name in ("glcm", "gldm", "ngtdm")],
        ),
        "glrlm": (
            lambda: run_lengths(runs(grey), levels, count),
            lambda: library["glrlm"](image, mask),
        ),
        "glszm": (
            lambda: zone_sizes(*zones(grey), levels, count),
            lambda: library["glszm"](image, mask),
        ),
        "shape": (
            lambda: shape(mask, spacing),
            lambda: numpyradiomics.shape(mask, spacing, extend=False),
        ),
    }
    print(f"{count} voxels, {len(levels)} grey levels: CPU seconds")
    total = np.zeros(2)
    for name, works in rows.items():
        ours, theirs = (seconds(work) for work in works)
        total += ours, theirs
        print(f"  {name:18} {ours:7.3f}, numpyradiomics {theirs:7.3f}, ratio {theirs / ours:5.1f}")
    print(
        f"  {'all':18} {total[0]:7.3f}, numpyradiomics {total[1]:7.3f}, ratio"
        f" {total[1] / total[0]:5.1f}"
    )


def whole() -> None:
    """All features of a liver of 1.6 litres."""
    grid = Geometry((512, 512, 148), (0.75, 0.75, 2.5), (0.0, 0.0, 0.0))
    random = np.random.default_rng(0)
    array = random.normal(60, 25, grid.array_shape).astype(np.int16)
    k, j, i = np.ogrid[: grid.size[2], : grid.size[1], : grid.size[0]]
    mask = ((k - 70) / 26) ** 2 + ((j - 250) / 90) ** 2 + ((i - 200) / 120) ** 2 <= 1
    for spacing in (3.0, 2.0):
        settings = RadiomicsSettings(spacing_mm=(spacing, spacing, spacing))
        took = seconds(lambda s=settings: radiomics_features(Volume(array, grid), mask, s))
        print(f"1781 features of {mask.sum()} voxels at {spacing:g} mm: {took:.1f} CPU seconds")


def warm_up() -> None:
    """What is imported on first use is no part of the times."""
    image, mask = liver(500)
    zones(grey_levels(image, mask, BIN_HU))
    shape(mask, (3.0, 3.0, 3.0))
    numpyradiomics.shape(mask, (3.0, 3.0, 3.0), extend=False)


if __name__ == "__main__":
    warm_up()
    for size in SIZES:
        by_class(size)
    whole()
