"""Noise of the simulated low-dose CT in an ellipse: the table of docs/low_dose.md.

Run ``python Testing/benchmarks/lowdose_noise.py``.
"""

from __future__ import annotations

import numpy as np

from REACTKDLib.dose import DOSES, METHODS, DoseModel, simulate_low_dose
from REACTKDLib.geometry import Geometry
from REACTKDLib.types import Volume

PIXELS, SPACING_MM, SLICES = 256, 1.5, 16


def ellipse() -> tuple[Volume, np.ndarray]:
    """A 340 x 240 mm ellipse of 50 HU with an insert of 120 HU, and mm from its centre (j, i)."""
    y, x = (np.mgrid[:PIXELS, :PIXELS] - (PIXELS - 1) / 2) * SPACING_MM
    hu = np.full((PIXELS, PIXELS), -1000.0, np.float32)
    hu[(x / 170) ** 2 + (y / 120) ** 2 < 1] = 50
    hu[((x - 60) / 30) ** 2 + ((y + 10) / 40) ** 2 < 1] = 120
    grid = Geometry((PIXELS, PIXELS, SLICES), (SPACING_MM, SPACING_MM, 3.0), (0.0, 0.0, 0.0))
    return Volume(np.repeat(hu[None], SLICES, 0), grid, "ellipse"), np.hypot(x, y)


def main() -> None:
    ct, radius = ellipse()
    centre = radius < 40

    def noise(photons: float, seed: int, **options: object) -> np.ndarray:
        noisy = simulate_low_dose(ct, photons, seed, **options)
        return (noisy.array - ct.array)[:, centre]

    print("photons  " + "".join(f"{m:>12s} SD" for m in METHODS) + "  projection bias, HU")
    for photons in DOSES.values():
        found = {method: noise(photons, 1, method=method) for method in METHODS}
        spreads = "".join(f"{values.std():15.1f}" for values in found.values())
        print(f"{photons:8g} {spreads} {found['projection'].mean():12.1f}")
    print("SD with paths at a quarter of the resolution / at full resolution (another seed):")
    for photons in DOSES.values():
        whole = noise(photons, 1, model=DoseModel(path_reduction=1)).std()
        print(f"{photons:8g} {noise(photons, 2).std() / whole:8.4f}")


if __name__ == "__main__":
    main()
