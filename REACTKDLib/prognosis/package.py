"""Model packages of prognosis: everything that must be known to use a trained network.

The files are those of :mod:`REACTKDLib.package_files`; ``reactkd.kind`` is ``prognosis``. Clinical
schema, radiomics settings and scaling are embedded, so that no later edition of them changes what a
package means. This module needs no torch, but for :func:`write_prognosis_package`.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelPackageError, OptionError
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
from ..package_files import (
    CARD,
    CHECKSUMS,
    METADATA,
    PROGNOSIS,
    WEIGHTS,
    build_section,
    sha256_of,
    shipped_folders,
    verified_section,
    write_checksums,
)
from ..report import atomic_folder
from ..roles import RoleRule
from ..types import ClassInfo, frozen_mapping
from .networks.spec import PrognosisNetworkSpec, families_of, spec_problems, variables_of
from .radiomics_settings import RadiomicsSettings, feature_names
from .scaling import PrognosisScaling
from .schema import schema_document, schema_from_document
from .types import CLINICAL, CT, RADIOMICS, ClinicalSchema

FORMAT_VERSION = 1
#: What a text encoder is given: the free text alone, or every variable rendered as a sentence, too.
READS = ("text", "record")


@dataclass(frozen=True)
class ImageSpec:
    """How CT and segmentation are read: for the CT's branch and for radiomics.

    ``role_rules`` name the segments; ``modality`` is the CT's window, ``grid`` that of the network
    with its margin around the roles; ``regions`` divide the organ for the explanation;
    ``plausibility`` says what a CT must be like.
    """

    role_rules: tuple[RoleRule, ...]
    modality: ModalitySpec
    grid: GridSpec
    regions: RegionSpec
    plausibility: Plausibility


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


@dataclass(frozen=True)
class PrognosisPackage:
    """A trained model in a verified package; ``package_sha256`` is that of ``SHA256SUMS``."""

    metadata: PrognosisMetadata
    path: Path
    weights_sha256: str
    package_sha256: str

    @property
    def name(self) -> str:
        """The model's name."""
        return self.metadata.name

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return self.path / WEIGHTS

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.path / CARD).read_text(encoding="utf-8")


def shipped_prognosis_packages() -> tuple[Path, ...]:
    """Folders of the packages of prognosis that come with REACTKD, the default one first."""
    return shipped_folders(PROGNOSIS)


def load_prognosis_package(model: Path | str | None = None) -> PrognosisPackage:
    """Read and verify a package: a folder, the name of a shipped one, or None for the default.

    Raises
    ------
    ModelPackageError : as :func:`REACTKDLib.model_package.load_package`; a package of another
        kind; parts that do not fit each other; None where none is shipped.
    """
    shipped = shipped_prognosis_packages()
    if model is None and not shipped:
        raise ModelPackageError(
            "No model of prognosis comes with this REACTKD.", "Name the folder of one."
        )
    folder = shipped[0] if model is None else Path(model)
    if not folder.exists():
        folder = next((one for one in shipped if one.name == str(model)), folder)
    section, document, digests = verified_section(folder, PROGNOSIS, FORMAT_VERSION)
    fields = {k: v for k, v in section.items() if k not in ("format_version", "kind")}
    fields |= {name: document.get(name) for name in ("version", "intended_use")}
    return PrognosisPackage(
        metadata=metadata_from_section(fields),
        path=folder,
        weights_sha256=digests[WEIGHTS],
        package_sha256=sha256_of(folder / CHECKSUMS),
    )


def metadata_from_section(fields: Mapping[str, Any]) -> PrognosisMetadata:
    """Metadata from its JSON form, checked.

    Raises
    ------
    ModelPackageError : a field missing, unknown or of the wrong type, parts that do not fit.
    """
    try:
        metadata: PrognosisMetadata = build_section(PrognosisMetadata, dict(fields), "reactkd")
        if metadata.clinical_schema is not None:
            schema_from_document(fields["clinical_schema"], "of the model package")
        PrognosisScaling.from_json(fields["scaling"])
    except (InputError, OptionError) as error:
        raise ModelPackageError(
            f"Package: {error.message}", "Use a package made for this version of REACTKD."
        ) from error
    check_metadata(metadata)
    return metadata


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
    spec = metadata.model_spec()
    yield from limit_problems(spec.grid, spec.network, spec.pooling, spec.regions)


def metadata_document(metadata: PrognosisMetadata) -> dict[str, Any]:
    """Section ``reactkd`` of ``metadata.json``."""
    schema = metadata.clinical_schema
    plain = {
        **{f.name: getattr(metadata, f.name) for f in dataclasses.fields(metadata)},
        "clinical_schema": None if schema is None else schema_document(schema),
        "scaling": metadata.scaling.as_json(),
        "training": {**vars(metadata.training), "clinical": dict(metadata.training.clinical)},
    }
    for name in ("version", "intended_use"):  # the bundle's own fields
        del plain[name]
    text = json.dumps(plain, default=dataclasses.asdict, allow_nan=False)
    return {"format_version": FORMAT_VERSION, "kind": PROGNOSIS, **json.loads(text)}


def write_prognosis_package(
    folder: Path | str,
    metadata: PrognosisMetadata,
    state: Mapping[str, Any],
    card: str,
    bundle: Mapping[str, Any] | None = None,
) -> PrognosisPackage:
    """Write a package, whole or not at all, and read it back.

    Parameters
    ----------
    state : ``state_dict()`` of the network of ``metadata.network``.
    card : model card, Markdown. bundle : further fields of a MONAI bundle's metadata.

    Raises
    ------
    ModelPackageError : as :func:`load_prognosis_package`.
    OutputError : the folder cannot be written.
    """
    from safetensors.torch import save_file

    folder = Path(folder).absolute()
    check_metadata(metadata)
    document = {
        "description": metadata.title,
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch").split("+")[0],
        "numpy_version": _version("numpy"),
        "python_version": platform.python_version(),
        **(bundle or {}),
        "version": metadata.version,
        "intended_use": metadata.intended_use,
        "reactkd": metadata_document(metadata),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_folder(folder) as partial:
        for name in (METADATA, WEIGHTS, CARD):
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        (partial / METADATA).write_text(text + "\n", encoding="utf-8")
        save_file(tensors, partial / WEIGHTS)
        (partial / CARD).write_text(card, encoding="utf-8")
        write_checksums(partial)
    return load_prognosis_package(folder)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
