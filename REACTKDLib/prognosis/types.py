"""The frozen values that cross the boundaries between the stages of prognosis.

Source: TMI-CLNet (arXiv 2502.00695): three modalities of one patient, any of which may be missing.
Imports neither torch nor SimpleITK, so the Slicer panel may import it at start-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..types import CaseResult, ClassInfo, Notice, frozen_mapping

#: The modalities of TMI-CLNet, in the order of every table, token sequence and mask.
CT, CLINICAL, RADIOMICS = MODALITIES = ("ct", "clinical", "radiomics")


@dataclass(frozen=True)
class Variable:
    """A clinical variable as a schema describes it.

    ``kind`` is ``number``, ``flag`` (yes or no) or ``category``. A number has a ``unit`` (UCUM
    spelling, "1" where it has none) and a ``plausible`` range in that unit, outside of which a
    value is refused; ``other_units`` maps units that laboratories use for the same quantity to the
    factor that makes them ``unit``. A category has ``categories``, in their order. ``group`` is a
    heading for people. ``logarithmic`` : positive and skewed to the right, scaled as a logarithm.
    ``aliases`` : other names that files use for it; ``codes`` : other spellings of a category, such
    as ``{"m": "male"}``; ``note`` : what a reader of the schema should know.
    """

    name: str
    title: str
    kind: str
    unit: str = ""
    plausible: tuple[float, float] | None = None
    other_units: Mapping[str, float] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    group: str = ""
    logarithmic: bool = False
    aliases: tuple[str, ...] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "other_units", frozen_mapping(self.other_units))
        object.__setattr__(self, "codes", frozen_mapping(self.codes))


@dataclass(frozen=True)
class Relation:
    """What values of one patient must fulfil together; otherwise they contradict each other.

    ``kind`` is ``at_most`` (no variable but the last exceeds the last), ``sum_at_most`` (nor does
    their sum) or ``body_mass_index`` (variables: index in kg/m2, weight in kg, height in cm).
    ``tolerance`` : relative, for rounding and for different assays. Checked only where every value
    is there (``at_most``: the last and any other).
    """

    kind: str
    variables: tuple[str, ...]
    tolerance: float = 0.1


@dataclass(frozen=True)
class ClinicalSchema:
    """The variables that a model knows, in the order of its inputs.

    ``comment`` : where the list comes from. ``relations`` : what must hold between the values.
    """

    name: str
    title: str
    variables: tuple[Variable, ...]
    relations: tuple[Relation, ...] = ()
    comment: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(variable.name for variable in self.variables)


@dataclass(frozen=True)
class ClinicalRecord:
    """What is known of one patient.

    ``values`` : variable -> number in the schema's unit, bool for a flag, or category; a variable
    that is not in it is missing, which is normal. ``text`` : free text, "" where there is none.
    """

    values: Mapping[str, float | bool | str] = field(default_factory=dict)
    text: str = ""
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen_mapping(self.values))


@dataclass(frozen=True)
class RadiomicsFeatures:
    """Radiomics of one region of interest: PyRadiomics' feature name -> value, in a fixed order.

    ``settings`` is the digest of the settings that they were computed with.
    """

    values: Mapping[str, float]
    settings: str
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen_mapping(self.values))


def family(feature: str) -> str:
    """Family of a radiomics feature: its image type and class, ``wavelet-LLH_glcm`` of
    ``wavelet-LLH_glcm_Contrast``. One family is one token of the network."""
    return feature.rsplit("_", 1)[0]


@dataclass(frozen=True, eq=False)
class PatientArrays:
    """One patient as arrays, before a network scales them.

    ``clinical`` : (variables,) float64, NaN where missing; a flag is 0 or 1, a category its index.
    ``radiomics`` : (features,) float64, NaN where a feature could not be computed.
    ``ct`` : float32 (k, j, i) on the model's grid, normalised; ``roi`` : the liver on that grid,
    0..1. Any of the three modalities may be None: it is missing.
    """

    clinical: np.ndarray | None = None
    radiomics: np.ndarray | None = None
    ct: np.ndarray | None = None
    roi: np.ndarray | None = None
    text: str = ""


@dataclass(frozen=True)
class Contribution:
    """What one part of the input adds to the log odds of the outcome (Owen value).

    ``name`` for programs, ``title`` for people; ``modality`` is one of :data:`MODALITIES`;
    ``value`` is the input as the reader knows it ("41 g/l"), "" where there is no single one.
    ``error`` : standard error of an estimate; 0 where it is exact, None where it is not known.
    """

    name: str
    title: str
    modality: str
    logit: float
    value: str = ""
    error: float | None = 0.0


@dataclass(frozen=True, eq=False)
class PrognosisResult:
    """Everything that one run says about the prognosis of one patient.

    ``probability`` of the class ``outcome`` and ``logit``, its log odds, are calibrated.
    ``outcome_title`` says the outcome in words, ``horizon`` is its time, "" for none.
    ``modalities`` : those that were there. ``modality_contributions`` sum with ``base_logit`` (the
    answer with every modality missing) to ``logit``; the contributions of clinical variables and
    radiomics families sum to their modality's.
    ``missing`` : clinical variables that the model knows and that were not given, name -> title.
    ``ct_case`` : what the CT's branch saw, in the form that reports and Slicer show: shares of the
    liver's regions in the network's logits (before calibration), their map on the CT's grid, the
    graph. ``attention`` of a region is there its part of the attention over all positions, 0..1;
    ``reference_contrast`` is the answer with the CT's branch taking the CT for missing. None
    without a CT, or where the network has no such attention.
    """

    case_id: str
    task_title: str
    classes: tuple[ClassInfo, ...]
    outcome: str
    probability: float
    logit: float
    base_logit: float
    modalities: tuple[str, ...]
    modality_contributions: tuple[Contribution, ...]
    contributions: tuple[Contribution, ...]
    simulated_model: bool
    notices: tuple[Notice, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    outcome_title: str = ""
    horizon: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    ct_case: CaseResult | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", frozen_mapping(self.missing))

    @property
    def ranked(self) -> tuple[Contribution, ...]:
        """Contributions of variables, text and families, the largest first, whatever their sign."""
        return tuple(sorted(self.contributions, key=lambda one: -abs(one.logit)))

    def of_modality(self, modality: str) -> Contribution | None:
        """The contribution of a modality, None where it was not there."""
        return next((c for c in self.modality_contributions if c.modality == modality), None)
