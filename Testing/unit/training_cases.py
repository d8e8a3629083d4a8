"""Prepared cases that take no simulation: noise with a lesion whose brightness is its class."""

from __future__ import annotations

import numpy as np

from REACTKDLib.checks import InputStatistics
from training.prepare import PreparedCase

TRACERS = ("pet_fdg", "pet_acetate")


def synthetic_case(index: int, tracers: tuple[str, ...] = TRACERS) -> PreparedCase:
    """Sizes differ from case to case; region 1 is the lesion, 2 the rest."""
    rng = np.random.default_rng(index)
    label = index % 3
    shape = (6, 12, 12 + 4 * (index % 2))
    roi = np.zeros(shape)
    roi[1:5, 2:10, 2:10] = 1
    lesion = np.zeros(shape)
    lesion[2:4, 4:8, 4:8] = 1
    volume = rng.normal(0, 0.2, shape) + (label - 1) * lesion
    noisy = volume + rng.normal(0, 1, shape)
    regions = np.where(lesion > 0, 1, np.where(roi > 0, 2, 0))
    return PreparedCase(
        patient=f"patient-{index}",
        unit=f"patient-{index}",
        volumes={name: (volume * roi).astype(np.float16) for name in ("ct", *tracers)},
        roi=roi.astype(np.float16),
        lesion=lesion.astype(np.float16),
        near=lesion.astype(np.float16),
        label=label,
        statistics=InputStatistics(100.0, 1500.0, 3.0),
        low_dose={1e4: (noisy * roi).astype(np.float16)},
        regions=regions.astype(np.uint8),
        region_ids=("lesion-1", "parenchyma"),
        responsible=lesion.astype(np.float16),
    )
