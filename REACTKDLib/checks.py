"""Is this input what the model expects? Errors for the impossible, notices for the unusual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .infer import Prediction
from .model_package import ModelPackage, ModelSpec, TrainingRanges, modality_set_key
from .roi import Roi
from .types import Notice, PredictionSet, Study


@dataclass(frozen=True)
class InputStatistics:
    """What an input is like, to compare with training: median under the segmentation (HU), its
    volume (ml), the largest voxel spacing of the CT (mm)."""

    median_hu: float
    volume_ml: float
    largest_spacing_mm: float


def check_ct(study: Study, roi: Roi, spec: ModelSpec) -> InputStatistics:
    """Measure the CT under the segmentation.

    Raises
    ------
    InputError : the volume cannot be a CT in HU, or the segmentation lies elsewhere in it.
    """
    limits = spec.plausibility
    ct = study.ct
    lowest = float(ct.array.min())
    if lowest > limits.fat_below_hu:
        raise InputError(
            f"The volume is not a CT in HU: its lowest value is {lowest:g}, but fat and air lie"
            f" below {limits.fat_below_hu:g} HU.",
            "Give the original CT, not PET, MR, or a CT with background or intensities changed.",
        )
    inside = ct.array[roi.slices][roi.labels > 0]
    if len(inside) == 0:
        raise InputError(
            "No voxel centre of the CT lies inside the segmentation.",
            "Check that CT and segmentation belong together.",
        )
    low, median, high = (float(v) for v in np.percentile(inside, (5, 50, 95)))
    if not limits.median_hu[0] <= median <= limits.median_hu[1]:
        raise InputError(
            f"The median under the segmentation is {median:.0f} HU; {limits.median_hu[0]:.0f} to"
            f" {limits.median_hu[1]:.0f} HU is plausible.",
            "Check that the CT is in HU (rescale intercept) and that the segmentation fits it.",
        )
    if high - low < limits.minimum_spread_hu:
        raise InputError(
            f"The values under the segmentation hardly vary ({low:g} to {high:g}): not a CT in HU.",
            "Give the CT in HU, not a normalised or masked image.",
        )
    return InputStatistics(
        median_hu=median,
        volume_ml=len(inside) * roi.geometry.voxel_volume_ml,
        largest_spacing_mm=max(ct.geometry.spacing_mm),
    )


def compare_with_training(
    statistics: InputStatistics, ranges: TrainingRanges
) -> tuple[Notice, ...]:
    """A notice for everything that training did not see."""
    compared = (
        ("hu", "The median under the segmentation", "HU", statistics.median_hu, ranges.median_hu),
        ("volume", "The segmented volume", "ml", statistics.volume_ml, ranges.volume_ml),
        (
            "spacing",
            "The largest voxel spacing",
            "mm",
            statistics.largest_spacing_mm,
            ranges.largest_spacing_mm,
        ),
    )
    return tuple(
        Notice(
            f"unusual_{code}",
            "warning",
            f"{what} is {value:.4g} {unit}; training had {span[0]:g} to {span[1]:g} {unit}.",
        )
        for code, what, unit, value, span in compared
        # A finer grid than training's is no reason to worry.
        if value > span[1] or (value < span[0] and code != "spacing")
    )


def check_modalities(study: Study, spec: ModelSpec) -> tuple[Notice, ...]:
    """A notice about images that were given and that the model cannot read."""
    unused = [name for name in study.volumes if name not in spec.modality_names]
    if not unused:
        return ()
    return (
        Notice(
            "unused_modality",
            "warning",
            f"Given but not used: {', '.join(unused)}. This model does not read them.",
        ),
    )


def check_prediction(prediction: Prediction, package: ModelPackage) -> tuple[Notice, ...]:
    """Notices about missing modalities, unusual features and a model trained on simulated data."""
    notices = []
    absent = [m.title for m in package.modalities if m.name not in prediction.modalities]
    if absent:
        notices.append(
            Notice(
                "missing_modality",
                "info",
                f"Not given: {', '.join(absent)}. The answer rests on the other images"
                " alone, which the model allows.",
            )
        )
    limit = package.statistics[modality_set_key(prediction.modalities)].distance_limit
    if prediction.distance > limit:
        notices.append(
            Notice(
                "unusual_features",
                "warning",
                f"The network's features lie {prediction.distance:.1f} standard deviations from"
                f" those of training on average; 99 % of held-out cases stay below {limit:.1f}."
                " The probabilities may mean little here.",
            )
        )
    if package.simulated:
        notices.append(
            Notice(
                "simulated_model",
                "warning",
                "This model was trained on simulated images only. On a real patient's CT its"
                " probabilities have no clinical meaning.",
            )
        )
    return tuple(notices)


def prediction_set(prediction: Prediction, package: ModelPackage) -> PredictionSet | None:
    """The classes that a case may have; None where the package promises no coverage.

    Source: split-conformal prediction with the score 1 - probability (Sadinle et al., JASA 2019).
    """
    statistics = package.statistics[modality_set_key(prediction.modalities)]
    limit, coverage = statistics.prediction_set_limit, statistics.prediction_set_coverage
    if limit is None or coverage is None:
        return None
    ranked = sorted(
        zip(package.class_names, prediction.probabilities, strict=True), key=lambda pair: -pair[1]
    )
    return PredictionSet(tuple(name for name, p in ranked if 1 - p <= limit), coverage)
