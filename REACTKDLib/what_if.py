"""What the network would say of a changed study: regions hidden, fewer photons.

The exact shares tell what the network used; a what-if tells what it would have said. The study is
changed and goes through the same pipeline again, with the regions of the original result, so that
the shares of both can be compared region by region.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from scipy import ndimage

from .dose import DoseModel, simulate_low_dose, slice_axis
from .errors import OptionError
from .geometry import Geometry, bounding_box, resample_array
from .model_package import ModelPackage
from .pipeline import Progress, RunOptions, no_progress, run_case
from .roi import covering_crop
from .types import CaseResult, Region, Segmentation, Study, Volume, WhatIf

#: Around a hidden region this much is replaced too, mm: an image is blurred over its border, a PET
#: more than a CT.
MARGIN_MM: Mapping[str, float] = {"ct": 2.0}
_PET_MARGIN_MM = 8.0

#: Tissue is taken from within the first of these distances of a hidden region that holds any, mm.
REACH_MM = (25.0, 60.0)

#: Path lengths on a coarser grid than usual: quicker, the same noise within five percent (tested).
_QUICK = DoseModel(path_reduction=8)

#: Kinds of regions that a hidden one is filled from: the first of these groups that is near.
_TISSUE = (("parenchyma", "organ"), ("rim",))

#: Parts of the way back to the border at which a replaced voxel looks for tissue beyond it: its
#: mirror image first, which keeps texture, then nearer and nearer to the border.
_REFLECTIONS = (1.0, 0.75, 0.5, 0.25)


def run_what_if(
    study: Study,
    original: CaseResult,
    what_if: WhatIf,
    package: ModelPackage,
    options: RunOptions,
    progress: Progress = no_progress,
) -> CaseResult:
    """The result of the changed study, for the class and the regions of ``original``.

    Raises
    ------
    OptionError : as :func:`changed_study`.
    ReactKDError : as :func:`~.pipeline.run_case`.
    """
    progress("what-if", 0.0)
    changed = changed_study(study, original, what_if, package)
    return run_case(changed, package, replace(options, target=original.target), progress, original)


def changed_study(
    study: Study, original: CaseResult, what_if: WhatIf, package: ModelPackage
) -> Study:
    """``study`` with the changes of ``what_if``; ``original`` is its result.

    The dose comes last, so that what fills a hidden region is as noisy as the rest.

    Raises
    ------
    OptionError : a region that the result does not have; no tissue near a hidden region, or no
        organ that it could belong to.
    """
    if what_if.hidden:
        study = _without(study, original, what_if.hidden, package)
    if what_if.photons is not None:
        # A voxel of the model's grid beyond its margin still reads what lies around it.
        margin = package.grid.margin_mm + max(package.grid.spacing_mm)
        ct = _low_dose(study.ct, original, what_if.photons, what_if.seed, margin)
        study = replace(study, volumes={**study.volumes, "ct": ct})
    return study


def _low_dose(
    ct: Volume, original: CaseResult, photons: float, seed: int, margin_mm: float
) -> Volume:
    """The CT at a lower dose in the slices that the network sees; the rest stays as it is."""
    box = bounding_box(original.region_labels.array)
    assert box is not None  # a result has regions
    axis = slice_axis(ct.geometry)
    margin = int(np.ceil(margin_mm / ct.geometry.spacing_mm[::-1][axis]))
    whole = [slice(0, n) for n in ct.array.shape]
    whole[axis] = slice(
        max(0, box[axis].start - margin), min(ct.array.shape[axis], box[axis].stop + margin)
    )
    k, j, i = whole
    part = Volume(ct.array[k, j, i], ct.geometry.crop_to((k, j, i)), ct.name)
    noisy = simulate_low_dose(part, photons, seed, _QUICK, method="image")
    array = ct.array.astype(noisy.array.dtype)
    array[k, j, i] = noisy.array
    return Volume(array, ct.geometry, ct.name)


def _without(
    study: Study, original: CaseResult, hidden: tuple[str, ...], package: ModelPackage
) -> Study:
    regions = {region.id: region for region in original.regions}
    for name in hidden:
        if name not in regions:
            raise OptionError(
                f"The result has no region {name!r} to hide.",
                f"Choose of {', '.join(sorted(regions))}.",
            )
    chosen = [regions[name] for name in hidden]
    volumes = {
        name: _filled(volume, original, chosen, MARGIN_MM.get(name, _PET_MARGIN_MM))
        for name, volume in study.volumes.items()
    }
    segmentation = study.segmentation
    lesions = [region for region in chosen if region.kind == "lesion"]
    if lesions:
        segmentation = _without_lesions(segmentation, original, lesions, package)
    return replace(study, volumes=volumes, segmentation=segmentation)


def _near(
    lattice: Geometry, original: CaseResult, chosen: list[Region], reach_mm: float
) -> tuple[tuple[slice, slice, slice], np.ndarray, np.ndarray]:
    """Slices (k, j, i) of the part of a lattice within reach of some regions; on it the region
    labels, and where the regions themselves are."""
    regions = original.region_labels
    wanted = _table(chosen)
    # Label by label: quicker than a look-up of every voxel of the CT.
    places = np.logical_or.reduce([regions.array == region.label for region in chosen])
    box = bounding_box(places)
    assert box is not None  # a region has voxels
    reach = [int(np.ceil(reach_mm / step)) for step in regions.geometry.spacing_mm[::-1]]
    k, j, i = (
        slice(max(0, side.start - margin), min(extent, side.stop + margin))
        for side, margin, extent in zip(box, reach, regions.array.shape, strict=True)
    )
    around = regions.geometry.crop_to((k, j, i))
    start, size = covering_crop(lattice, around)
    k2, j2, i2 = (slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))
    labels = resample_array(regions.array[k, j, i], around, lattice.crop(start, size), nearest=True)
    return (k2, j2, i2), labels, wanted[labels]


def _table(regions: Iterable[Region]) -> np.ndarray:
    """True at the labels of some regions, (256,): indexed by a labelmap, where they are."""
    table = np.zeros(256, dtype=bool)
    table[[region.label for region in regions]] = True
    return table


def _filled(volume: Volume, original: CaseResult, chosen: list[Region], margin_mm: float) -> Volume:
    """``volume`` with tissue from around some regions in their place.

    Every replaced voxel takes the value at its mirror image beyond the border of the nearest
    tissue, or nearer to that border where the image lies in no tissue.
    """
    spacing = volume.geometry.spacing_mm[::-1]
    for reach_mm in REACH_MM:
        box, labels, covered = _near(volume.geometry, original, chosen, reach_mm)
        if not covered.any():
            return volume  # it ends before the regions begin
        distance = ndimage.distance_transform_edt(~covered, spacing)
        covered = covered | ((distance <= margin_mm) & (labels > 0))
        tissue = _tissue(original, labels, covered)
        if tissue.any():
            break
    else:
        raise OptionError(
            f"Nothing within {REACH_MM[-1]:g} mm can take the place of:"
            f" {', '.join(region.name for region in chosen)}.",
            "Hide fewer regions; a model that sees the lesion alone cannot do without it.",
        )
    nearest = ndimage.distance_transform_edt(
        ~tissue, spacing, return_distances=False, return_indices=True
    )
    place = np.stack(np.nonzero(covered))
    border = np.stack([indices[tuple(place)] for indices in nearest])
    source = border.copy()
    missing = np.ones(place.shape[1], dtype=bool)
    for part in _REFLECTIONS:
        mirrored = np.rint(border + part * (border - place)).astype(int)
        mirrored = np.clip(mirrored, 0, np.array(labels.shape)[:, None] - 1)
        found = missing & tissue[tuple(mirrored)]
        source[:, found] = mirrored[:, found]
        missing &= ~found
    array = np.array(volume.array)
    part_of_array = array[box]
    part_of_array[tuple(place)] = part_of_array[tuple(source)]
    return Volume(array, volume.geometry, volume.name)


def _tissue(original: CaseResult, labels: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Where a hidden region may be filled from."""
    tissue = np.zeros(labels.shape, dtype=bool)
    for kinds in _TISSUE:
        tissue = _table(r for r in original.regions if r.kind in kinds)[labels] & ~covered
        if tissue.any():
            break
    return tissue


def _without_lesions(
    segmentation: Segmentation, original: CaseResult, lesions: list[Region], package: ModelPackage
) -> Segmentation:
    """The segmentation with some lesions given to the organ."""
    spec = package.regions
    organ = segmentation.labels_of(spec.organ_role) if spec.organ_role is not None else ()
    if not organ:
        raise OptionError(
            f"The segmentation has no organ that {lesions[0].name} could become a part of.",
            "Only lesions within a segmented organ can be hidden.",
        )
    box, _, covered = _near(segmentation.geometry, original, lesions, 0.0)
    labels = np.array(segmentation.labels)
    part = labels[box]
    part[covered & np.isin(part, segmentation.labels_of(spec.lesion_role))] = organ[0]
    return replace(segmentation, labels=labels)
