"""Simulated lesions: what was asked for is what the images show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt, label
from simulated import BASE, BIG, clean, with_signs

from REACTKDLib.errors import OptionError
from REACTKDLib.geometry import resample_array
from REACTKDLib.simulation import (
    TRACERS,
    CaseParameters,
    Lesion,
    simulate_case,
)
from REACTKDLib.simulation.case import build_scene


def lesion_and_liver(parameters: CaseParameters) -> tuple[np.ndarray, float]:
    """HU in the first lesion, away from its margin, and the median HU of the liver."""
    case = clean(parameters)
    core = binary_erosion(case.truth.lesion_ids.array == 1, iterations=2)
    liver = (case.segmentation.labels == 1) & (case.truth.rim_ids.array == 0)
    return case.ct.array[core], float(np.median(case.ct.array[liver]))


def test_lesions_lie_inside_the_liver_and_have_their_size() -> None:
    case = clean(BASE)
    liver = build_scene(BASE).anatomy.liver.over(case.ct.geometry) < 0
    ids = case.truth.lesion_ids.array
    assert set(np.unique(ids)) == {0, 1, 2}
    assert not np.any((ids > 0) & ~liver)
    assert np.array_equal(ids > 0, case.segmentation.labels == 2)
    for truth, lesion in zip(case.truth.lesions, BASE.lesions, strict=True):
        expected = 4 / 3 * np.pi * np.prod(lesion.radii_mm) / 1000
        assert truth.volume_ml == pytest.approx(expected, rel=0.25)
        i, j, k = np.rint(case.ct.geometry.ijk_from_ras(np.array(truth.centre_ras))).astype(int)
        assert ids[k, j, i] == truth.id


def test_rim_surrounds_the_lesion_inside_the_liver() -> None:
    case = clean(BASE)
    rims, ids = case.truth.rim_ids.array, case.truth.lesion_ids.array
    assert not np.any((rims > 0) & (case.segmentation.labels != 1))
    for number in (1, 2):
        away = distance_transform_edt(ids != number, sampling=case.ct.geometry.spacing_mm[::-1])
        assert away[rims == number].max() < 14
        free = (case.segmentation.labels == 1) & (rims == 0)
        assert away[free].min() > 6


def test_no_lesion_is_a_normal_case() -> None:
    case = clean(replace(BASE, lesions=()))
    assert set(np.unique(case.segmentation.labels)) == {0, 1}
    assert case.truth.lesions == ()


@pytest.mark.parametrize("tracer", TRACERS)
def test_uptake_ratio_of_a_lesion_is_as_asked(tracer: str) -> None:
    case = clean(BASE, TRACERS)
    suv = resample_array(case.pet[tracer].array, case.pet[tracer].geometry, case.ct.geometry)
    core = binary_erosion(case.truth.lesion_ids.array == 1, iterations=3)
    liver = binary_erosion(
        (case.segmentation.labels == 1) & (case.truth.rim_ids.array == 0), iterations=3
    )
    expected = dict(BASE.liver_suv)[tracer]
    assert np.median(suv[liver]) == pytest.approx(expected, rel=0.05)
    assert suv[core].mean() / np.median(suv[liver]) == pytest.approx(BIG.ratio(tracer), rel=0.05)


def test_breathing_moves_the_organs_down_on_pet_and_leaves_the_spine() -> None:
    still = clean(BASE, ("pet_fdg",)).pet["pet_fdg"]
    moved = clean(replace(BASE, breathing_offset_mm=(("pet_fdg", 8.0),)), ("pet_fdg",)).pet[
        "pet_fdg"
    ]
    assert moved.geometry.same_grid(still.geometry)
    k, j, i = np.indices(still.array.shape)
    ras = still.geometry.ras_from_ijk(np.stack([i, j, k], axis=-1))
    hot = np.linalg.norm(ras - clean(BASE).truth.lesions[0].centre_ras, axis=-1) < 45

    def height(array: np.ndarray) -> float:
        lesion = np.where(hot & (array > 3.6), array, 0)
        return float((lesion * ras[..., 2]).sum() / lesion.sum())

    assert height(still.array) - height(moved.array) == pytest.approx(8, abs=1.0)
    i, j, k = np.rint(still.geometry.ijk_from_ras(np.array([0.0, -80.0, 0.0]))).astype(int)
    assert moved.array[k, j, i] == pytest.approx(still.array[k, j, i], abs=0.05)


@pytest.mark.parametrize(("delay", "brighter"), [(35.0, True), (180.0, False)])
def test_arterial_enhancement_turns_into_washout(delay: float, brighter: bool) -> None:
    parameters = replace(with_signs(arterial_hu=40.0, washout_hu=30.0), delay_s=delay)
    lesion, liver = lesion_and_liver(parameters)
    contrast = float(np.median(lesion)) - liver
    assert contrast == pytest.approx(40.0 if brighter else -30.0, abs=5)


def test_mosaic_has_the_asked_spread() -> None:
    plain, _ = lesion_and_liver(with_signs())
    mosaic, _ = lesion_and_liver(with_signs(mosaic_hu=15.0))
    assert plain.std() < 1.5
    assert mosaic.std() == pytest.approx(15, rel=0.3)


def test_necrosis_takes_its_share_of_the_lesion() -> None:
    case = clean(with_signs(necrosis=0.3))
    hu = case.ct.array[case.truth.lesion_ids.array == 1]
    assert np.mean(hu < 65) == pytest.approx(0.3, abs=0.08)


def test_capsule_brightens_the_margin_and_peritumoral_signs_the_rim() -> None:
    plain = clean(with_signs())
    capsule = clean(with_signs(capsule_hu=40.0))
    outside = clean(with_signs(peritumoral_hu=25.0))
    lesion, rim = plain.truth.lesion_ids.array == 1, plain.truth.rim_ids.array == 1
    shell = lesion & ~binary_erosion(lesion)
    core = binary_erosion(lesion, iterations=3)
    bright = capsule.ct.array.astype(float) - plain.ct.array
    assert bright[shell].mean() > 12
    assert abs(bright[core].mean()) < 1
    enhanced = outside.ct.array.astype(float) - plain.ct.array
    assert enhanced[rim].mean() > 4
    assert abs(enhanced[core].mean()) < 1
    assert plain.truth.lesions[0].evidence == ("lesion",)
    assert capsule.truth.lesions[0].evidence == ("lesion", "rim")


def test_irregular_margin_has_more_surface_for_its_volume() -> None:
    def surface_share(parameters: CaseParameters) -> float:
        lesion = clean(parameters).truth.lesion_ids.array == 1
        return float(np.mean(lesion[lesion] & ~binary_erosion(lesion)[lesion]))

    assert surface_share(with_signs(irregularity=1.0)) > 1.08 * surface_share(with_signs())


def test_satellites_are_separate_pieces_of_their_lesion() -> None:
    case = clean(with_signs(satellites=3))
    assert label(case.truth.lesion_ids.array == 1)[1] > 1
    assert label(clean(with_signs()).truth.lesion_ids.array == 1)[1] == 1


def test_cyst_is_water_and_not_in_the_segmentation() -> None:
    with_cyst, without = clean(BASE), clean(replace(BASE, cysts=()))
    assert np.array_equal(with_cyst.segmentation.labels, without.segmentation.labels)
    darker = without.ct.array.astype(float) - with_cyst.ct.array > 60
    assert np.count_nonzero(darker) * with_cyst.ct.geometry.voxel_volume_ml > 0.8
    assert -5 < np.percentile(with_cyst.ct.array[darker], 20) < 30


def test_a_lesion_without_room_is_refused() -> None:
    huge = Lesion(position=(0.6, 0.5, 0.5), radii_mm=(80.0, 80.0, 80.0))
    small = Lesion(position=(0.6, 0.5, 0.5), radii_mm=(3.0, 3.0, 3.0))
    crowded = replace(BASE, lesions=(huge, huge, small), liver_volume_ml=950.0)
    with pytest.raises(OptionError, match="finds no room"):
        simulate_case(crowded, 0, pet=())
