"""Low-dose CT: the noise that fewer photons would have added to a given CT.

Imports no torch before a simulation runs. docs/low_dose.md tells the model and its limits.
"""

from __future__ import annotations

from .image_noise import image_noise
from .model import DOSES, HIGH, LOW, MEDIUM, ULTRA_LOW, VERY_LOW, DoseModel
from .simulate import METHODS, simulate_low_dose, slice_axis

__all__ = [
    "DOSES",
    "HIGH",
    "LOW",
    "MEDIUM",
    "METHODS",
    "ULTRA_LOW",
    "VERY_LOW",
    "DoseModel",
    "image_noise",
    "simulate_low_dose",
    "slice_axis",
]
