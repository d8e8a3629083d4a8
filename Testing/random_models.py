"""Small model packages with random weights: for tests of everything but the answer's meaning."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from REACTKDLib.model_package import (
    METADATA,
    ModalitySetStatistics,
    ModelPackage,
    ModelSpec,
    TrainingRanges,
    modality_set_key,
    spec_from_section,
    write_checksums,
)
from REACTKDLib.networks.student import Student
from REACTKDLib.normalise import normalise, to_feature_grid
from REACTKDLib.roi import locate_roi
from REACTKDLib.types import Study
from training.export import TrainedModalitySet, write_package

SHIPPED_CONFIGURATION = (
    Path(__file__).resolve().parents[1] / "training" / "configs" / "hcc_grade3.json"
)


def shipped_specification() -> dict[str, Any]:
    """The model of the shipped configuration, as JSON."""
    return json.loads(SHIPPED_CONFIGURATION.read_text(encoding="utf-8"))["spec"]


def specification(**changes: Any) -> dict[str, Any]:
    """The same with a small network on a coarse grid: a case takes a twentieth of a second."""
    document = shipped_specification()
    document |= {"name": "random", "title": "Random weights"}
    document["grid"] |= {"spacing_mm": [5.0, 5.0, 7.0]}
    document["network"] |= {"init_filters": 4, "blocks_down": [1, 1, 1], "fused_channels": 8}
    return document | changes


def specification_without_organ() -> dict[str, Any]:
    """A model for tumours of any organ: one role, one modality."""
    document = specification(name="tumour-only")
    document["role_rules"] = [
        {"name": "tumour", "required": True, "aliases": ["tumour"], "default_label": 1}
    ]
    document["modalities"] = document["modalities"][:1]
    document["regions"] |= {"organ_role": None, "lesion_role": "tumour"}
    return document


def random_student(spec: ModelSpec, seed: int) -> Student:
    """Random weights, without touching torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(spec.modality_names, len(spec.classes), spec.network)
        for weight in student.encoders.parameters():
            if weight.ndim == 5:  # smoothing filters: random ones would see little but noise
                weight.data.abs_()
        for projection in student.projections.values():
            projection.weight.data *= 8  # spread the features over 0..1
    return student.eval()


def write_random_package(
    folder: Path, document: dict[str, Any] | None = None, study: Study | None = None, seed: int = 5
) -> ModelPackage:
    """A verified package with random weights whose answers vary strongly from case to case.

    The reference features are those of ``study`` (all modalities), moved a little; the head is
    steep and its bias puts the reference at small logits. Without a study the reference is 0.5.
    """
    document = document or specification()
    spec = spec_from_section(document)
    student = random_student(spec, seed)
    rng = np.random.default_rng(seed)
    calibration = ModalitySetStatistics(temperature=1.3, distance_limit=1e6)
    trained = {}
    for names in _modality_sets(spec):
        reference = np.full(spec.network.fused_channels, 0.5)
        if study is not None:
            reference = _pooled(student, spec, study, names)
        reference = reference + rng.normal(0, 0.005, len(reference))
        key = modality_set_key(names)
        trained[key] = TrainedModalitySet(reference, np.full(len(reference), 0.02), calibration)
    head = student.head
    head.weight.data *= 100
    mean = torch.tensor(trained["ct"].mean, dtype=torch.float32)
    head.bias.data -= head.weight.data @ mean
    return write_package(
        folder,
        document,
        student,
        trained,
        TrainingRanges((0.0, 300.0), (1.0, 9000.0), (0.1, 20.0)),
        "# Random weights\n",
        {"version": "0.0.1", "intended_use": "Tests only."},
    )


def _modality_sets(spec: ModelSpec) -> list[tuple[str, ...]]:
    """CT with every subset of the other modalities."""
    others = [name for name in spec.modality_names if name != "ct"]
    subsets = (itertools.combinations(others, n) for n in range(len(others) + 1))
    return [("ct", *subset) for subset in itertools.chain.from_iterable(subsets)]


def _pooled(student: Student, spec: ModelSpec, study: Study, names: tuple[str, ...]) -> np.ndarray:
    model_input = normalise(study, locate_roi(study, spec), spec)
    weights = to_feature_grid(model_input.weights.astype(np.float64), spec.network.total_stride)
    weights = torch.tensor(weights / weights.sum(), dtype=torch.float32)[None, None]
    volumes = {n: torch.tensor(np.array(model_input.volumes[n]))[None, None] for n in names}
    roi = torch.tensor(np.array(model_input.roi))[None, None]
    with torch.inference_mode():
        return student(volumes, roi, weights).pooled[0].double().numpy()


def altered_copy(
    package: ModelPackage, folder: Path, change: Callable[[dict[str, Any]], None] | None = None
) -> Path:
    """A copy of a package with ``change`` applied to its metadata and new checksums."""
    shutil.copytree(package.path, folder)
    if change is not None:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        change(metadata)
        (folder / METADATA).write_text(json.dumps(metadata), encoding="utf-8")
    write_checksums(folder)
    return folder
