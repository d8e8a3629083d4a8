"""A small simulated patient for tests: noise-free, with one plain lesion."""

from __future__ import annotations

import functools
from dataclasses import replace

from REACTKDLib.simulation import (
    CaseParameters,
    Cyst,
    Lesion,
    Scanner,
    Signs,
    SimulatedCase,
    simulate_case,
)

COARSE = Scanner(spacing_mm=(3.0, 3.0, 4.0))
PLAIN = Signs(arterial_hu=0.0, washout_hu=0.0, mosaic_hu=0.0, irregularity=0.0)
BIG = Lesion(
    position=(0.75, 0.5, 0.5),
    radii_mm=(24.0, 24.0, 24.0),
    signs=PLAIN,
    uptake_ratio=(("pet_fdg", 2.5), ("pet_acetate", 1.6)),
)
BASE = CaseParameters(
    lesions=(BIG, Lesion(position=(0.2, 0.7, 0.7), radii_mm=(9.0, 9.0, 9.0))),
    cysts=(Cyst((0.6, 0.3, 0.3), 8.0),),
    breathing_offset_mm=(("pet_fdg", 0.0), ("pet_acetate", 0.0)),
    scanner=COARSE,
)


@functools.cache
def clean(parameters: CaseParameters, pet: tuple[str, ...] = ()) -> SimulatedCase:
    return simulate_case(parameters, 0, pet=pet, noise=False)


def with_signs(**signs: float) -> CaseParameters:
    return replace(BASE, lesions=(replace(BIG, signs=replace(PLAIN, **signs)),))
