"""Write a trained student as a model package."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from safetensors.torch import save_file

from REACTKDLib.infer import STATISTICS
from REACTKDLib.model_package import (
    CARD,
    FORMAT_VERSION,
    METADATA,
    WEIGHTS,
    ModalitySetStatistics,
    ModelPackage,
    TrainingRanges,
    load_package,
    write_checksums,
)
from REACTKDLib.networks.student import Student
from REACTKDLib.report import atomic_folder


@dataclass(frozen=True, eq=False)
class TrainedModalitySet:
    """What a package keeps for one set of modalities: pooled features of the training cases,
    mean and standard deviation (channels,), and the calibration."""

    mean: np.ndarray
    standard_deviation: np.ndarray
    calibration: ModalitySetStatistics


def write_package(
    folder: Path,
    specification: Mapping[str, Any],
    student: Student,
    modality_sets: Mapping[str, TrainedModalitySet],
    ranges: TrainingRanges,
    card: str,
    bundle: Mapping[str, Any],
) -> ModelPackage:
    """Write a model package, atomically, and read it back.

    ``specification`` is the JSON form of a ``ModelSpec``; ``bundle`` holds the MONAI bundle's own
    fields (version, description, ...).
    """
    metadata = {
        **bundle,
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "python_version": platform.python_version(),
        "reactkd": {
            "format_version": FORMAT_VERSION,
            **specification,
            "training_ranges": dataclasses.asdict(ranges),
            "statistics": {k: dataclasses.asdict(s.calibration) for k, s in modality_sets.items()},
        },
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in student.state_dict().items()}
    for key, trained in modality_sets.items():
        tensors[f"{STATISTICS}{key}/mean"] = torch.tensor(trained.mean, dtype=torch.float64)
        tensors[f"{STATISTICS}{key}/sd"] = torch.tensor(
            trained.standard_deviation, dtype=torch.float64
        )
    with atomic_folder(folder.absolute()) as partial:
        for name in (METADATA, WEIGHTS, CARD):
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(metadata, indent=1, ensure_ascii=False)
        (partial / METADATA).write_text(text + "\n", encoding="utf-8")
        save_file(tensors, partial / WEIGHTS)
        (partial / CARD).write_text(card, encoding="utf-8")
        write_checksums(partial)
    return load_package(folder)
