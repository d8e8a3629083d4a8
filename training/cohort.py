"""Simulated cohorts: how grade, patients and scanners vary.

``internal`` stands for the hospital that has PET/CT, ``external`` for another one that has CT only,
with other scanners and contrast timing. Each case is drawn from a random stream of its own, keyed
by (seed, profile, index): a case is the same to the byte whatever else is simulated.

The strength of the signs was tuned once, on the internal cohort of seed 0 with the features of
:mod:`training.cohort_check`, and fixed before any method was compared; seed 1 and the external
cohort were measured afterwards. Macro one-versus-rest AUC of the observed grade on simulated
images, by ``python -m training.cohort_check --profile P --cases N --seed S``:

===================  ===================  ===================  ===================
profile, N, S        internal, 300, 0     internal, 240, 1     external, 150, 0
===================  ===================  ===================  ===================
CT                   0.807                0.790                0.749
CT, FDG              0.881                0.861
CT, acetate          0.901                0.871
CT, FDG, acetate     0.944                0.929
FDG, acetate         0.949                0.948
===================  ===================  ===================  ===================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from REACTKDLib.errors import OptionError
from REACTKDLib.simulation import (
    TRACERS,
    CaseParameters,
    Cyst,
    Lesion,
    Scanner,
    Signs,
    SimulatedCase,
    simulate_case,
)

PROFILES = ("internal", "external")


@dataclass(frozen=True)
class SignModel:
    """How strongly each sign follows dedifferentiation u (0 well, 1 poor), and its scatter.

    Parameters
    ----------
    washout_hu, arterial_hu, mosaic_hu, irregularity : base, slope, standard deviation; washout,
        mosaic and irregularity rise with u, arterial enhancement peaks in the middle.
    necrosis_logit, capsule_logit, peritumoral_logit : base and slope of the log-odds that the sign
        is present; capsules are most frequent in the middle.
    satellites : mean number of satellites at u = 1, falling with the square of u.
    fdg_ratio, acetate_ratio : base, height, middle, width and log-scatter of a logistic step of the
        lesion-to-liver ratio, in u for FDG and in 1 - u for acetate.
    fdg_negative : fraction of tumours that take up no FDG whatever their grade.
    pathology : standard deviation of the differentiation that pathology sees.
    """

    washout_hu: tuple[float, float, float] = (8.0, 32.0, 12.0)
    arterial_hu: tuple[float, float, float] = (14.0, 32.0, 12.0)
    mosaic_hu: tuple[float, float, float] = (3.0, 10.0, 3.0)
    irregularity: tuple[float, float, float] = (0.1, 0.6, 0.17)
    necrosis_logit: tuple[float, float] = (-3.2, 4.4)
    capsule_logit: tuple[float, float] = (-1.2, 2.2)
    peritumoral_logit: tuple[float, float] = (-2.0, 3.0)
    satellites: float = 1.1
    fdg_ratio: tuple[float, float, float, float, float] = (1.05, 2.0, 0.68, 0.09, 0.14)
    fdg_negative: float = 0.04
    acetate_ratio: tuple[float, float, float, float, float] = (1.08, 1.05, 0.65, 0.09, 0.11)
    pathology: float = 0.05


SIGN_MODEL = SignModel()


def case_rng(profile: str, index: int, seed: int) -> np.random.Generator:
    """The random stream of one case.

    Raises
    ------
    OptionError : an unknown profile or a negative index.
    """
    if profile not in PROFILES:
        raise OptionError(f"No cohort profile {profile!r}.", f"Choose from {PROFILES}.")
    if index < 0:
        raise OptionError(f"The case index is {index}.", "Count from 0.")
    return np.random.default_rng([seed, PROFILES.index(profile), index])


def sample_case_parameters(profile: str, index: int, seed: int) -> CaseParameters:
    """Parameters of case ``index`` of the cohort ``profile`` drawn with ``seed``.

    Each run of three cases from a multiple of 3 has one true grade of each kind, in random order.

    Raises
    ------
    OptionError : an unknown profile or a negative index.
    """
    rng = case_rng(profile, index, seed)
    block = np.random.default_rng([seed, PROFILES.index(profile), index // 3, 1])
    third = int(block.permutation(3)[index % 3])
    differentiation = (third + float(rng.uniform(0.001, 0.999))) / 3
    pathology = float(np.clip(rng.normal(differentiation, SIGN_MODEL.pathology), 0, 1))
    cirrhosis = float(np.clip(rng.beta(1.3, 1.3) + 0.12 * (0.5 - differentiation), 0, 1))
    steatosis = float(rng.beta(0.8, 2.5))
    size = float(np.clip(rng.normal(1.0, 0.06), 0.85, 1.18))
    volume = 1420 * size**2 * (1.06 - 0.16 * cirrhosis + 0.12 * steatosis) + rng.normal(0, 130)
    return CaseParameters(
        differentiation=differentiation,
        pathology_differentiation=pathology,
        lesions=_lesions(differentiation, cirrhosis, rng),
        cysts=_cysts(rng),
        anatomy_seed=int(rng.integers(2**31)),
        body_size=size,
        fat_mm=float(np.clip(rng.gamma(5.0, 3.6), 6, 42)),
        liver_volume_ml=float(np.clip(volume, 1000, 1800)),
        left_lobe=float(np.clip(rng.normal(1 + 0.12 * cirrhosis, 0.12), 0.65, 1.35)),
        spleen=float(np.clip(rng.normal(1 + 0.22 * cirrhosis, 0.08), 0.8, 1.5)),
        steatosis=steatosis,
        cirrhosis=cirrhosis,
        delay_s=_delay(profile, rng),
        breathing_offset_mm=tuple((tracer, float(rng.uniform(2, 8))) for tracer in TRACERS),
        liver_suv=(
            ("pet_fdg", float(rng.normal(2.25, 0.2))),
            ("pet_acetate", float(rng.normal(3.0, 0.3))),
        ),
        pet_counts=float(rng.uniform(25, 60)),
        scanner=_scanner(profile, rng),
    )


def simulate_cohort_case(
    parameters: CaseParameters, profile: str, index: int, seed: int, pet: bool = True
) -> SimulatedCase:
    """Images of one case of a cohort; the noise too depends on (seed, profile, index) only.

    Without ``pet`` none is rendered; the CT is the same to the byte.
    """
    noise_seed = int(case_rng(profile, index, seed).spawn(1)[0].integers(2**31))
    return simulate_case(
        parameters, noise_seed, pet=TRACERS if profile == "internal" and pet else ()
    )


def _lesions(
    differentiation: float, cirrhosis: float, rng: np.random.Generator
) -> tuple[Lesion, ...]:
    """The index lesion and up to three smaller ones of similar differentiation."""
    dedifferentiation = 1 - differentiation
    diameter = np.clip(np.exp(rng.normal(np.log(30 + 14 * dedifferentiation), 0.42)), 12, 100)
    lesions = [_lesion(dedifferentiation, float(diameter), cirrhosis, rng)]
    for _ in range(min(3, rng.poisson(0.35 + 0.3 * dedifferentiation))):
        own = float(np.clip(rng.normal(dedifferentiation, 0.12), 0, 1))
        smaller = float(np.clip(diameter * rng.uniform(0.3, 0.7), 10, 60))
        lesions.append(_lesion(own, smaller, cirrhosis, rng))
    return tuple(lesions)


def _lesion(u: float, diameter_mm: float, cirrhosis: float, rng: np.random.Generator) -> Lesion:
    """A lesion of dedifferentiation ``u``; large lesions show more mosaic and necrosis."""
    m = SIGN_MODEL
    large = float(np.clip(np.log2(diameter_mm / 30), -1, 1.5))

    def shows(base: float, slope: float, dose: float) -> bool:
        return bool(rng.uniform() < 1 / (1 + np.exp(-(base + slope * dose))))

    def scattered(model: tuple[float, float, float], dose: float) -> float:
        return model[0] + model[1] * dose + model[2] * float(rng.normal())

    # Arterial supply grows first and fails in the least differentiated tumours.
    arterial = scattered(m.arterial_hu, float(np.sin(np.pi * min(1.0, 0.15 + 0.85 * u))))
    washout = scattered(m.washout_hu, u) + 8 * (cirrhosis - 0.5)
    necrosis = shows(m.necrosis_logit[0] + 1.2 * large, m.necrosis_logit[1], u)
    middle = float(np.sin(np.pi * u))
    signs = Signs(
        arterial_hu=max(0.0, arterial),
        washout_hu=max(-5.0, washout),
        capsule_hu=float(rng.uniform(24, 48)) if shows(*m.capsule_logit, middle) else 0.0,
        mosaic_hu=max(1.0, scattered(m.mosaic_hu, u) + 2.5 * large),
        necrosis=float(rng.uniform(0.08, 0.4)) if necrosis else 0.0,
        irregularity=float(np.clip(scattered(m.irregularity, u), 0, 1)),
        satellites=min(4, int(rng.poisson(m.satellites * u**2))),
        peritumoral_hu=float(rng.uniform(10, 26)) if shows(*m.peritumoral_logit, u) else 0.0,
    )
    # FDG rises late: about half of all tumours hardly trap it. Acetate fades early.
    negative = rng.uniform() < m.fdg_negative
    fdg = _uptake(m.fdg_ratio, 0.0 if negative else u, rng)
    acetate = _uptake(m.acetate_ratio, 1 - u, rng)
    return Lesion(
        position=tuple(rng.uniform((0.15, 0.2, 0.15), (0.9, 0.8, 0.9)).tolist()),
        radii_mm=tuple((diameter_mm / 2 * np.exp(rng.normal(0, 0.1, 3))).clip(4, 60).tolist()),
        signs=signs,
        uptake_ratio=(("pet_fdg", fdg), ("pet_acetate", acetate)),
    )


def _uptake(
    model: tuple[float, float, float, float, float], dose: float, rng: np.random.Generator
) -> float:
    """Uptake ratio: a step of ``model`` (base, height, middle, width, log scatter) in ``dose``."""
    base, height, middle, width, scatter = model
    step = 1 / (1 + np.exp(-(dose - middle) / width))
    return float((base + height * step) * np.exp(rng.normal(0, scatter)))


def _cysts(rng: np.random.Generator) -> tuple[Cyst, ...]:
    count = int(rng.choice(3, p=(0.65, 0.25, 0.1)))
    return tuple(
        Cyst(tuple(rng.uniform(0.15, 0.85, 3).tolist()), float(rng.uniform(3, 10)))
        for _ in range(count)
    )


def _delay(profile: str, rng: np.random.Generator) -> float:
    """Injection to scan: portal venous in the PET/CT hospital, all phases outside."""
    if profile == "internal":
        return float(np.clip(rng.normal(72, 9), 50, 100))
    return float(
        rng.choice((rng.normal(38, 3), rng.normal(68, 10), rng.normal(170, 15)), p=(0.2, 0.6, 0.2))
    )


def _scanner(profile: str, rng: np.random.Generator) -> Scanner:
    centre = (float(rng.normal(0, 5)), float(rng.normal(0, 5)), float(rng.normal(-6, 4)))
    if profile == "internal":
        in_plane, between = float(rng.uniform(1.8, 2.1)), float(rng.choice((3.0, 3.75)))
        kernel, noise = str(rng.choice(("soft", "standard"))), float(rng.uniform(8, 15))
        orientation, tilt = "LPS", (0.0, 0.0, 0.0)
    else:
        in_plane, between = float(rng.uniform(1.5, 2.3)), float(rng.choice((2.5, 5.0)))
        kernel = str(rng.choice(("soft", "standard", "sharp"), p=(0.2, 0.3, 0.5)))
        noise = float(rng.uniform(12, 26))
        orientation = str(rng.choice(("LPS", "RAS", "LPI")))
        tilt = tuple(rng.normal(0, 3, 3).tolist())
    return Scanner(
        spacing_mm=(in_plane, in_plane, between),
        centre_ras=centre,
        orientation=orientation,
        tilt_deg=tilt,
        kernel=kernel,
        noise_hu=noise,
    )
