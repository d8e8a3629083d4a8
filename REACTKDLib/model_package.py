"""Model packages: which numbers, roles, modalities and classes a model stands for.

A package is a MONAI-bundle directory: ``configs/metadata.json``, ``models/model.safetensors``,
``docs/model_card.md`` and ``SHA256SUMS``. Everything that REACTKD needs beyond the bundle's own
fields stands under the key ``reactkd``. This module needs no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import ModelPackageError
from .geometry import Vector
from .model_limits import limit_problems
from .resources import resource_path
from .roles import RoleRule
from .typed_json import FieldError, build
from .types import ClassInfo

FORMAT_VERSION = 1
METADATA = "configs/metadata.json"
WEIGHTS = "models/model.safetensors"
CARD = "docs/model_card.md"
CHECKSUMS = "SHA256SUMS"
_MAX_TEXT_BYTES = 16 << 20
_REQUIRED_FILES = (METADATA, WEIGHTS, CARD)


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
        return _read_metadata(self.path)

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.path / CARD).read_text(encoding="utf-8")


def modality_set_key(modalities: tuple[str, ...]) -> str:
    """Name of a set of modalities, e.g. ``ct+pet_fdg``; order does not matter."""
    return "+".join(sorted(modalities))


def shipped_packages() -> tuple[Path, ...]:
    """Folders of the model packages that come with REACTKD, the default one first."""
    return tuple(sorted(p.parent.parent for p in resource_path("Models").glob(f"*/{METADATA}")))


def load_package(path: Path | str | None = None) -> ModelPackage:
    """Read and verify a model package; None gives the shipped default.

    Raises
    ------
    ModelPackageError : not a package, a file missing, altered or not listed in ``SHA256SUMS``, a
        field missing, unknown or of the wrong type.
    """
    folder = shipped_packages()[0] if path is None else Path(path)
    if not (folder / METADATA).is_file():
        raise ModelPackageError(
            f"{folder} is not a model package: {METADATA} is missing.",
            "Give the folder that holds 'configs' and 'models'.",
        )
    digests = _verify_checksums(folder)
    metadata = _read_metadata(folder)
    section = metadata.get("reactkd")
    if not isinstance(section, dict) or section.get("format_version") != FORMAT_VERSION:
        found = section.get("format_version") if isinstance(section, dict) else None
        raise ModelPackageError(
            f"{folder.name}: package format {reprlib.repr(found)}, this REACTKD reads"
            f" {FORMAT_VERSION}.",
            "Use a package made for this version of REACTKD.",
        )
    spec_names = {f.name for f in dataclasses.fields(ModelSpec)}
    spec = spec_from_section({k: v for k, v in section.items() if k in spec_names})
    trained = _build(
        _Trained,
        {
            **{k: v for k, v in section.items() if k not in spec_names and k != "format_version"},
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
        package_sha256=_sha256(folder / CHECKSUMS),
    )


def spec_from_section(section: Mapping[str, Any]) -> ModelSpec:
    """The untrained specification: fields of :class:`ModelSpec` as JSON gives them.

    Raises
    ------
    ModelPackageError : as :func:`load_package`.
    """
    spec: ModelSpec = _build(ModelSpec, dict(section), "reactkd")
    _check_consistency(spec)
    return spec


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` (the format of ``sha256sum``) over every other file of a package."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    lines = [f"{_sha256(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _verify_checksums(folder: Path) -> dict[str, str]:
    sums = folder / CHECKSUMS
    if not sums.is_file():
        raise ModelPackageError(
            f"{folder.name}: {CHECKSUMS} is missing.", "Download the package again."
        )
    digests: dict[str, str] = {}
    # Undecodable bytes stay visible in the message about the name that they are part of.
    text = _read_bounded(folder, CHECKSUMS).decode("utf-8", errors="backslashreplace")
    for line in text.splitlines():
        digest, _, name = line.partition("  ")
        relative = PurePosixPath(name)
        forbidden = set("\\:\0") & set(name)
        if not name or relative.is_absolute() or ".." in relative.parts or forbidden:
            raise ModelPackageError(
                f"{folder.name}: {CHECKSUMS} names {name!r}, outside the package.",
                "Do not use this package.",
            )
        digests[name] = digest
    missing = [name for name in _REQUIRED_FILES if name not in digests]
    if missing:
        raise ModelPackageError(
            f"{folder.name}: {CHECKSUMS} does not list {', '.join(missing)}.",
            "Download the package again.",
        )
    for name, digest in digests.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise ModelPackageError(
                f"{folder.name}: {name} is a link to outside the package.",
                "Do not use this package, or copy the linked file into it.",
            )
        if not file.is_file():
            raise ModelPackageError(
                f"{folder.name}: {name} is missing.", "Download the package again."
            )
        if _sha256(file) != digest:
            raise ModelPackageError(
                f"{folder.name}: {name} was altered (SHA-256 does not match {CHECKSUMS}).",
                "Download the package again; do not use this copy.",
            )
    return digests


def _read_bounded(folder: Path, name: str) -> bytes:
    """The content of a text file of a package, which is small."""
    path = folder / name
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise ModelPackageError(
            f"{folder.name}: {name} has {path.stat().st_size} bytes; {_MAX_TEXT_BYTES} are read.",
            "Do not use this package.",
        )
    return path.read_bytes()


def _read_metadata(folder: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(_read_bounded(folder, METADATA).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelPackageError(
            f"{folder.name}: {METADATA} cannot be read: {error}.", "Download the package again."
        ) from error
    if not isinstance(metadata, dict):
        raise ModelPackageError(
            f"{folder.name}: {METADATA} is not a JSON object.", "Check the package."
        )
    return metadata


def _build(cls: type, fields: Any, where: str) -> Any:
    try:
        return build(cls, fields, where)
    except FieldError as error:
        raise ModelPackageError(
            f"Package: {error}", "Use a package made for this version of REACTKD."
        ) from error


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
