"""Dose levels and the assumptions about the scanner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import OptionError

#: The five doses of the REACT-KD code, in photons that each ray would bring through air.
HIGH = 1e6
MEDIUM = 5e4
LOW = 1e4
VERY_LOW = 1e3
ULTRA_LOW = 5e2

#: The same by name, the highest first.
DOSES: Mapping[str, float] = MappingProxyType(
    {"high": HIGH, "medium": MEDIUM, "low": LOW, "very_low": VERY_LOW, "ultra_low": ULTRA_LOW}
)

KERNELS = ("hann", "ramp")


@dataclass(frozen=True)
class DoseModel:
    """What is assumed about the scanner. No bow-tie filter, parallel rays, one energy.

    Parameters
    ----------
    mu_water_per_mm : linear attenuation of water, 1/mm. The default is 70 keV, the effective
        energy of a 120 kV tube (NIST tables).
    electronic_sd_photons : standard deviation of the detector's own noise, photons.
    views : projections over 180 degrees.
    bin_mm : width of a detector bin at the centre, mm; None takes the slice's smaller pixel side.
    kernel : ``hann`` (soft tissue; the ramp under a Hann window) or ``ramp`` (sharp). Both end at
        the detector's Nyquist frequency.
    path_reduction : the expected photon counts are projected from a slice with pixels this many
        times larger, over as many times fewer views. 1 projects the slice itself.
    minimum_photons : a reading below this counts as this, so that its logarithm exists.
    scan_diameter_mm : circle around the slice's centre that the scanner measures. Voxels outside
        it absorb nothing and stay as they are. None measures the whole slice.

    Raises
    ------
    OptionError : a value that is not positive (``electronic_sd_photons`` may be 0), or an unknown
        kernel.
    """

    mu_water_per_mm: float = 0.0193
    electronic_sd_photons: float = 3.0
    views: int = 512
    bin_mm: float | None = None
    kernel: str = "hann"
    path_reduction: int = 4
    minimum_photons: float = 1.0
    scan_diameter_mm: float | None = None

    def __post_init__(self) -> None:
        for name in ("mu_water_per_mm", "views", "path_reduction", "minimum_photons"):
            check_positive(name, getattr(self, name))
        for name in ("bin_mm", "scan_diameter_mm"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if not (math.isfinite(self.electronic_sd_photons) and self.electronic_sd_photons >= 0):
            raise OptionError(
                f"electronic_sd_photons is {self.electronic_sd_photons}.", "Give 0 or more."
            )
        for name in ("views", "path_reduction"):
            if getattr(self, name) != int(getattr(self, name)):
                raise OptionError(f"{name} is {getattr(self, name)}.", "Give a whole number.")
        if self.kernel not in KERNELS:
            raise OptionError(
                f"Unknown reconstruction kernel {self.kernel!r}.",
                f"Choose one of {', '.join(KERNELS)}.",
            )


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a positive, finite number.

    Raises
    ------
    OptionError : with the name and the value.
    """
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"{name} is {value}.", "Give a positive, finite number.")
