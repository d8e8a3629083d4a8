"""The simulated patient: reproducible, anatomically plausible, the same on any grid."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from simulated import BASE, COARSE, clean

from REACTKDLib.errors import OptionError
from REACTKDLib.geometry import LPS_TO_RAS, Geometry, resample_array
from REACTKDLib.simulation import (
    TRACERS,
    CaseParameters,
    Lesion,
    Scanner,
    Signs,
    demo_parameters,
    grade_of,
    simulate_case,
)
from REACTKDLib.simulation.case import build_scene


def test_same_parameters_and_seed_give_the_same_bytes() -> None:
    first, second = (simulate_case(BASE, 3) for _ in range(2))
    assert first.ct.array.tobytes() == second.ct.array.tobytes()
    assert first.segmentation.labels.tobytes() == second.segmentation.labels.tobytes()
    for tracer in TRACERS:
        assert first.pet[tracer].array.tobytes() == second.pet[tracer].array.tobytes()


def test_the_seed_changes_the_noise_and_nothing_else() -> None:
    first, second = (simulate_case(BASE, seed, pet=("pet_fdg",)) for seed in (3, 4))
    assert np.array_equal(first.segmentation.labels, second.segmentation.labels)
    difference = first.ct.array.astype(float) - second.ct.array
    liver = first.segmentation.labels > 0
    assert 5 < difference[liver].std() < 40
    assert abs(difference[liver].mean()) < 1
    assert not np.array_equal(first.pet["pet_fdg"].array, second.pet["pet_fdg"].array)


def test_noise_of_one_image_does_not_depend_on_the_others() -> None:
    alone = simulate_case(BASE, 3, pet=("pet_acetate",))
    together = simulate_case(BASE, 3)
    assert np.array_equal(alone.ct.array, together.ct.array)
    assert np.array_equal(alone.pet["pet_acetate"].array, together.pet["pet_acetate"].array)


def test_global_random_state_is_left_alone() -> None:
    np.random.seed(1)
    random.seed(1)
    state, python_state = np.random.get_state(), random.getstate()
    simulate_case(BASE, 3)
    assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state(), strict=True))
    assert random.getstate() == python_state


def test_types_labels_and_names() -> None:
    case = clean(BASE, TRACERS)
    assert case.ct.array.dtype == np.int16
    assert case.segmentation.labels.dtype == np.uint8
    assert set(np.unique(case.segmentation.labels)) == {0, 1, 2}
    assert case.segmentation.labels_of("liver") == (1,)
    assert case.segmentation.labels_of("lesion") == (2,)
    assert case.segmentation.geometry.same_grid(case.ct.geometry)
    for tracer in TRACERS:
        assert case.pet[tracer].array.dtype == np.float32
        assert not case.pet[tracer].geometry.same_grid(case.ct.geometry)
    assert all("simulated" in v.name for v in (case.ct, *case.pet.values()))
    assert case.study().ct is case.ct


@pytest.mark.parametrize(
    ("tissue", "point_ras", "low", "high"),
    [
        ("vertebral marrow", (0.0, -32.0, 0.0), 120, 220),
        ("aorta", (-15.0, -5.5, 0.0), 135, 170),
        ("liver", (85.0, 20.0, 35.0), 90, 130),
        ("spleen", (-112.0, -40.0, 10.0), 105, 135),
        ("muscle", (35.0, -70.0, 0.0), 50, 75),
        ("subcutaneous fat", (0.0, 108.0, -60.0), -125, -80),
        ("lung", (-60.0, -20.0, 93.0), -950, -750),
        ("air", (190.0, 150.0, 0.0), -1024, -990),
    ],
)
def test_tissues_have_their_usual_attenuation(
    tissue: str, point_ras: tuple[float, float, float], low: float, high: float
) -> None:
    case = clean(BASE)
    i, j, k = np.rint(case.ct.geometry.ijk_from_ras(np.array(point_ras))).astype(int)
    around = case.ct.array[k, j - 1 : j + 2, i - 1 : i + 2]
    assert low <= np.median(around) <= high, tissue


def test_fatty_liver_is_darker() -> None:
    lean = clean(replace(BASE, lesions=(), cysts=()))
    fatty = clean(replace(BASE, lesions=(), cysts=(), steatosis=1.0))
    liver = lean.segmentation.labels == 1
    drop = np.median(lean.ct.array[liver]) - np.median(fatty.ct.array[liver])
    assert drop == pytest.approx(30, abs=2)


@pytest.mark.parametrize("volume", [1000.0, 1400.0, 1800.0])
def test_liver_has_the_volume_that_was_asked_for(volume: float) -> None:
    case = clean(replace(BASE, liver_volume_ml=volume, body_size=1.0 + (volume - 1400) / 8000))
    assert case.truth.liver_volume_ml == pytest.approx(volume, rel=0.05)
    measured = np.count_nonzero(case.segmentation.labels) * case.ct.geometry.voxel_volume_ml
    assert measured == pytest.approx(case.truth.liver_volume_ml)


def test_liver_lies_on_the_right_and_below_the_dome() -> None:
    case = clean(BASE)
    where = np.argwhere(case.segmentation.labels > 0)[:, ::-1]
    ras = case.ct.geometry.ras_from_ijk(where)
    assert ras[:, 0].mean() > 40
    assert ras[:, 0].min() < -10, "the left lobe crosses the midline"
    above = ras[:, 2].max() + 12
    i, j, k = np.rint(case.ct.geometry.ijk_from_ras(np.array([70.0, 0.0, above]))).astype(int)
    assert case.ct.array[k, j, i] < -700


def test_cirrhosis_roughens_the_liver_and_large_spleens_are_larger() -> None:
    healthy, ill = clean(BASE), clean(replace(BASE, cirrhosis=1.0, spleen=1.4))
    free = (healthy.segmentation.labels == 1) & (ill.segmentation.labels == 1)
    free &= (healthy.truth.rim_ids.array == 0) & (ill.truth.rim_ids.array == 0)
    core = binary_erosion(free, iterations=3)
    assert ill.ct.array[core].std() > healthy.ct.array[core].std()
    spleens = [build_scene(p).anatomy.organs["spleen"] for p in (BASE, replace(BASE, spleen=1.4))]
    small, large = (np.count_nonzero(field.values < 0) for field in spleens)
    assert large > 1.5 * small


def test_the_same_lattice_in_another_order_gives_the_same_values() -> None:
    case = clean(BASE, ("pet_fdg",))
    grid = case.ct.geometry
    # Axes (i, j, k) of the new grid are (k, -i, j) of the old one: the same points, permuted.
    axes = grid.direction_matrix
    direction = np.column_stack([axes[:, 2], -axes[:, 0], axes[:, 1]])
    corner = grid.lps_from_ijk(np.array([grid.size[0] - 1, 0, 0]))
    permuted = Geometry(
        (grid.size[2], grid.size[0], grid.size[1]),
        (grid.spacing_mm[2], grid.spacing_mm[0], grid.spacing_mm[1]),
        tuple(corner.tolist()),
        tuple(direction.ravel().tolist()),
    )
    other = simulate_case(BASE, 0, pet=(), noise=False, grid=permuted)
    # The new array is indexed (old j, old -i, old k); bring it back to (k, j, i).
    back = np.moveaxis(other.ct.array, (0, 1, 2), (1, 2, 0))[:, :, ::-1]
    labels = np.moveaxis(other.segmentation.labels, (0, 1, 2), (1, 2, 0))[:, :, ::-1]
    assert np.mean(np.abs(back.astype(int) - case.ct.array) > 1) < 1e-4
    assert np.mean(labels != case.segmentation.labels) < 1e-5


def test_an_oblique_anisotropic_grid_sees_the_same_patient() -> None:
    fine = Scanner(spacing_mm=(2.0, 2.0, 2.0))
    oblique = Scanner(spacing_mm=(2.6, 3.4, 4.5), orientation="PSR", tilt_deg=(9.0, -6.0, 12.0))
    # An orientation code permutes the axes, so the field of view along them changes too.
    oblique = replace(oblique, extent_mm=(330.0, 212.0, 400.0))
    reference = clean(replace(BASE, scanner=fine))
    other = clean(replace(BASE, scanner=oblique))
    grid = other.ct.geometry
    hu = resample_array(reference.ct.array, reference.ct.geometry, grid, outside=np.nan)
    known = ~np.isnan(hu)
    difference = np.abs(hu - other.ct.array)[known]
    assert known.mean() > 0.7
    assert np.median(difference) < 1
    assert np.mean(difference > 60) < 0.05, "only at edges, where interpolation blurs"
    labels = resample_array(
        reference.segmentation.labels, reference.segmentation.geometry, grid, nearest=True
    )
    for value in (1, 2):
        a, b = (labels == value) & known, (other.segmentation.labels == value) & known
        assert 2 * np.count_nonzero(a & b) / (a.sum() + b.sum()) > 0.93
    assert [t.centre_ras for t in other.truth.lesions] == [
        t.centre_ras for t in reference.truth.lesions
    ]


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SPL"])
def test_scanner_grid_is_centred_and_oriented(orientation: str) -> None:
    scanner = Scanner(
        spacing_mm=(2.0, 3.0, 5.0), orientation=orientation, centre_ras=(5.0, -7.0, 9.0)
    )
    grid = scanner.geometry()
    middle = grid.ras_from_ijk((np.array(grid.size) - 1) / 2)
    assert middle == pytest.approx((5.0, -7.0, 9.0))
    letters = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1)}
    for axis, letter in enumerate(orientation):
        assert grid.direction_matrix[:, axis] * LPS_TO_RAS == pytest.approx(letters[letter])


def test_truth_records_grade_and_label() -> None:
    case = clean(replace(BASE, differentiation=0.7, pathology_differentiation=0.6))
    assert case.truth.grade == "well"
    assert case.truth.observed_grade == "moderate"
    record = case.truth.as_dict()
    assert record["simulated"] is True
    assert record["parameters"]["lesions"][0]["signs"]["washout_hu"] == 0.0


def test_demo_is_poor_with_two_lesions() -> None:
    parameters = replace(demo_parameters(), scanner=COARSE)
    case = simulate_case(parameters, 0, pet=())
    assert parameters.grade == parameters.observed_grade == "poor"
    large, small = (truth.volume_ml for truth in case.truth.lesions)
    assert (large * 6000 / np.pi) ** (1 / 3) == pytest.approx(50, abs=5)
    assert (small * 6000 / np.pi) ** (1 / 3) == pytest.approx(25, abs=4)


@pytest.mark.parametrize(
    ("differentiation", "grade"), [(1.0, "well"), (0.7, "well"), (0.5, "moderate"), (0.0, "poor")]
)
def test_grades_are_cut_from_differentiation(differentiation: float, grade: str) -> None:
    assert grade_of(differentiation) == grade


@pytest.mark.parametrize(
    ("make", "quoted"),
    [
        (lambda: grade_of(1.2), "1.2"),
        (lambda: Scanner(kernel="B30f"), "B30f"),
        (lambda: Scanner(orientation="LLS"), "LLS"),
        (lambda: Signs(necrosis=0.95), "0.95"),
        (lambda: Lesion(radii_mm=(1.0, 5.0, 5.0)), "1.0"),
        (lambda: Lesion(uptake_ratio=(("pet_psma", 1.0),)), "pet_psma"),
        (lambda: CaseParameters(liver_volume_ml=300.0), "300.0"),
        (lambda: simulate_case(BASE, 0, pet=("pet_psma",)), "pet_psma"),
    ],
)
def test_impossible_options_are_refused(make, quoted: str) -> None:
    with pytest.raises(OptionError, match=quoted) as caught:
        make()
    assert caught.value.advice
