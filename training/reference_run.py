"""The training behind the shipped model: simulate, train, calibrate, test, write the package."""

from __future__ import annotations

import itertools
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from REACTKDLib import __version__
from REACTKDLib.model_package import ModelPackage, modality_set_key
from REACTKDLib.networks.student import Student

from .configuration import TrainingConfiguration
from .evaluation.bootstrap import Estimate
from .evaluation.discrimination import macro_auc_interval
from .export import write_package
from .model_card import model_card
from .package_statistics import calibrate, data_format, training_ranges
from .prepare import Preparation, PreparedCase, prepare_simulated
from .student import head_logits, pooled_features, train_student

DESCRIPTION = (
    "CBAM3D student for hepatocellular carcinoma grade from contrast CT with optional FDG-PET and"
    " acetate-PET, trained on SIMULATED images with labels only."
)

INTENDED_USE = (
    "Research use only. Shows how REACTKD works; trained on simulated images, so its probabilities"
    " have no clinical meaning on a real patient's images."
)


def run(
    configuration: TrainingConfiguration, work: Path, package: Path, workers: int
) -> ModelPackage:
    """Do the whole run; ``work`` keeps cached tensors and checkpoints, so it can be resumed."""
    spec, sizes, seed = configuration.spec, configuration.cohort, configuration.seed
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stops = np.cumsum([0, sizes.train, sizes.selection, sizes.test])
    began = time.monotonic()
    preparation, cache = Preparation(spec, seed), work / "cases"
    internal = prepare_simulated(preparation, sizes.profile, range(int(stops[-1])), cache, workers)
    external = prepare_simulated(
        preparation, "external", range(sizes.external_test), cache, workers
    )
    prepared = time.monotonic()
    train, selection, test = (internal[a:b] for a, b in itertools.pairwise(stops))
    result = train_student(configuration, train, selection, work, device)
    trained = time.monotonic()

    modality_sets, estimates = {}, {}
    for key in configuration.optimisation.modality_sets:
        names = key.split("+")
        modality_sets[modality_set_key(tuple(names))] = calibrate(
            result.student, train, selection, spec, tuple(names), device
        )
        estimates[f"internal test, {_title(names)}"] = _auc(
            result.student, test, configuration, names, device
        )
    estimates["external test, CT"] = _auc(result.student, external, configuration, ["ct"], device)

    figures = {
        "simulated": True,
        "configuration": configuration.document,
        "environment": {
            "reactkd": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "device": str(device),
        },
        "minutes": {
            "simulation": round((prepared - began) / 60, 1),
            "training": round((trained - prepared) / 60, 1),
        },
        "history": list(result.history),
        "macro_auc": {name: vars(estimate) for name, estimate in estimates.items()},
    }
    (work / "results.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return write_package(
        package,
        configuration.document["spec"],
        result.student,
        modality_sets,
        training_ranges(train),
        model_card(configuration, figures, estimates, modality_sets, INTENDED_USE),
        {
            "version": __version__,
            "changelog": {__version__: "first model, simulated images, labels only"},
            "task": spec.title,
            "description": DESCRIPTION,
            "intended_use": INTENDED_USE,
            "authors": "REACTKD contributors",
            "copyright": "Apache-2.0",
            "data_source": "simulated by REACTKDLib.simulation",
            "network_data_format": data_format(spec),
        },
    )


def _title(names: Sequence[str]) -> str:
    titles = {"ct": "CT", "pet_fdg": "FDG-PET", "pet_acetate": "acetate-PET"}
    return " + ".join(titles[name] for name in names)


def _auc(
    student: Student,
    cases: Sequence[PreparedCase],
    configuration: TrainingConfiguration,
    names: Sequence[str],
    device: torch.device,
) -> Estimate:
    pooled = pooled_features(student, cases, configuration.spec, names, device)
    labels = np.array([case.label for case in cases])
    return macro_auc_interval(labels, head_logits(student, pooled), configuration.seed)
