"""Radiomics of a region of interest in a CT: PyRadiomics' features under PyRadiomics' names.

Definitions: PyRadiomics 3.0.1 (van Griethuysen et al., Cancer Research 2017); the set of 1781 is
TMI-CLNet's. How well the values agree stands in docs/radiomics.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..types import Notice, Volume
from .radiomics_filters import filtered_images
from .radiomics_formulas import (
    cooccurrence,
    dependence,
    first_order,
    run_lengths,
    tone_differences,
    zone_sizes,
)
from .radiomics_grid import resampled_region
from .radiomics_settings import RadiomicsSettings, feature_names, image_names
from .radiomics_shape import shape
from .radiomics_textures import grey_levels, neighbours, runs, zones
from .types import RadiomicsFeatures

#: Called with the stage's name and the part that is done, 0..1. What it raises ends the work: that
#: is how a run is cancelled.
Progress = Callable[[str, float], None]

#: An image with more grey levels has no features of texture: a bin width for another scale.
MAXIMUM_LEVELS = 500


def no_progress(stage: str, done: float) -> None:
    """A listener that hears nothing."""


def radiomics_features(
    ct: Volume,
    mask: np.ndarray,
    settings: RadiomicsSettings | None = None,
    progress: Progress = no_progress,
) -> RadiomicsFeatures:
    """All features of the settings (the defaults where None), in the order of ``feature_names``.

    ``ct`` in HU; ``mask`` : bool (k, j, i) on its grid, the region of interest. A feature without a
    value is NaN, and a notice says so.

    Raises
    ------
    InputError : the mask is empty, has another shape than the CT, or vanishes on the settings'
        grid; intensities near it are not finite.
    OptionError : a wavelet that PyWavelets does not have.
    EnvironmentProblem : PyWavelets or scikit-image is not installed.
    """
    settings = settings or RadiomicsSettings()
    images = image_names(settings)
    progress("radiomics", 0.0)
    region = resampled_region(ct, mask, settings)
    inside = region.mask[region.box]
    spacing = region.geometry.spacing_mm
    values: dict[str, float] = {}
    if "shape" in settings.classes:
        found = shape(inside, (spacing[2], spacing[1], spacing[0]))
        values |= {f"original_shape_{name}": value for name, value in found.items()}
    notices = []
    textures = set(settings.classes) - {"shape", "firstorder"}
    voxel_mm3 = float(np.prod(spacing))
    for number, (name, image) in enumerate(
        filtered_images(region.image, region.geometry, settings)
    ):
        progress("radiomics", (1 + number) / (2 + len(images)))
        if image is None or not np.isfinite(image[region.box][inside]).all():
            notices.append(_no_image(name))
            continue
        features, levels = image_features(image[region.box], inside, voxel_mm3, settings)
        values |= {f"{name}_{feature}": value for feature, value in features.items()}
        if levels > MAXIMUM_LEVELS and textures:
            notices.append(_many_levels(name, levels, settings))
        if name == "original" and levels == 1 and textures:
            notices.append(_one_level(settings))
    ordered = {name: float(values.get(name, np.nan)) for name in feature_names(settings)}
    notices += _notices_of(ordered, int(inside.sum()))
    progress("radiomics", 1.0)
    return RadiomicsFeatures(ordered, settings.digest, tuple(notices))


def image_features(
    image: np.ndarray, mask: np.ndarray, voxel_mm3: float, settings: RadiomicsSettings
) -> tuple[dict[str, float], int]:
    """Features of one image in the settings' classes, ``<class>_<feature>``, and its number of grey
    levels.

    ``image`` (k, j, i), ``mask`` bool, cropped to the region. With more than
    :data:`MAXIMUM_LEVELS` only those of the first order.
    """
    grey = grey_levels(image, mask, settings.bin_width)
    voxels, levels = len(grey.places), grey.levels
    chosen = set(settings.classes)
    found: dict[str, dict[str, float]] = {}
    if "firstorder" in chosen:
        counts = np.bincount(grey.labels.ravel()[grey.places] - 1)
        found["firstorder"] = first_order(image[mask], counts, voxel_mm3, settings.energy_shift)
    if len(levels) <= MAXIMUM_LEVELS:
        if chosen & {"glcm", "gldm", "ngtdm"}:
            around = neighbours(grey)
            found["glcm"] = cooccurrence(around.cooccurrence, levels)
            found["gldm"] = dependence(around.dependence, levels, voxels)
            found["ngtdm"] = tone_differences(around.tone_counts, around.tone_sums, levels)
        if "glrlm" in chosen:
            found["glrlm"] = run_lengths(runs(grey), levels, voxels)
        if "glszm" in chosen:
            zone_counts, sizes = zones(grey)
            found["glszm"] = zone_sizes(zone_counts, sizes, levels, voxels)
    return {
        f"{group}_{name}": value
        for group in found
        if group in chosen
        for name, value in found[group].items()
    }, len(levels)


def _no_image(name: str) -> Notice:
    return Notice(
        "radiomics_no_image",
        "warning",
        f"Radiomics: the image {name} cannot be computed of so few voxels or such intensities; its"
        " features are missing.",
    )


def _many_levels(name: str, levels: int, settings: RadiomicsSettings) -> Notice:
    return Notice(
        "radiomics_many_levels",
        "warning",
        f"Radiomics: the image {name} has {levels} grey levels of {settings.bin_width:g} HU; its"
        " features of texture are missing.",
    )


def _one_level(settings: RadiomicsSettings) -> Notice:
    return Notice(
        "radiomics_one_level",
        "warning",
        f"Radiomics: all intensities of the region of interest lie in one bin of"
        f" {settings.bin_width:g} HU; its texture says nothing.",
    )


def _notices_of(values: dict[str, float], voxels: int) -> list[Notice]:
    missing = [name for name, value in values.items() if not np.isfinite(value)]
    if not missing:
        return []
    return [
        Notice(
            "radiomics_missing",
            "warning",
            f"Radiomics: {len(missing)} of {len(values)} features have no value (region of"
            f" {voxels} voxels), the first {missing[0]}.",
        )
    ]
