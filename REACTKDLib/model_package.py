"""Model packages: which numbers, roles, modalities and classes a model stands for.

The files are those of :mod:`.package_files`. Everything that REACTKD needs beyond the bundle's own
fields stands under the key ``reactkd``. This module needs no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ModelPackageError
from .geometry import Vector
from .model_limits import limit_problems
from .package_files import (
    CARD,
    CHECKSUMS,
    CLASSIFICATION,
    METADATA,
    WEIGHTS,
    build_section,
    read_metadata,
    sha256_of,
    shipped_folders,
    verified_section,
    write_checksums,
)
from .roles import RoleRule
from .types import ClassInfo

__all__ = [
    "CARD",
    "CHECKSUMS",
    "FORMAT_VERSION",
    "METADATA",
    "WEIGHTS",
    "GridSpec",
    "ModalitySetStatistics",
    "ModalitySpec",
    "ModelPackage",
    "ModelSpec",
    "NetworkSpec",
    "Plausibility",
    "PoolingSpec",
    "RegionSpec",
    "TrainingRanges",
    "load_package",
    "modality_set_key",
    "shipped_packages",
    "spec_from_section",
    "write_checksums",
]

FORMAT_VERSION = 1
#: Fields of the section that say what kind of package it is.
_MARKS = ("format_version", "kind")


@dataclass(frozen=True)
class ModalitySpec:
    """How one modality becomes numbers for the network.

    Intensities are clipped, scaled to 0..1 and z-scored over the region of interest. The clip is
    either a fixed ``window`` (HU for CT, SUV for PET) or ``percentiles`` of the region of interest.
    Without ``standardise`` the window becomes -1..1 and there is no z-score: for images whose
    absolute values count, such as the SUV of a tumour that is all of the region of interest.
    """

    name: str
    title: str
    required: bool
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    standardise: bool = True


@dataclass(frozen=True)
class GridSpec:
    """The model's grid, axis-aligned in the patient.

    ``spacing_mm`` is along (i, j, k) = (right-left, anterior-posterior, inferior-superior);
    ``margin_mm`` widens the region of interest around the roles; ``supersampling`` points per axis
    and voxel are averaged, against aliasing.
    """

    spacing_mm: Vector
    margin_mm: float
    supersampling: int = 2


@dataclass(frozen=True)
class NetworkSpec:
    """Shape of the student. ``strides`` are (k, j, i) steps between successive encoder levels;
    without ``cbam`` it has no attention block (an ablation)."""

    init_filters: int
    blocks_down: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    fused_channels: int
    attention_ratio: int = 8
    attention_kernel: int = 7
    dropout: float = 0.0
    cbam: bool = True

    @property
    def total_stride(self) -> tuple[int, int, int]:
        """Voxels per feature cell along (k, j, i)."""
        total = [1, 1, 1]
        for stride in self.strides:
            total = [t * s for t, s in zip(total, stride, strict=True)]
        return (total[0], total[1], total[2])


@dataclass(frozen=True)
class PoolingSpec:
    """Weights of the global average pooling over the region of interest.

    Lesions widened by ``lesion_margin_mm`` have ``lesion_weight`` (0..1) of the whole, however
    small they are, and the rest of the region has what remains.
    """

    lesion_weight: float
    lesion_margin_mm: float


@dataclass(frozen=True)
class RegionSpec:
    """Numbers of the region schemes: ml and mm."""

    organ_role: str | None
    lesion_role: str
    minimum_lesion_ml: float
    rim_mm: float


@dataclass(frozen=True)
class Plausibility:
    """What a CT must be like to be one at all (errors otherwise), HU.

    The median under the segmentation, the spread (5th to 95th percentile) there, and the value that
    the darkest voxel of the volume stays below (fat, air).
    """

    median_hu: tuple[float, float]
    minimum_spread_hu: float
    fat_below_hu: float


@dataclass(frozen=True)
class TrainingRanges:
    """What training inputs were like (notices outside): 1st to 99th percentile of the cohort.

    Fields as in ``checks.InputStatistics``.
    """

    median_hu: tuple[float, float]
    volume_ml: tuple[float, float]
    largest_spacing_mm: tuple[float, float]


@dataclass(frozen=True)
class ModalitySetStatistics:
    """Calibration for one set of modalities: ``temperature`` divides the logits; beyond
    ``distance_limit`` the pooled features are further from training than 99 % of it was.

    A class belongs to the prediction set where one minus its probability is at most
    ``prediction_set_limit``; sets were calibrated to hold the true class of a part
    ``prediction_set_coverage`` of patients like those of the training. None: not calibrated.
    """

    temperature: float
    distance_limit: float
    prediction_set_limit: float | None = None
    prediction_set_coverage: float | None = None


@dataclass(frozen=True)
class ModelSpec:
    """What a model is, before it is trained: task, inputs, grid, network and regions."""

    name: str
    title: str
    simulated: bool
    classes: tuple[ClassInfo, ...]
    role_rules: tuple[RoleRule, ...]
    modalities: tuple[ModalitySpec, ...]
    grid: GridSpec
    network: NetworkSpec
    pooling: PoolingSpec
    regions: RegionSpec
    plausibility: Plausibility

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return tuple(c.name for c in self.classes)

    @property
    def modality_names(self) -> tuple[str, ...]:
        """Names of the modalities, in the network's order."""
        return tuple(m.name for m in self.modalities)


@dataclass(frozen=True)
class _Trained:
    """What training adds to a specification."""

    version: str
    intended_use: str
    training_ranges: TrainingRanges
    statistics: Mapping[str, ModalitySetStatistics]


@dataclass(frozen=True)
class ModelPackage(_Trained, ModelSpec):
    """A trained model in a verified package.

    ``package_sha256`` is that of ``SHA256SUMS``, which stands for the content of every file.
    """

    path: Path
    weights_sha256: str
    package_sha256: str

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return self.path / WEIGHTS

    @property
    def metadata(self) -> dict[str, Any]:
        """The whole metadata file, the bundle's own fields included."""
        return read_metadata(self.path)

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.path / CARD).read_text(encoding="utf-8")


def modality_set_key(modalities: tuple[str, ...]) -> str:
    """Name of a set of modalities, e.g. ``ct+pet_fdg``; order does not matter."""
    return "+".join(sorted(modalities))


def shipped_packages() -> tuple[Path, ...]:
    """Folders of the model packages that come with REACTKD, the default one first."""
    return shipped_folders(CLASSIFICATION)


def load_package(path: Path | str | None = None) -> ModelPackage:
    """Read and verify a model package; None gives the shipped default.

    Raises
    ------
    ModelPackageError : not a package, one of prognosis, a file missing, altered or not listed in
        ``SHA256SUMS``, a field missing, unknown or of the wrong type.
    """
    folder = shipped_packages()[0] if path is None else Path(path)
    section, metadata, digests = verified_section(folder, CLASSIFICATION, FORMAT_VERSION)
    spec_names = {f.name for f in dataclasses.fields(ModelSpec)}
    spec = spec_from_section({k: v for k, v in section.items() if k in spec_names})
    trained = build_section(
        _Trained,
        {
            **{k: v for k, v in section.items() if k not in {*spec_names, *_MARKS}},
            "version": metadata.get("version"),
            "intended_use": metadata.get("intended_use"),
        },
        "reactkd",
    )
    # Not dataclasses.asdict: it would turn the parts into dictionaries.
    return ModelPackage(
        **vars(spec),
        **vars(trained),
        path=folder,
        weights_sha256=digests[WEIGHTS],
        package_sha256=sha256_of(folder / CHECKSUMS),
    )


def spec_from_section(section: Mapping[str, Any]) -> ModelSpec:
    """The untrained specification: fields of :class:`ModelSpec` as JSON gives them.

    Raises
    ------
    ModelPackageError : as :func:`load_package`.
    """
    spec: ModelSpec = build_section(ModelSpec, dict(section), "reactkd")
    _check_consistency(spec)
    return spec


def _check_consistency(package: ModelSpec) -> None:
    def refuse(problem: str) -> None:
        raise ModelPackageError(f"{package.name}: {problem}", "Check the package.")

    roles = [rule.name for rule in package.role_rules]
    if len(package.classes) < 2:
        refuse(f"{len(package.classes)} classes; a classifier has at least 2.")
    if len(set(package.class_names)) != len(package.classes):
        refuse(f"class names repeat: {package.class_names}.")
    if "ct" not in package.modality_names:
        refuse(f"modalities {package.modality_names} lack 'ct'.")
    for role in (package.regions.organ_role, package.regions.lesion_role):
        if role is not None and role not in roles:
            refuse(f"region role {role!r} is not among the roles {roles}.")
    for modality in package.modalities:
        if (modality.window is None) == (modality.percentiles is None):
            refuse(f"modality {modality.name} needs either a window or percentiles.")
        if not modality.standardise and modality.window is None:
            refuse(f"modality {modality.name} needs a window to go without a z-score.")
    if len(package.network.strides) != len(package.network.blocks_down) - 1:
        refuse("the network needs one stride between each two encoder levels.")
    if not 0 <= package.pooling.lesion_weight < 1:
        refuse(f"pooling.lesion_weight is {package.pooling.lesion_weight}, not in 0..1.")
    for problem in limit_problems(package.grid, package.network, package.pooling, package.regions):
        refuse(problem)
