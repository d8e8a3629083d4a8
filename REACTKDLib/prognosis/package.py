"""Model packages of prognosis, read and written.

The files are those of :mod:`REACTKDLib.package_files`; ``reactkd.kind`` is ``prognosis`` and the
rest of the section :class:`.metadata.PrognosisMetadata`. This module needs no torch, but for
:func:`write_prognosis_package`.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelPackageError, OptionError
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
from .metadata import (
    Calibration,
    ImageSpec,
    PrognosisMetadata,
    TextEncoderSpec,
    TrainingStatistics,
    check_metadata,
)
from .scaling import PrognosisScaling
from .schema import schema_document, schema_from_document

__all__ = [
    "Calibration",
    "ImageSpec",
    "PrognosisMetadata",
    "PrognosisPackage",
    "TextEncoderSpec",
    "TrainingStatistics",
    "load_prognosis_package",
    "metadata_document",
    "metadata_from_section",
    "shipped_prognosis_packages",
    "write_prognosis_package",
]

FORMAT_VERSION = 1


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
    def version(self) -> str:
        """The model's version."""
        return self.metadata.version

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
        return installed_version(package)
    except PackageNotFoundError:
        return ""
