"""Clinical variables of a simulated patient: 58 names of the shipped schema, drawn, with gaps.

Ten of them follow liver function, each with its own scatter; the others are plausible and say
nothing of the outcome. Medians and spreads are of the order that a liver clinic sees; none was
fitted to patients. Gaps are of three kinds: single values are lost (completely at random), whole
panels were not ordered (completely at random), and some tests are ordered more often because
another result asked for them (at random given what was measured): direct bilirubin and bile acids
where bilirubin is high, cystatin C where creatinine is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from REACTKDLib.prognosis.schema import load_schema
from REACTKDLib.prognosis.types import ClinicalRecord, ClinicalSchema

__all__ = ["MARKERS", "Marker", "draw_record", "function_given", "simulated_schema"]


@dataclass(frozen=True)
class Marker:
    """A variable that follows liver function f (greater is worse).

    ``middle`` and ``spread`` of the value, or of its logarithm (``log``); ``loading`` is its
    correlation with f; ``men`` is what men have more.
    """

    middle: float
    spread: float
    loading: float
    log: bool = False
    men: float = 0.0


MARKERS: Mapping[str, Marker] = {
    "albumin": Marker(37.0, 5.0, -0.7),
    "bilirubin_total": Marker(float(np.log(24.0)), 0.65, 0.65, log=True),
    "cholinesterase": Marker(float(np.log(4800.0)), 0.4, -0.6, log=True),
    "platelets": Marker(float(np.log(125.0)), 0.45, -0.5, log=True),
    "bile_acid": Marker(float(np.log(18.0)), 0.8, 0.5, log=True),
    "ast": Marker(float(np.log(48.0)), 0.5, 0.45, log=True),
    "haemoglobin": Marker(122.0, 16.0, -0.3, men=12.0),
    "grip_strength": Marker(22.0, 5.0, -0.4, men=12.0),
    "gait_speed": Marker(1.05, 0.18, -0.35),
    "upper_arm_muscle": Marker(21.0, 2.0, -0.3, men=2.0),
}

#: Variables that say nothing of f: middle and spread of the logarithm.
_LOGNORMAL = {
    "alt": (42.0, 0.55),
    "alp": (105.0, 0.4),
    "ggt": (70.0, 0.8),
    "neutrophils": (2.9, 0.35),
    "lymphocytes": (1.4, 0.35),
    "triglycerides": (1.1, 0.4),
    "hdl": (1.15, 0.25),
    "ldl": (2.3, 0.3),
    "urea": (5.4, 0.35),
    "creatinine": (72.0, 0.3),
    "sat_volume": (3800.0, 0.45),
    "vat_volume": (2600.0, 0.55),
    "imat_volume": (210.0, 0.45),
    "soft_tissue_volume": (9500.0, 0.25),
}
#: Shares of the causes; a patient has one or none, and NAFLD may stand beside.
_CAUSES = {
    "hbv": 0.42, "hcv": 0.1, "alcoholic": 0.2, "pbc": 0.07, "aih": 0.05, "dili": 0.03,
}  # fmt: skip

#: Panels that are ordered together, and how often they are not.
_PANELS: Mapping[float, tuple[tuple[str, ...], ...]] = {
    0.03: (("wbc", "rbc", "haemoglobin", "platelets", "neutrophils", "lymphocytes"),),
    0.04: (("alt", "ast", "alp", "ggt", "total_protein", "albumin", "bilirubin_total"),),
    0.05: (("urea", "creatinine"),),
    0.08: (("height",), ("weight",)),
    0.25: (
        tuple(
            f"{tissue}_{what}"
            for tissue in ("sat", "imat", "vat", "soft_tissue")
            for what in ("volume", "area", "volume_fat_percentage", "area_fat_percentage")
        ),
    ),
    0.3: (("triglycerides", "cholesterol", "hdl", "ldl"),),
    0.35: (
        ("cholinesterase",),
        (
            "sarcopenia", "grip_strength", "upper_arm_circumference", "lower_leg_circumference",
            "triceps_skinfold", "upper_arm_muscle", "nutritional_risk", "nutritional_score",
            "gait_speed",
        ),
    ),
}  # fmt: skip
#: How often a single value is lost; age and sex never are.
_LOST = 0.02
#: Test -> (what decides, above which value, how often it is ordered then, and otherwise).
_ORDERED = {
    "bilirubin_direct": ("bilirubin_total", 34.0, 0.95, 0.6),
    "bile_acid": ("bilirubin_total", 34.0, 0.75, 0.4),
    "cystatin_c": ("creatinine", 90.0, 0.7, 0.25),
}


@lru_cache(maxsize=1)
def simulated_schema() -> ClinicalSchema:
    """The shipped schema of 58 variables."""
    return load_schema("chronic_liver_58")


def draw_record(function: float, rng: np.random.Generator) -> ClinicalRecord:
    """What a hospital knows of a patient of this liver function; units are the schema's."""
    values = _complete(function, rng)
    known = _known(values, rng)
    return ClinicalRecord(
        {name: values[name] for name in simulated_schema().names if name in known}
    )


def _complete(function: float, rng: np.random.Generator) -> dict[str, float | bool | str]:
    """All variables, without gaps."""
    man = bool(rng.uniform() < 0.68)
    v: dict[str, float] = {"age": round(float(np.clip(rng.normal(56, 11), 18, 90)))}
    for name, m in MARKERS.items():
        scatter = float(rng.normal()) * (1 - m.loading**2) ** 0.5
        value = m.middle + m.men * man + m.spread * (m.loading * function + scatter)
        v[name] = float(np.exp(value)) if m.log else value
    for name, (middle, spread) in _LOGNORMAL.items():
        v[name] = float(middle * np.exp(spread * rng.normal()))
    v["total_protein"] = v["albumin"] + float(np.clip(rng.normal(32, 5), 15, 60))
    v["bilirubin_direct"] = v["bilirubin_total"] * float(rng.uniform(0.25, 0.7))
    v["wbc"] = (v["neutrophils"] + v["lymphocytes"]) * float(rng.uniform(1.05, 1.2))
    v["rbc"] = v["haemoglobin"] / float(np.clip(rng.normal(31, 2), 25, 37))
    v["cholesterol"] = (v["hdl"] + v["ldl"]) * float(rng.uniform(1.05, 1.25))
    v["cystatin_c"] = v["creatinine"] / 72 * float(np.exp(0.2 * rng.normal()))
    v["height"] = float(np.clip(rng.normal(159 + 11 * man, 6), 135, 205))
    bmi = float(np.clip(rng.normal(24.5, 3.6), 15, 45))
    v["weight"] = bmi * (v["height"] / 100) ** 2
    v["bmi"] = bmi
    v["triceps_skinfold"] = float(np.clip(rng.normal(16 - 5 * man, 4), 3, 45))
    v["upper_arm_circumference"] = v["upper_arm_muscle"] + np.pi * v["triceps_skinfold"] / 10
    v["lower_leg_circumference"] = float(np.clip(rng.normal(33 + 2 * man, 3), 22, 48))
    v["nutritional_score"] = float(rng.integers(0, 6))
    for tissue, area in (("sat", 0.04), ("imat", 0.05), ("vat", 0.045), ("soft_tissue", 0.05)):
        v[f"{tissue}_area"] = v[f"{tissue}_volume"] * area * float(np.exp(0.15 * rng.normal()))
        if tissue != "sat":
            share = float(np.clip(rng.normal(35, 12), 2, 95))
            v[f"{tissue}_volume_fat_percentage"] = share
            nearby = float(np.clip(share + rng.normal(0, 4), 1, 99))
            v[f"{tissue}_area_fat_percentage"] = nearby
    flags = {"sarcopenia": 0.3, "nutritional_risk": 0.4, "nafld": 0.15}
    facts: dict[str, bool] = {name: bool(rng.uniform() < p) for name, p in flags.items()}
    none = 1 - sum(_CAUSES.values())
    cause = str(rng.choice([*_CAUSES, "none"], p=[*_CAUSES.values(), none]))
    facts |= {name: name == cause for name in _CAUSES}
    # As precise as laboratories report: four figures.
    measured = {name: float(f"{value:.4g}") for name, value in v.items()}
    return {**measured, **facts, "sex": "male" if man else "female"}


def _known(values: Mapping[str, float | bool | str], rng: np.random.Generator) -> set[str]:
    """Names of the variables that are not missing."""
    known = set(values)
    for name in sorted(known - {"age", "sex"}):
        if rng.uniform() < _LOST:
            known.discard(name)
    for rate, panels in _PANELS.items():
        for panel in panels:
            if rng.uniform() < rate:
                known -= set(panel)
    for name, (reason, above, then, otherwise) in _ORDERED.items():
        asked = reason in known and float(values[reason]) > above
        if rng.uniform() >= (then if asked else otherwise):
            known.discard(name)
    # Made of others, so never there without them: they tell nothing that those do not.
    for name, of in (
        ("bmi", {"height", "weight"}),
        ("bilirubin_direct", {"bilirubin_total"}),
        ("total_protein", {"albumin"}),
        ("rbc", {"haemoglobin"}),
        ("upper_arm_circumference", {"upper_arm_muscle"}),
    ):
        if not of <= known:
            known.discard(name)
    return known


def function_given(record: ClinicalRecord) -> tuple[float, float]:
    """Mean and variance of liver function, given what a record has, by Bayes' rule.

    Markers are independent given function, and normal (or their logarithms); the gaps depend on
    nothing but values that are there, so that they may be ignored.
    """
    man = record.values.get("sex") == "male"
    weight, precision = 0.0, 1.0
    for name, m in MARKERS.items():
        if name in record.values:
            value = float(record.values[name])
            deviation = ((np.log(value) if m.log else value) - m.middle - m.men * man) / m.spread
            weight += m.loading * deviation / (1 - m.loading**2)
            precision += m.loading**2 / (1 - m.loading**2)
    return float(weight / precision), 1 / precision
