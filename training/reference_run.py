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
from REACTKDLib.model_package import (
    ModalitySetStatistics,
    ModelPackage,
    TrainingRanges,
    modality_set_key,
)
from REACTKDLib.networks.student import Student

from .configuration import TrainingConfiguration
from .evaluation.bootstrap import Estimate
from .evaluation.calibration import fit_temperature
from .evaluation.discrimination import macro_auc_interval
from .export import TrainedModalitySet, write_package
from .model_card import model_card
from .prepare import Preparation, PreparedCase, prepare_simulated
from .student import head_logits, pooled_features, train_student

DESCRIPTION = (
    "CBAM3D student for hepatocellular carcinoma grade from contrast CT with optional FDG-PET and"
    " acetate-PET, trained on SIMULATED images with labels only."
)

#: Least standard deviation of a pooled feature, in parts of the channels' root mean square.
_LEAST_SPREAD = 0.25

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
        modality_sets[modality_set_key(tuple(names))] = _calibrate(
            result.student, train, selection, configuration, names, device
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
        _ranges(train),
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
            "network_data_format": _data_format(configuration),
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


def _calibrate(
    student: Student,
    train: Sequence[PreparedCase],
    selection: Sequence[PreparedCase],
    configuration: TrainingConfiguration,
    names: Sequence[str],
    device: torch.device,
) -> TrainedModalitySet:
    """Reference features from the training cases, temperature and limit from the others."""
    spec = configuration.spec
    features = pooled_features(student, train, spec, names, device)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # A channel that hardly varies in training would turn any small difference into a distance.
    spread = np.maximum(deviation, _LEAST_SPREAD * np.sqrt(np.mean(deviation**2)))
    held_out = pooled_features(student, selection, spec, names, device)
    distances = np.sqrt(np.mean(((held_out - mean) / spread) ** 2, axis=1))
    labels = np.array([case.label for case in selection])
    return TrainedModalitySet(
        mean,
        spread,
        ModalitySetStatistics(
            temperature=fit_temperature(labels, head_logits(student, held_out)),
            distance_limit=float(np.percentile(distances, 99)),
        ),
    )


def _ranges(train: Sequence[PreparedCase]) -> TrainingRanges:
    def span(values: list[float]) -> tuple[float, float]:
        low, high = np.percentile(values, (1, 99))
        return (round(float(low), 1), round(float(high), 1))

    return TrainingRanges(
        median_hu=span([case.statistics.median_hu for case in train]),
        volume_ml=span([case.statistics.volume_ml for case in train]),
        largest_spacing_mm=span([case.statistics.largest_spacing_mm for case in train]),
    )


def _data_format(configuration: TrainingConfiguration) -> dict:
    """The bundle field that names the network's inputs and outputs."""
    spec = configuration.spec
    stride = spec.network.total_stride
    return {
        "inputs": {
            modality.name: {
                "type": "image",
                "format": "hounsfield" if modality.name == "ct" else "suv",
                "num_channels": 1,
                "spatial_shape": [f"{s}*n+1" for s in stride],
                "dtype": "float32",
                "is_patch_data": False,
            }
            for modality in spec.modalities
        },
        "outputs": {
            "pred": {
                "type": "probabilities",
                "format": "classification",
                "num_channels": len(spec.classes),
                "channel_def": {str(n): c.name for n, c in enumerate(spec.classes)},
            }
        },
    }
