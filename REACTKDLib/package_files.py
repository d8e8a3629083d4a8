"""The files of a model package: layout, checksums, metadata.

A package is a MONAI-bundle directory: ``configs/metadata.json``, ``models/model.safetensors``,
``docs/model_card.md`` and ``SHA256SUMS``. It may come from anywhere: nothing outside of it is read,
and nothing in it that its checksums do not list. This module needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import ModelPackageError
from .resources import resource_path
from .typed_json import FieldError, build

METADATA = "configs/metadata.json"
WEIGHTS = "models/model.safetensors"
CARD = "docs/model_card.md"
CHECKSUMS = "SHA256SUMS"

#: Kinds of packages, recorded as ``reactkd.kind``; packages without it are of the first kind.
CLASSIFICATION, PROGNOSIS = "classification", "prognosis"
#: Which command takes which kind.
_USES = {
    CLASSIFICATION: "a model of REACT-KD: use 'reactkd predict'",
    PROGNOSIS: "a model of prognosis: use 'reactkd prognosis'",
}

_MAX_TEXT_BYTES = 16 << 20
_REQUIRED_FILES = (METADATA, WEIGHTS, CARD)


def shipped_folders(kind: str) -> tuple[Path, ...]:
    """Folders of the packages of one kind that come with REACTKD, by name."""
    folders = sorted(p.parent.parent for p in resource_path("Models").glob(f"*/{METADATA}"))
    return tuple(folder for folder in folders if package_kind(folder) == kind)


def is_package(folder: Path) -> bool:
    """Whether a folder is to be a model package at all."""
    return (folder / METADATA).is_file()


def package_kind(folder: Path) -> str:
    """The kind of a package, unverified, so that the right reader is chosen.

    Raises
    ------
    ModelPackageError : not a package, or metadata that cannot be read.
    """
    section = read_metadata(folder).get("reactkd")
    kind = section.get("kind", CLASSIFICATION) if isinstance(section, dict) else CLASSIFICATION
    return kind if isinstance(kind, str) else reprlib.repr(kind)


def verified_section(
    folder: Path, kind: str, format_version: int
) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, str]]:
    """Section ``reactkd``, the whole metadata, and SHA-256 by file, of a package that is whole.

    Raises
    ------
    ModelPackageError : not a package, a file missing, altered or not listed in ``SHA256SUMS``,
        another kind or format.
    """
    if not is_package(folder):
        raise ModelPackageError(
            f"{folder} is not a model package: {METADATA} is missing.",
            "Give the folder that holds 'configs' and 'models'.",
        )
    digests = verify_checksums(folder)
    metadata = read_metadata(folder)
    section = metadata.get("reactkd")
    found = package_kind(folder)
    if found != kind:
        use = _USES.get(found, "of a kind that this REACTKD does not know")
        raise ModelPackageError(
            f"{folder.name} is {use}.", f"Give a package of the kind {kind!r} here."
        )
    if not isinstance(section, dict) or section.get("format_version") != format_version:
        given = section.get("format_version") if isinstance(section, dict) else None
        raise ModelPackageError(
            f"{folder.name}: package format {reprlib.repr(given)}, this REACTKD reads"
            f" {format_version}.",
            "Use a package made for this version of REACTKD.",
        )
    return section, metadata, digests


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` (the format of ``sha256sum``) over every other file of a package."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    lines = [f"{sha256_of(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def verify_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 by file, of a package whose every listed file is there, inside, and unaltered.

    Raises
    ------
    ModelPackageError : as :func:`verified_section`.
    """
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
        if sha256_of(file) != digest:
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


def read_metadata(folder: Path) -> dict[str, Any]:
    """The content of ``metadata.json``.

    Raises
    ------
    ModelPackageError : it cannot be read, or is no JSON object.
    """
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


def build_section(cls: type, fields: Any, where: str) -> Any:
    """The dataclass of a section, :func:`.typed_json.build`.

    Raises
    ------
    ModelPackageError : a field missing, unknown or of the wrong type.
    """
    try:
        return build(cls, fields, where)
    except FieldError as error:
        raise ModelPackageError(
            f"Package: {error}", "Use a package made for this version of REACTKD."
        ) from error
