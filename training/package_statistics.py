"""What a model package says beside its weights: calibration, ranges and data format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from REACTKDLib.model_package import ModalitySetStatistics, ModelSpec, TrainingRanges
from REACTKDLib.networks.student import Student

from .evaluation.calibration import cautious_temperature
from .evaluation.conformal import COVERAGE, calibrate_sets
from .export import TrainedModalitySet
from .measure import views
from .prepare import PreparedCase

#: Least standard deviation of a pooled feature, in parts of the channels' root mean square.
_LEAST_SPREAD = 0.25


def calibrate(
    student: Student,
    train: Sequence[PreparedCase],
    selection: Sequence[PreparedCase],
    spec: ModelSpec,
    names: tuple[str, ...],
    device: torch.device,
) -> TrainedModalitySet:
    """Reference features from the training cases; temperature, distance limit and prediction sets
    from the others. ``names`` : modalities that are shown."""
    features = pooled_features(student, train, spec, names, device)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # A channel that hardly varies in training would turn any small difference into a distance.
    spread = np.maximum(deviation, _LEAST_SPREAD * np.sqrt(np.mean(deviation**2)))
    held_out = pooled_features(student, selection, spec, names, device)
    distances = np.sqrt(np.mean(((held_out - mean) / spread) ** 2, axis=1))
    labels = np.array([case.label for case in selection])
    logits = head_logits(student, held_out)
    temperature = cautious_temperature(labels, logits)
    limit = calibrate_sets(labels, softmax(logits / temperature, axis=1), COVERAGE).limit
    return TrainedModalitySet(
        mean,
        spread,
        ModalitySetStatistics(
            temperature=temperature,
            distance_limit=float(np.percentile(distances, 99)),
            # With too few patients no limit keeps the promise: then every class is in every set.
            prediction_set_limit=min(limit, 1.0),
            prediction_set_coverage=COVERAGE,
        ),
    )


def pooled_features(
    student: Student,
    cases: Sequence[PreparedCase],
    spec: ModelSpec,
    names: tuple[str, ...],
    device: torch.device,
) -> np.ndarray:
    """Pooled features of every case with the modalities ``names``, (cases, channels), float64."""
    found = views(student, cases, names, spec, device)
    return np.stack([view.pooled[0].double().cpu().numpy() for _, view in found])


def head_logits(student: Student, pooled: np.ndarray) -> np.ndarray:
    """Logits (cases, classes) of pooled features, float64."""
    weight, bias = (p.detach().double().cpu().numpy() for p in student.head.parameters())
    return pooled @ weight.T + bias


def training_ranges(train: Sequence[PreparedCase]) -> TrainingRanges:
    """First to 99th percentile of what the training cases were like."""

    def span(values: list[float]) -> tuple[float, float]:
        low, high = np.percentile(values, (1, 99))
        return (round(float(low), 1), round(float(high), 1))

    return TrainingRanges(
        median_hu=span([case.statistics.median_hu for case in train]),
        volume_ml=span([case.statistics.volume_ml for case in train]),
        largest_spacing_mm=span([case.statistics.largest_spacing_mm for case in train]),
    )


def data_format(spec: ModelSpec) -> dict[str, Any]:
    """The bundle field that names the network's inputs and outputs."""
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
