"""The commands about a model package: ``info`` and ``export``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cli_log import Log
from .errors import OptionError
from .model_package import (
    ModalitySetStatistics,
    ModelPackage,
    load_package,
    shipped_packages,
)
from .package_files import PROGNOSIS, is_package, package_kind
from .prognosis.package import (
    PrognosisPackage,
    load_prognosis_package,
    shipped_prognosis_packages,
)
from .prognosis.titles import TITLES
from .roles import RoleRule


def add_model_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``info`` and ``export``."""
    info = commands.add_parser("info", parents=[common], help="show a model package")
    info.set_defaults(run=_info)
    info.add_argument("model", nargs="?", help="a folder, or the name of a shipped one")

    export = commands.add_parser(
        "export", parents=[common], help="write a model for other programs"
    )
    export.set_defaults(run=_export)
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--onnx", type=Path, metavar="FILE", help="an ONNX graph, .onnx")
    form.add_argument("--monai-bundle", type=Path, metavar="DIR", help="a MONAI bundle")
    export.add_argument("--model", help="model package: a folder, or the name of a shipped one")
    export.add_argument(
        "--modalities", metavar="SET", help="e.g. ct+pet_fdg; default: those that are required"
    )
    export.add_argument("--overwrite", action="store_true", help="replace an earlier export")


def package_of(model: str | None) -> ModelPackage:
    """A package by folder, by the name of a shipped one, or the default."""
    if model is not None and not Path(model).exists():
        for shipped in shipped_packages():
            if shipped.name == model:
                return load_package(shipped)
    return load_package(model)


def any_package_of(model: str | None) -> ModelPackage | PrognosisPackage:
    """As :func:`package_of`, of either kind."""
    folder = None if model is None else Path(model)
    if folder is not None and not folder.exists():
        shipped = {path.name: path for path in shipped_prognosis_packages()}
        folder = shipped.get(str(model), folder)
    if folder is not None and is_package(folder) and package_kind(folder) == PROGNOSIS:
        return load_prognosis_package(folder)
    return package_of(model)


def role_segments(texts: Sequence[str], rules: Sequence[RoleRule]) -> dict[str, tuple[str, ...]]:
    """The segments that ``--role`` names, by role.

    Raises
    ------
    OptionError : not of that form, or no role of the model.
    """
    roles: dict[str, tuple[str, ...]] = {}
    known = [rule.name for rule in rules]
    for text in texts:
        role, separator, segment = text.partition("=")
        if not separator or role not in known:
            raise OptionError(
                f"--role {text!r} is not ROLE=SEGMENT.", f"Roles of this model: {', '.join(known)}."
            )
        roles[role] = (*roles.get(role, ()), segment)
    return roles


def _info(options: argparse.Namespace, log: Log) -> None:
    package = any_package_of(options.model)
    if isinstance(package, PrognosisPackage):
        _prognosis_info(package, log)
        return
    lines = [
        f"{package.name} {package.version}: {package.title}",
        package.intended_use,
        f"classes: {', '.join(package.class_names)}",
        "roles: " + ", ".join(f"{r.name}{' (required)' * r.required}" for r in package.role_rules),
        "modalities: "
        + ", ".join(f"{m.name}{' (required)' * m.required}" for m in package.modalities),
        *(f"calibration of {key}: {_calibration(s)}" for key, s in package.statistics.items()),
        f"weights SHA-256: {package.weights_sha256}",
        f"folder: {package.path}",
        "",
        package.card,
    ]
    log.say("\n".join(lines), name=package.name, version=package.version, path=str(package.path))


def _prognosis_info(package: PrognosisPackage, log: Log) -> None:
    metadata, image = package.metadata, package.metadata.image
    schema, settings = metadata.clinical_schema, metadata.radiomics
    required = {name: f"{name}{' (required)' * (name in metadata.required)}" for name in TITLES}
    horizon = f", {metadata.horizon}" if metadata.horizon else ""
    lines = [
        f"{metadata.name} {metadata.version}: {metadata.title} (prognosis)",
        metadata.intended_use,
        f"task: {metadata.task}",
        f"outcome: {metadata.outcome_title} ({metadata.outcome}{horizon})",
        f"modalities: {', '.join(required[name] for name in metadata.network.modalities)}",
    ]
    if image is not None:
        rules = image.role_rules
        lines.append("roles: " + ", ".join(f"{r.name}{' (required)' * r.required}" for r in rules))
    if schema is not None:
        lines.append(f"clinical variables ({schema.name}): {', '.join(schema.names)}")
    if metadata.text is not None:
        lines.append(f"language model: {metadata.text.name}")
    if settings is not None:
        kept = len(metadata.scaling.radiomics.kept) if metadata.scaling.radiomics else 0
        lines.append(f"radiomics: {kept} features of {', '.join(settings.image_types)}")
    lines += [
        f"calibration: temperature {metadata.calibration.temperature:.2f}, intercept"
        f" {metadata.calibration.intercept:+.2f}",
        f"trained on {metadata.training.patients} patients{' (simulated)' * metadata.simulated}",
        f"weights SHA-256: {package.weights_sha256}",
        f"folder: {package.path}",
        "",
        package.card,
    ]
    log.say("\n".join(lines), name=package.name, version=package.version, path=str(package.path))


def _calibration(statistics: ModalitySetStatistics) -> str:
    text = f"temperature {statistics.temperature:.2f}"
    if statistics.prediction_set_coverage is None or statistics.prediction_set_limit is None:
        return text
    least = 1 - statistics.prediction_set_limit
    return (
        f"{text}; prediction sets of {statistics.prediction_set_coverage:.0%} coverage hold the"
        f" classes from a probability of {least:.2f} on"
    )


def _export(options: argparse.Namespace, log: Log) -> None:
    from .export import choose_modalities, export_monai_bundle, export_onnx

    package = package_of(options.model)
    modalities = choose_modalities(package, options.modalities)
    if options.onnx is not None:
        output = options.onnx
        export_onnx(package, output, modalities, overwrite=options.overwrite)
    else:
        output = options.monai_bundle
        export_monai_bundle(package, output, modalities, overwrite=options.overwrite)
    log.say(f"{package.name} for {', '.join(modalities)}: {output}", output=str(output))
