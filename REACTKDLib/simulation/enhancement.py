"""Attenuation (HU) and tracer uptake (SUV) of tissues.

Contrast enhancement follows typical values of abdominal CT at 120 kVp: the aorta peaks in the late
arterial phase, the liver in the portal venous phase. Values are for an average adult.
"""

from __future__ import annotations

import numpy as np

from .parameters import CaseParameters

_TIME_S = (20, 27, 35, 45, 60, 70, 90, 120, 180, 300)
_CURVES_HU = {
    "aorta": (90, 240, 310, 250, 170, 152, 138, 125, 110, 95),
    "portal_vein": (42, 45, 75, 130, 168, 170, 152, 132, 115, 98),
    "hepatic_veins": (42, 43, 50, 75, 135, 158, 148, 130, 113, 97),
    "ivc": (42, 60, 85, 100, 115, 128, 132, 122, 110, 95),
    "liver": (60, 61, 68, 84, 106, 113, 110, 102, 92, 84),
    "spleen": (60, 95, 135, 130, 124, 120, 114, 106, 96, 88),
    "kidney": (45, 110, 170, 190, 190, 188, 180, 168, 150, 130),
    "kidney_medulla": (35, 45, 65, 90, 125, 140, 160, 165, 152, 132),
    "pancreas": (45, 75, 108, 112, 100, 94, 86, 80, 72, 66),
    "stomach": (50, 70, 90, 92, 88, 85, 80, 76, 70, 65),
    "muscle": (55, 56, 58, 60, 63, 64, 65, 66, 66, 65),
}
_STATIC_HU = {
    "skin": 25.0, "body": -102.0, "wall": 57.0, "cavity": -104.0, "lungs": -850.0,
    "bowel": 42.0, "colon": 18.0, "gas": -960.0, "stomach_content": 28.0, "oesophagus": 52.0,
    "gallbladder": 8.0, "sinus": -70.0, "column": 85.0, "canal": 28.0, "bone": 420.0,
    "marrow": 165.0, "rib_marrow": 140.0, "necrosis": 24.0, "cyst": 6.0,
}  # fmt: skip

#: Weight of a lesion's arterial enhancement, washout and capsule over time.
_ARTERIAL = (0.1, 0.8, 1.0, 0.75, 0.35, 0.2, 0.05, 0.0, 0.0, 0.0)
_WASHOUT = (0.0, 0.0, 0.0, 0.15, 0.5, 0.65, 0.85, 1.0, 1.0, 0.9)
_CAPSULE = (0.0, 0.0, 0.1, 0.3, 0.65, 0.8, 0.95, 1.0, 1.0, 0.9)
_PERITUMORAL = (0.2, 0.8, 1.0, 0.9, 0.7, 0.6, 0.45, 0.3, 0.2, 0.1)

_SUV = {
    "pet_fdg": {
        "body": 0.25, "wall": 0.7, "cavity": 0.3, "paraspinal": 0.7, "lungs": 0.35,
        "heart": 3.5, "heart_chambers": 1.6, "blood": 1.6, "bowel": 1.7, "colon": 1.3,
        "gas": 0.1, "pancreas": 1.3, "stomach": 2.0, "stomach_content": 0.4, "oesophagus": 1.5,
        "spleen": 1.8, "kidney": 2.6, "kidney_medulla": 4.0, "sinus": 9.0, "gallbladder": 0.6,
        "column": 0.9, "canal": 0.9, "vertebrae": 1.4, "ribs": 0.9,
    },
    "pet_acetate": {
        "body": 0.2, "wall": 0.8, "cavity": 0.3, "paraspinal": 0.8, "lungs": 0.4,
        "heart": 4.2, "heart_chambers": 1.2, "blood": 1.1, "bowel": 2.0, "colon": 1.0,
        "gas": 0.1, "pancreas": 6.5, "stomach": 2.0, "stomach_content": 0.3, "oesophagus": 1.5,
        "spleen": 4.2, "kidney": 4.5, "kidney_medulla": 4.0, "sinus": 1.5, "gallbladder": 0.5,
        "column": 0.9, "canal": 0.6, "vertebrae": 1.3, "ribs": 0.9,
    },
}  # fmt: skip


def tissue_hu(parameters: CaseParameters) -> dict[str, float]:
    """HU of every tissue at the case's delay.

    Cirrhosis delays and weakens the portal inflow; steatosis lowers the liver by up to 30 HU.
    """
    delay = parameters.delay_s
    hu = {name: _at(delay, curve) for name, curve in _CURVES_HU.items()} | _STATIC_HU
    late = delay - 10 * parameters.cirrhosis
    liver = 60 + (1 - 0.2 * parameters.cirrhosis) * (_at(late, _CURVES_HU["liver"]) - 60)
    hu["liver"] = liver - 30 * parameters.steatosis
    hu["portal_vein"] = _at(late, _CURVES_HU["portal_vein"])
    return hu


def sign_weights(delay_s: float) -> dict[str, float]:
    """How much of each contrast-dependent sign shows at ``delay_s``, 0 to 1."""
    curves = {
        "arterial": _ARTERIAL,
        "washout": _WASHOUT,
        "capsule": _CAPSULE,
        "peritumoral": _PERITUMORAL,
    }
    return {name: _at(delay_s, curve) for name, curve in curves.items()}


def tissue_suv(parameters: CaseParameters, tracer: str) -> dict[str, float]:
    """SUV of every tissue for ``tracer``."""
    return _SUV[tracer] | {"liver": dict(parameters.liver_suv)[tracer]}


def _at(delay_s: float, curve: tuple[float, ...]) -> float:
    return float(np.interp(delay_s, _TIME_S, curve))
