"""Clinical variables and an outcome for the simulated cohort; its images stay as they are.

Everything here is simulated. The outcome, decompensation within two years, is drawn from three
latent figures of a patient, each about standard normal and independent of the others:

============  ==========================================================  =====================
latent        what it is                                                  who can see it
============  ==========================================================  =====================
function      liver function; nothing in the images depends on it         clinical variables
parenchyma    cirrhosis (nodular texture and surface, large spleen, weak  radiomics of the liver
              enhancement) and steatosis (low HU, patchy texture)
tumour        size and dedifferentiation of the index lesion (contrast,   CT, in the lesion
              mosaic, necrosis, margin, rim)
============  ==========================================================  =====================

The last two are made of the case's own :class:`CaseParameters`, so that the frozen images show
them. Radiomics are measured in the liver without its lesions. They are computed from the CT, so the
CT holds ``parenchyma`` as well: the table says who sees what easily, not what is impossible. A CT
whose intensities are standardised per case has lost the absolute HU that shows steatosis.
What figures see, as the squared correlation with each latent (100 cases, seed 20260,
``python -m training.prognosis.sight_check --cases 100``):

======================  ========  ==========  ======
figures                 function  parenchyma  tumour
======================  ========  ==========  ======
plain, of the liver     0.00      0.64        0.02
radiomics of the study  0.00      0.87        0.15
plain, of the lesion    0.00      0.00        0.94
======================  ========  ==========  ======

The study's radiomics are first order, GLCM and NGTDM of the original image. Lesions leave a hole in
the region that radiomics are measured in; shape, runs, zones and filtered images show how large it
is (``training/EXPERIMENTS.md``).

The log odds are a sum of the latents, so the best possible predictor of any set of modalities is
known: :func:`attainable`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from REACTKDLib.prognosis.types import CLINICAL, CT, MODALITIES, RADIOMICS, ClinicalRecord
from REACTKDLib.simulation import CaseParameters

from ..cohort import PROFILES, sample_case_parameters
from ..evaluation.discrimination import binary_auc
from .simulated_variables import draw_record, function_given

__all__ = ["EVENT", "SEES", "SimulatedOutcome", "attainable", "latents_of", "simulate_outcome"]

EVENT = "decompensation within two years (simulated)"

#: Modality -> the latent that it sees and the others do not see easily.
SEES: Mapping[str, str] = {CT: "tumour", CLINICAL: "function", RADIOMICS: "parenchyma"}

#: Log odds of a patient whose latents are all 0, and what one unit of each latent adds. Chosen so
#: that one modality alone can reach an AUROC of about 0.7, all three about 0.9.
BASE = -0.5
EFFECTS: Mapping[str, float] = {"function": 1.4, "parenchyma": 1.4, "tumour": 1.4}

#: Key of the random stream. Of five keys the one whose function is least correlated, by chance,
#: with the other latents of the first 300 cases of seed 20260; fixed before methods were compared.
_STREAM = 60

#: Moments of the distributions that :func:`training.cohort.sample_case_parameters` draws from:
#: Beta(1.3, 1.3), Beta(0.8, 2.5), a uniform, and a normal logarithm with the scatter of the axes.
_CIRRHOSIS = (0.5, (1.3 * 1.3 / (2.6**2 * 3.6)) ** 0.5)
_STEATOSIS = (0.8 / 3.3, (0.8 * 2.5 / (3.3**2 * 4.3)) ** 0.5)
_DEDIFFERENTIATION = (0.5, 12**-0.5)
_LOG_DIAMETER = (0.42**2 + 0.1**2 / 3) ** 0.5


@dataclass(frozen=True)
class SimulatedOutcome:
    """What is known of one simulated patient beside the images.

    ``latents`` : name -> value; ``logit`` : true log odds; ``label`` : drawn with them, 1 is the
    event; ``record`` : the clinical variables as a hospital would have them.
    """

    index: int
    latents: Mapping[str, float]
    logit: float
    label: int
    record: ClinicalRecord

    @property
    def truth(self) -> dict[str, object]:
        """Everything but the record, for a JSON file."""
        return {
            "simulated": True,
            "latents": dict(self.latents),
            "logit": self.logit,
            "probability": float(expit(self.logit)),
            "label": self.label,
        }


def latents_of(parameters: CaseParameters) -> dict[str, float]:
    """The latents that a case's images show: ``parenchyma`` and ``tumour``.

    The cohort ties cirrhosis and lesion size to differentiation; here each enters without that tie,
    so that the two latents are independent.
    """
    u = 1 - parameters.differentiation
    cirrhosis = parameters.cirrhosis - 0.12 * (u - 0.5)
    diameter = 2 * float(np.exp(np.mean(np.log(parameters.lesions[0].radii_mm))))
    log_size = np.log(diameter) - np.log(30 + 14 * u)
    return {
        "parenchyma": 0.8 * _z(cirrhosis, _CIRRHOSIS) + 0.6 * _z(parameters.steatosis, _STEATOSIS),
        "tumour": 0.6 * _z(u, _DEDIFFERENTIATION) + 0.8 * float(log_size) / _LOG_DIAMETER,
    }


def _z(value: float, moments: tuple[float, float]) -> float:
    return (value - moments[0]) / moments[1]


def simulate_outcome(index: int, seed: int, profile: str = "internal") -> SimulatedOutcome:
    """Latents, clinical variables and outcome of case ``index`` of the cohort of ``seed``.

    They have a random stream of their own: the images of the case are not touched, and no case
    depends on another.

    Raises
    ------
    OptionError : as :func:`training.cohort.sample_case_parameters`.
    """
    parameters = sample_case_parameters(profile, index, seed)
    rng = np.random.default_rng([seed, PROFILES.index(profile), index, _STREAM])
    latents = {"function": float(rng.normal()), **latents_of(parameters)}
    logit = BASE + sum(EFFECTS[name] * value for name, value in latents.items())
    label = int(rng.uniform() < expit(logit))
    return SimulatedOutcome(index, latents, logit, label, draw_record(latents["function"], rng))


def attainable(
    outcomes: Sequence[SimulatedOutcome], seed: int = 0, nodes: int = 512
) -> dict[tuple[str, ...], dict[str, float]]:
    """The AUROC that the best possible predictor of each set of modalities has on these patients.

    For each set: ``latents``, where each modality knows its latent exactly (an upper bound for
    images and features), and ``as measured``, where the clinical variables are those of the record,
    with their noise and gaps; liver function then has the normal distribution that follows from
    them by Bayes' rule. Latents that no modality of the set sees have their distribution in the
    cohort, as ``nodes`` draws of ``seed``.

    Parameters
    ----------
    outcomes : patients with the event and without it; many (thousands) tell the figure of the
        population, those of a study that of the study.
    """
    labels = np.array([o.label for o in outcomes]) == 1
    values = {name: np.array([o.latents[name] for o in outcomes]) for name in EFFECTS}
    hidden = _population(nodes, seed)
    mean, variance = np.array([function_given(o.record) for o in outcomes]).T
    found = {}
    for size in range(1, len(MODALITIES) + 1):
        for chosen in itertools.combinations(MODALITIES, size):
            seen = {SEES[m] for m in chosen}
            unseen: np.ndarray = sum(
                (EFFECTS[n] * hidden[n] for n in EFFECTS if n not in seen), np.zeros(nodes)
            )
            exact: np.ndarray = sum(
                (EFFECTS[n] * values[n] for n in seen), np.zeros(len(labels))
            )  # fmt: skip
            figures = {"latents": _auc(labels, exact[:, None] + unseen)}
            if "function" in seen:
                doubt = EFFECTS["function"] * (mean - values["function"])
                spread = EFFECTS["function"] * np.sqrt(variance)[:, None] * hidden["doubt"]
                figures["as measured"] = _auc(labels, (exact + doubt)[:, None] + unseen + spread)
            else:
                figures["as measured"] = figures["latents"]
            found[chosen] = figures
    return found


def _auc(labels: np.ndarray, possible: np.ndarray) -> float:
    """AUROC of the mean probability of the log odds that are possible, (patients, nodes)."""
    return float(binary_auc(labels, expit(BASE + possible).mean(axis=1))[0])


def _population(count: int, seed: int) -> dict[str, np.ndarray]:
    """Draws of every latent, and of the doubt that measured variables leave, (count,) each."""
    rng = np.random.default_rng([seed, 59])
    cirrhosis, steatosis = rng.beta(1.3, 1.3, count), rng.beta(0.8, 2.5, count)
    u, size = rng.uniform(size=count), rng.normal(size=count)
    parenchyma = 0.8 * (cirrhosis - _CIRRHOSIS[0]) / _CIRRHOSIS[1]
    parenchyma += 0.6 * (steatosis - _STEATOSIS[0]) / _STEATOSIS[1]
    tumour = 0.6 * (u - _DEDIFFERENTIATION[0]) / _DEDIFFERENTIATION[1] + 0.8 * size
    return {
        "function": rng.normal(size=count),
        "parenchyma": parenchyma,
        "tumour": tumour,
        "doubt": rng.normal(size=count),
    }
