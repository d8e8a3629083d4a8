"""A model package for other programs: an ONNX graph, or a MONAI bundle.

Both hold the network for one set of modalities. What they read is what :mod:`REACTKDLib.normalise`
makes of a study; the graph's metadata and the bundle's preprocessing say so.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .atomic_file import atomic_file
from .backends import check_torch, library_versions
from .errors import OptionError, OutputError
from .infer import load_state
from .model_package import METADATA, ModelPackage, modality_set_key
from .report import atomic_folder
from .types import RESEARCH_USE

INFERENCE, STATE, README, LICENSE = (
    "configs/inference.json",
    "models/model.pt",
    "docs/README.md",
    "LICENSE",
)
BUNDLE_FILES = (METADATA, INFERENCE, STATE, README, LICENSE)

#: JSON Schema of ``metadata.json`` that the bundle keeps to.
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_PARTS = "REACTKDLib.networks.bundle"


def choose_modalities(package: ModelPackage, key: str | None) -> tuple[str, ...]:
    """Modalities of a set named as in ``ct+pet_fdg``, in the network's order; None is those that
    the package requires.

    Raises
    ------
    OptionError : the package is not calibrated for this set.
    """
    if key is None:
        key = modality_set_key(tuple(m.name for m in package.modalities if m.required))
    names = key.split("+")
    if modality_set_key(tuple(names)) not in package.statistics:
        raise OptionError(
            f"{package.name} was not calibrated for the modalities {key!r}.",
            f"Choose one of {', '.join(sorted(package.statistics))}.",
        )
    return tuple(name for name in package.modality_names if name in names)


def export_onnx(
    package: ModelPackage, path: Path, modalities: tuple[str, ...], *, overwrite: bool = False
) -> None:
    """Write :func:`~.networks.onnx_student.student_graph` as a file.

    Raises
    ------
    EnvironmentProblem : the package ``onnx`` is not installed.
    ModelPackageError : the weights do not fit the network.
    OutputError : the file exists (without ``overwrite``) or cannot be written.
    """
    from .networks.onnx_student import student_graph

    with atomic_file(path, overwrite=overwrite) as partial:
        graph = student_graph(package, load_state(package), modalities, _notes(package, modalities))
        partial.write_bytes(graph.SerializeToString())


def _notes(package: ModelPackage, modalities: tuple[str, ...]) -> dict[str, str]:
    statistics = package.statistics[modality_set_key(modalities)]
    return {
        "statement": RESEARCH_USE,
        "package": f"{package.name} {package.version}",
        "task": package.title,
        "weights_sha256": package.weights_sha256,
        "classes": json.dumps(package.class_names),
        "modalities": json.dumps(modalities),
        "spacing_mm": json.dumps(package.grid.spacing_mm),
        "temperature": repr(statistics.temperature),
        "simulated": json.dumps(package.simulated),
        "reactkd_version": __version__,
    }


def export_monai_bundle(
    package: ModelPackage, folder: Path, modalities: tuple[str, ...], *, overwrite: bool = False
) -> None:
    """Write a MONAI bundle, whole or not at all.

    Its network and preprocessing are :mod:`REACTKDLib.networks.bundle`: REACTKD must be installed
    where it runs.

    Raises
    ------
    EnvironmentProblem : torch is not installed.
    ModelPackageError : the weights do not fit the network.
    OutputError : the folder exists (without ``overwrite``), holds other files than a bundle's, or
        cannot be written.
    """
    folder = folder.absolute()
    _check_folder(folder, overwrite)
    check_torch()
    import torch

    from .networks.bundle import BundleNetwork

    network = BundleNetwork(modalities, len(package.classes), _network_fields(package))
    state = _part(load_state(package), network.state_dict())
    network.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    texts = {
        METADATA: _json(_metadata(package, modalities)),
        INFERENCE: _json(_inference(package, modalities)),
        README: _readme(package, modalities),
        LICENSE: _license(package),
    }
    with atomic_folder(folder) as partial:
        for name in BUNDLE_FILES:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")
        torch.save(network.state_dict(), partial / STATE)


def _check_folder(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "Give another folder.")
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if found and not overwrite:
        raise OutputError(
            f"{folder} exists and is not empty.", "Give a new folder, or --overwrite."
        )
    foreign = sorted(found - set(BUNDLE_FILES))
    if foreign:
        raise OutputError(
            f"{folder} holds files that are not the bundle's: {', '.join(foreign[:5])}.",
            "Move them away, or give another folder.",
        )


def _network_fields(package: ModelPackage) -> dict[str, Any]:
    """``NetworkSpec`` as JSON gives it."""
    fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(package.network)))
    return fields


def _part(
    state: Mapping[str, np.ndarray], wanted: Mapping[str, Any], prefix: str = "student."
) -> dict[str, np.ndarray]:
    """The tensors that the network of the bundle needs, under its names."""
    return {
        f"{prefix}{name}": array for name, array in state.items() if f"{prefix}{name}" in wanted
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(dict(document), indent=1, ensure_ascii=False) + "\n"


def _metadata(package: ModelPackage, modalities: tuple[str, ...]) -> dict[str, Any]:
    """The package's metadata in the schema's terms; what the package does not state is said."""
    stated = package.metadata
    prediction = {
        "num_channels": len(package.classes),
        "spatial_shape": [],
        "dtype": "float32",
        "is_patch_data": False,
        "channel_def": {str(n): name for n, name in enumerate(package.class_names)},
    }
    channels = [*modalities, "region of interest", "pooling weights"]
    image = {
        "type": "image",
        "format": "normalised",
        "num_channels": len(channels),
        "spatial_shape": [f"{s}*n+1" for s in package.network.total_stride],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(n): name for n, name in enumerate(channels)},
    }
    return {
        "schema": _SCHEMA,
        "task": package.title,
        "description": package.title,
        "authors": "not stated",
        "copyright": "not stated",
        **stated,
        "name": package.name,
        "required_packages_version": {
            "reactkd": __version__,
            "pytorch-ignite": "0.5",
            "fire": "0.7",
            **library_versions(("SimpleITK", "scipy", "safetensors")),
        },
        "network_data_format": {
            "inputs": {"image": image},
            "outputs": {
                "pred": {
                    "type": "logits",
                    "format": "classification",
                    "value_range": [],
                    **prediction,
                }
            },
            "post_processed_outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classification",
                    "value_range": [0, 1],
                    **prediction,
                }
            },
        },
    }


def _inference(package: ModelPackage, modalities: tuple[str, ...]) -> dict[str, Any]:
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "dataset_dir": "/workspace/data",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "temperature": package.statistics[modality_set_key(modalities)].temperature,
        "data": [
            {name: f"$@dataset_dir + '/{name}.nii.gz'" for name in (*modalities, "segmentation")}
        ],
        "network_def": {
            "_target_": f"{_PARTS}.BundleNetwork",
            "modalities": list(modalities),
            "classes": len(package.classes),
            "network": _network_fields(package),
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": f"{_PARTS}.PrepareCase",
            "metadata": f"$@bundle_root + '/{METADATA}'",
            "modalities": list(modalities),
        },
        "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Lambdad",
            "keys": "pred",
            "func": "$lambda logits: torch.softmax(logits / @temperature, dim=0)",
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": f"$@bundle_root + '/{STATE}'",
                "load_dict": {"model": "@network"},
            },
            {
                "_target_": "ClassificationSaver",
                "output_dir": "@output_dir",
                "batch_transform": "$lambda batch: [{'filename_or_obj': x['case']} for x in batch]",
                "output_transform": "$lambda output: [x['pred'] for x in output]",
            },
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _readme(package: ModelPackage, modalities: tuple[str, ...]) -> str:
    files = ", ".join(f"`{name}.nii.gz`" for name in (*modalities, "segmentation"))
    return f"""# {package.name}: a MONAI bundle

**{RESEARCH_USE}**

Exported by REACTKD {__version__} for the modalities {", ".join(modalities)}. Network and
preprocessing are REACTKD's (`{_PARTS}`): install REACTKD beside MONAI,
with pytorch-ignite and fire, which MONAI needs to run bundles.

    python -m monai.bundle run --config_file configs/inference.json \\
        --meta_file configs/metadata.json --bundle_root . --dataset_dir FOLDER

`FOLDER` holds {files}; the probabilities of the classes
({", ".join(package.class_names)}) go to `eval/predictions.csv`. `--data` names other files.
`models/model.pt` holds tensors only and loads with `weights_only=True`. Region shares, attention,
prediction sets and checks of the input are not part of the bundle: run `reactkd predict` for them.

{package.card}"""


def _license(package: ModelPackage) -> str:
    stated = package.metadata
    lines = [
        f"{package.name} {package.version}",
        f"Licence: {stated.get('copyright', 'not stated')}",
    ]
    if stated.get("copyright") == "Apache-2.0":
        lines.append("Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0")
    lines.append(f"Training data: {stated.get('data_source', 'not stated')}")
    return "\n".join(lines) + "\n"
