"""Simulated abdominal CT and dual-tracer PET with liver tumours of known grade.

No public set holds liver CT, tumour grade and both PET tracers, so REACTKD's claims are measured on
simulated patients as well as on real ones. The demo and the sample data make theirs on the spot.
"""

from __future__ import annotations

from .case import (
    LesionTruth,
    SimulatedCase,
    SimulationTruth,
    simulate_case,
)
from .demo import demo_parameters
from .files import write_case
from .parameters import (
    GRADES,
    TRACERS,
    CaseParameters,
    Cyst,
    Lesion,
    Scanner,
    Signs,
    grade_of,
)
from .plant import PlantedCase, PlantedLesion, PlantingTruth, plant_lesions

__all__ = [
    "GRADES",
    "TRACERS",
    "CaseParameters",
    "Cyst",
    "Lesion",
    "LesionTruth",
    "PlantedCase",
    "PlantedLesion",
    "PlantingTruth",
    "Scanner",
    "Signs",
    "SimulatedCase",
    "SimulationTruth",
    "demo_parameters",
    "grade_of",
    "plant_lesions",
    "simulate_case",
    "write_case",
]
