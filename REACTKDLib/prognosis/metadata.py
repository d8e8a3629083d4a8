"""What a model of prognosis is: the metadata of its package, and whether they fit each other.

Clinical schema, radiomics settings and scaling are embedded, so that no later edition of them
changes what a package means. Needs neither torch nor SimpleITK.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import InputError, ModelPackageError
from ..model_limits import limit_problems
from ..model_package import (
    GridSpec,
    ModalitySpec,
    ModelSpec,
    NetworkSpec,
    Plausibility,
    PoolingSpec,
    RegionSpec,
    TrainingRanges,
)
from ..roles import RoleRule
from ..types import ClassInfo, frozen_mapping
from .networks.spec import PrognosisNetworkSpec, families_of, spec_problems, variables_of
from .radiomics_settings import RadiomicsSettings, feature_names
from .scaling import PrognosisScaling
from .types import CLINICAL, CT, RADIOMICS, ClinicalSchema

__all__ = [
    "Calibration",
    "ImageSpec",
    "PrognosisMetadata",
    "TextEncoderSpec",
    "TrainingStatistics",
    "check_metadata",
]

#: What a text encoder is given: the free text alone, or every variable rendered as a sentence, too.
READS = ("text", "record")


@dataclass(frozen=True)
class ImageSpec:
    """How CT and segmentation are read: for the CT's branch and for radiomics.

    ``role_rules`` name the segments; ``modality`` is the CT's window, ``grid`` that of the network
    with its margin around the roles; ``regions`` divide the organ for the explanation;
    ``plausibility`` says what a CT must be like. ``volume_size`` (k, j, i) : of a network that
    reads whole volumes, the size that it was trained with; None for any.
    """

    role_rules: tuple[RoleRule, ...]
    modality: ModalitySpec
    grid: GridSpec
    regions: RegionSpec
    plausibility: Plausibility
    volume_size: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Calibration:
    """Calibrated log odds = ``intercept`` + log odds / ``temperature``."""

    temperature: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class TextEncoderSpec:
    """The language model whose token vectors the network reads.

    ``name`` : as :class:`.clinical_text.TextEncoder` takes it; ``digest`` : of its weights and
    tokenizer, "" for any. ``reads`` : one of :data:`READS`; ``missing`` : as
    :func:`.clinical_text.render`, of a record's missing variables.
    """

    name: str
    digest: str = ""
    reads: str = "text"
    missing: str = "omit"


@dataclass(frozen=True)
class TrainingStatistics:
    """What training patients were like; a notice says where a patient is not.

    ``clinical`` : variable -> 1st and 99th percentile, in the schema's unit, numbers only.
    ``radiomics_distance`` : 99th percentile of the root mean square of the scaled features.
    ``image`` : of CT and segmentation.
    """

    patients: int = 0
    clinical: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    radiomics_distance: float | None = None
    image: TrainingRanges | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "clinical", frozen_mapping(self.clinical))


@dataclass(frozen=True)
class PrognosisMetadata:
    """What a model of prognosis is.

    ``name`` for programs, ``title`` and ``task`` for people; ``outcome`` is the class whose
    probability is the answer, ``outcome_title`` says it in words ("death within one year"),
    ``horizon`` is its time ("1 year", "" for none). ``required`` : modalities without which there
    is no answer; by default any one of them is enough.
    """

    name: str
    title: str
    version: str
    task: str
    outcome: str
    outcome_title: str
    horizon: str
    classes: tuple[ClassInfo, ...]
    network: PrognosisNetworkSpec
    scaling: PrognosisScaling
    simulated: bool
    intended_use: str
    clinical_schema: ClinicalSchema | None = None
    radiomics: RadiomicsSettings | None = None
    image: ImageSpec | None = None
    text: TextEncoderSpec | None = None
    calibration: Calibration = Calibration()
    required: tuple[str, ...] = ()
    training: TrainingStatistics = field(default_factory=TrainingStatistics)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return tuple(c.name for c in self.classes)

    @property
    def outcome_index(self) -> int:
        """Number of the class :attr:`outcome`."""
        return self.class_names.index(self.outcome)

    @property
    def radiomics_names(self) -> tuple[str, ...]:
        """All features that the scaling reads, in its order."""
        return self.scaling.radiomics.names if self.scaling.radiomics else ()

    def model_spec(self) -> ModelSpec:
        """CT and regions as the image stages (``locate_roi``, ``normalise``, ``make_regions``)
        know them.

        Raises
        ------
        ModelPackageError : a model that reads no image.
        """
        if self.image is None:
            raise ModelPackageError(
                f"{self.name} reads no image.", "Leave CT and segmentation out."
            )
        strides = self.network.ct.strides
        return ModelSpec(
            name=self.name,
            title=self.title,
            simulated=self.simulated,
            classes=self.classes,
            role_rules=self.image.role_rules,
            modalities=(self.image.modality,),
            grid=self.image.grid,
            # Of the network, these stages read how far its cells are apart.
            network=NetworkSpec(1, (1,) * (len(strides) + 1), strides, 1),
            pooling=PoolingSpec(0.0, 0.0),
            regions=self.image.regions,
            plausibility=self.image.plausibility,
        )


def check_metadata(metadata: PrognosisMetadata) -> None:
    """Refuse metadata whose parts do not fit each other.

    Raises
    ------
    ModelPackageError : the first problem.
    """
    for problem in _problems(metadata):
        raise ModelPackageError(f"{metadata.name}: {problem}", "Check the package.")


def _problems(metadata: PrognosisMetadata) -> Iterator[str]:
    network, names = metadata.network, metadata.class_names
    yield from spec_problems(network)
    if len(set(names)) != len(names) or len(names) != network.classes:
        yield f"the classes are {names}, the network has {network.classes}."
    if metadata.outcome not in names:
        yield f"the outcome {metadata.outcome!r} is not among the classes {names}."
    if not set(metadata.required) <= set(network.modalities):
        yield f"required modalities are {metadata.required}, the network has {network.modalities}."
    if not 0.01 <= metadata.calibration.temperature <= 100:
        yield f"the temperature is {metadata.calibration.temperature}, not in 0.01..100."
    if not abs(metadata.calibration.intercept) <= 100:
        yield f"the intercept is {metadata.calibration.intercept}, not in -100..100."
    yield from _clinical_problems(metadata)
    yield from _radiomics_problems(metadata)
    yield from _image_problems(metadata)


def _clinical_problems(metadata: PrognosisMetadata) -> Iterator[str]:
    network, schema, text = metadata.network, metadata.clinical_schema, metadata.text
    if CLINICAL not in network.modalities:
        return
    if schema is None:
        yield "there are clinical inputs and no schema."
        return
    scaling = metadata.scaling.clinical
    if network.variables and network.variables != variables_of(schema):
        yield "the network's variables are not those of the clinical schema."
    if network.variables and (scaling is None or scaling.names != schema.names):
        yield "the scaling's variables are not those of the clinical schema."
    if not set(metadata.training.clinical) <= set(schema.names):
        yield "training ranges are given of variables that the schema does not have."
    if bool(network.text_hidden) != (text is not None):
        yield f"text vectors have the width {network.text_hidden}, the text encoder is {text}."
    if text is not None and (text.reads not in READS or text.missing not in ("omit", "say")):
        yield f"the text encoder reads {text.reads!r}, missing values {text.missing!r}."


def _radiomics_problems(metadata: PrognosisMetadata) -> Iterator[str]:
    network, scaling = metadata.network, metadata.scaling.radiomics
    if RADIOMICS not in network.modalities:
        return
    if scaling is None or metadata.radiomics is None:
        yield "there are radiomics without settings or scaling."
        return
    if set(scaling.names) - set(feature_names(metadata.radiomics)):
        yield "the scaling has radiomics features that the settings do not make."
    if set(scaling.kept) - set(scaling.names) or len(set(scaling.names)) < len(scaling.names):
        yield "the scaling keeps radiomics features that it does not have."
    try:
        fits = families_of(scaling.kept) == network.families
    except InputError:
        fits = False
    if not fits:
        yield "the network's families are not those of the features that the scaling keeps."


def _image_problems(metadata: PrognosisMetadata) -> Iterator[str]:
    image = metadata.image
    if image is None:
        if {CT, RADIOMICS} & set(metadata.network.modalities):
            yield "it reads an image and does not say how."
        return
    modality, roles = image.modality, [rule.name for rule in image.role_rules]
    for role in (image.regions.organ_role, image.regions.lesion_role):
        if role is not None and role not in roles:
            yield f"region role {role!r} is not among the roles {roles}."
    if modality.name != CT or (modality.window is None) == (modality.percentiles is None):
        yield f"the modality {modality.name!r} is not 'ct' with either a window or percentiles."
    elif not modality.standardise and modality.window is None:
        yield "the CT needs a window to go without a z-score."
    size = image.volume_size
    if size is not None and not all(1 <= n <= 1024 for n in size):
        yield f"volume_size is {size}, not in 1..1024."
    spec = metadata.model_spec()
    yield from limit_problems(spec.grid, spec.network, spec.pooling, spec.regions)
