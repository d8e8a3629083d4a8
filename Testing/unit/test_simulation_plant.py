"""Planted lesions: what was asked for is what is added to the CT, and nothing else is."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantoms import LESION, Ellipsoid, grid_around, voxel_centres_ras
from scipy.ndimage import binary_erosion, gaussian_filter

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.geometry import Geometry, resample_array
from REACTKDLib.read import read_ct, read_volume
from REACTKDLib.simulation import Lesion, Signs
from REACTKDLib.simulation.enhancement import sign_weights
from REACTKDLib.simulation.plant import KIND, PlantedCase, plant_lesions
from REACTKDLib.types import Segment, Segmentation, Volume

#: Real data lie beside the repository where there are any; they are no part of it.
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "abdomen_ct"

LIVER_HU, NOISE_HU = 105.0, 12.0
SHAPE = Ellipsoid((40.0, -12.0, 8.0), (48.0, 40.0, 36.0))
#: Oblique, anisotropic, three different axis lengths.
GRID = grid_around((38.0, -10.0, 10.0), (67, 61, 30), (1.9, 1.7, 3.4), (12.0, -9.0, 20.0))

PLAIN = Signs(arterial_hu=0.0, washout_hu=0.0, mosaic_hu=0.0, irregularity=0.0)
RICH = Signs(25.0, 40.0, 35.0, 10.0, 0.2, 0.5, 2, 18.0)
#: Near the left end of the liver, so that a mirrored axis shows.
BALL = Lesion(position=(0.4, 0.45, 0.55), radii_mm=(14.0, 12.0, 13.0), signs=PLAIN)


@functools.cache
def liver_case(grid: Geometry = GRID, noise_hu: float = NOISE_HU) -> tuple[Volume, Segmentation]:
    """A homogeneous liver with noise in fat, and an organ that is no liver (label 7)."""
    ras = voxel_centres_ras(grid)
    liver = SHAPE.level(ras) < 1
    other = Ellipsoid((-8.0, -40.0, 0.0), (12.0, 12.0, 16.0)).level(ras) < 1
    labels = np.where(liver, 6, np.where(other, 7, 0)).astype(np.uint8)
    noise = noise_hu * np.random.default_rng(5).standard_normal(grid.array_shape)
    hu = np.where(labels > 0, LIVER_HU, -100.0) + noise
    segments = (Segment(6, "liver", "liver"), Segment(7, "organ"))
    return Volume(np.rint(hu).astype(np.int16), grid, "made"), Segmentation(labels, grid, segments)


@functools.cache
def plant(*lesions: Lesion, seed: int = 1, delay_s: float = 70.0) -> PlantedCase:
    return plant_lesions(*liver_case(), lesions, seed, differentiation=0.2, delay_s=delay_s)


def core_contrast(case: PlantedCase, ct: Volume) -> float:
    """Mean HU added deep in the first lesion."""
    core = binary_erosion(case.truth.lesion_ids.array == 1, iterations=2)
    return float((case.ct.array[core].astype(float) - ct.array[core]).mean())


@pytest.mark.parametrize("delay_s", [35.0, 70.0, 180.0])
def test_contrast_is_that_of_the_signs_at_the_delay(delay_s: float) -> None:
    signs = replace(PLAIN, arterial_hu=40.0, washout_hu=30.0)
    case = plant(replace(BALL, signs=signs), delay_s=delay_s)
    weights = sign_weights(delay_s)
    expected = 40 * weights["arterial"] - 30 * weights["washout"]
    assert core_contrast(case, liver_case()[0]) == pytest.approx(expected, abs=1.0)
    assert case.truth.liver_hu == pytest.approx(LIVER_HU, abs=0.5)


def test_noise_of_the_ct_stays() -> None:
    ct, _ = liver_case()
    case = plant(replace(BALL, signs=replace(PLAIN, washout_hu=30.0)))
    core = binary_erosion(case.truth.lesion_ids.array == 1, iterations=2)
    assert case.ct.array[core].std() == pytest.approx(ct.array[core].std(), rel=0.05)
    assert np.corrcoef(case.ct.array[core], ct.array[core])[0, 1] > 0.97


def test_necrosis_and_capsule_show() -> None:
    ct, segmentation = liver_case(noise_hu=0.0)

    def added(**signs: float) -> tuple[np.ndarray, np.ndarray]:
        lesion = replace(BALL, signs=replace(PLAIN, **signs))
        case = plant_lesions(ct, segmentation, [lesion], 1, differentiation=0.5, delay_s=180.0)
        return case.ct.array.astype(float) - ct.array, case.truth.lesion_ids.array == 1

    necrosis, lesion = added(necrosis=0.3)
    assert necrosis[lesion].min() == pytest.approx(24 - LIVER_HU, abs=3)
    assert np.mean(necrosis[lesion] < -40) == pytest.approx(0.3, abs=0.1)
    capsule, _ = added(capsule_hu=40.0)
    shell = lesion & ~binary_erosion(lesion)
    assert capsule[shell].mean() > 10


def test_nothing_changes_outside_the_lesions_and_their_rims() -> None:
    ct, segmentation = liver_case()
    before = ct.array.copy(), segmentation.labels.copy()
    case = plant(replace(BALL, signs=RICH))
    zone = (case.truth.lesion_ids.array > 0) | (case.truth.rim_ids.array > 0)
    assert np.array_equal(case.ct.array[~zone], ct.array[~zone])
    assert not np.any(zone & (segmentation.labels != 6))
    rim = case.truth.rim_ids.array > 0
    assert np.any(case.ct.array[rim] != ct.array[rim])
    assert case.ct.array.dtype == ct.array.dtype
    assert case.ct.geometry == case.segmentation.geometry == GRID
    for array, old in zip((ct.array, segmentation.labels), before, strict=True):
        assert np.array_equal(array, old)


def test_truth_tells_what_was_planted() -> None:
    small = Lesion(position=(0.75, 0.6, 0.4), radii_mm=(8.0, 8.0, 8.0), signs=PLAIN)
    case = plant(replace(BALL, signs=RICH), small)
    truth = case.truth
    ids = truth.lesion_ids.array
    assert set(np.unique(ids)) == {0, 1, 2}
    for lesion, wanted in zip(truth.lesions, (replace(BALL, signs=RICH), small), strict=True):
        assert lesion.parameters == wanted
        counted = np.count_nonzero(ids == lesion.id) * GRID.voxel_volume_ml
        assert lesion.volume_ml == pytest.approx(counted)
        assert counted == pytest.approx(4 / 3 * np.pi * np.prod(wanted.radii_mm) / 1000, rel=0.35)
        assert SHAPE.level(np.array(lesion.centre_ras)) < 1
    assert [lesion.evidence for lesion in truth.lesions] == [("lesion", "rim"), ("lesion",)]
    assert truth.grade == "poor"
    said = json.loads(json.dumps(truth.as_dict()))
    assert said["kind"] == KIND == "simulated lesions in a real CT"
    assert said["grade"] == "poor"
    assert said["lesions"][0]["parameters"]["signs"]["necrosis"] == 0.2
    assert case.study().segmentation is case.segmentation


def test_a_lesion_goes_where_it_is_wanted() -> None:
    points = voxel_centres_ras(GRID)[liver_case()[1].labels == 6]
    low, high = points.min(axis=0), points.max(axis=0)
    wanted = low + np.array(BALL.position) * (high - low)
    centre = plant(BALL).truth.lesions[0].centre_ras
    assert np.linalg.norm(wanted - centre) < 4


def test_same_seed_same_bytes_another_seed_another_lesion() -> None:
    lesion = replace(BALL, signs=RICH)
    state = np.random.get_state()[1].copy()
    one, other = plant(lesion), plant(lesion, seed=2)
    two = plant.__wrapped__(lesion)
    assert one.ct.array.tobytes() == two.ct.array.tobytes()
    assert one.segmentation.labels.tobytes() == two.segmentation.labels.tobytes()
    assert one.truth.as_dict() == two.truth.as_dict()
    assert not np.array_equal(one.truth.lesion_ids.array, other.truth.lesion_ids.array)
    assert np.array_equal(np.random.get_state()[1], state)


def stored_otherwise(axes: tuple[int, int, int], flips: tuple[int, ...]) -> Geometry:
    """``GRID`` with its (i, j, k) axes in another order, some of them reversed."""
    start = np.zeros(3)
    direction = GRID.direction_matrix.copy()
    for axis in flips:
        start[axis] = GRID.size[axis] - 1
        direction[:, axis] *= -1
    size, spacing = (tuple(np.array(v)[list(axes)].tolist()) for v in (GRID.size, GRID.spacing_mm))
    origin = tuple(GRID.lps_from_ijk(start).tolist())
    return Geometry(size, spacing, origin, tuple(direction[:, list(axes)].ravel().tolist()))


@pytest.mark.parametrize(
    ("axes", "flips"), [((0, 1, 2), (0, 2)), ((2, 0, 1), ()), ((1, 0, 2), (1,))]
)
def test_storage_order_does_not_move_the_lesion(
    axes: tuple[int, int, int], flips: tuple[int, ...]
) -> None:
    def stored(array: np.ndarray) -> np.ndarray:
        return np.flip(array, [2 - a for a in flips]).transpose([2 - a for a in axes][::-1])

    grid = stored_otherwise(axes, flips)
    ct, segmentation = liver_case()
    assert np.allclose(voxel_centres_ras(grid)[0, 0, -1], stored_corner(axes, flips))
    lesion = replace(BALL, signs=RICH)
    usual = plant(lesion)
    other = plant_lesions(
        Volume(stored(ct.array), grid),
        Segmentation(stored(segmentation.labels), grid, segmentation.segments),
        [lesion],
        1,
        differentiation=0.2,
        delay_s=70.0,
    )
    assert other.truth.lesions[0].centre_ras == usual.truth.lesions[0].centre_ras
    # Rounding differs in the last bit: a voxel exactly on the margin, or on half a HU, may too.
    ids = stored(usual.truth.lesion_ids.array)
    assert np.count_nonzero(ids != other.truth.lesion_ids.array) <= 2
    step = np.abs(stored(usual.ct.array).astype(int) - other.ct.array)
    assert np.count_nonzero(step > 1) <= 2


def stored_corner(axes: tuple[int, int, int], flips: tuple[int, ...]) -> np.ndarray:
    """RAS of the voxel that is last on the first axis of the other storage and first elsewhere."""
    ijk = np.array([GRID.size[a] - 1 if a in flips else 0 for a in range(3)], float)
    fast = axes[0]
    ijk[fast] = 0 if fast in flips else GRID.size[fast] - 1
    return GRID.ras_from_ijk(ijk)


def test_existing_labels_are_kept_and_lesions_keep_apart() -> None:
    ct, segmentation = liver_case()
    old = Ellipsoid((42.0, -12.0, 8.0), (8.0, 8.0, 8.0)).level(voxel_centres_ras(GRID)) < 1
    labels = np.where(old, 2, segmentation.labels).astype(np.uint8)
    with_lesion = Segmentation(labels, GRID, (*segmentation.segments, LESION))
    signs = replace(RICH, satellites=4)
    wanted = Lesion((0.55, 0.5, 0.5), (9.0, 9.0, 9.0), signs)
    case = plant_lesions(ct, with_lesion, [wanted, wanted], 3, differentiation=0.9, delay_s=70.0)
    ids = case.truth.lesion_ids.array
    assert not np.any(old & ((ids > 0) | (case.truth.rim_ids.array > 0)))
    assert case.segmentation.segments == with_lesion.segments
    assert np.array_equal(case.segmentation.labels, np.where(ids > 0, 2, labels))
    centres = [np.array(lesion.centre_ras) for lesion in case.truth.lesions]
    assert np.linalg.norm(centres[0] - centres[1]) > 18


def test_lesions_get_a_label_of_their_own_where_there_is_none() -> None:
    _, segmentation = liver_case()
    case = plant(BALL)
    added = case.segmentation.segments[-1]
    assert case.segmentation.segments[:-1] == segmentation.segments
    assert (added.role, added.label) == ("lesion", 1)
    ids = case.truth.lesion_ids.array
    assert np.array_equal(case.segmentation.labels == 1, ids > 0)
    assert np.array_equal(case.segmentation.labels[ids == 0], segmentation.labels[ids == 0])


def bright_tube(radius_mm: float) -> tuple[Volume, Segmentation, np.ndarray]:
    """A liver with a vessel, 60 HU brighter, along S through where ``BALL`` is wanted."""
    ct, segmentation = liver_case()
    ras = voxel_centres_ras(GRID)
    wanted = np.array(plant(BALL).truth.lesions[0].centre_ras)
    away = np.linalg.norm((ras - wanted)[..., :2], axis=-1)
    tube = (away < radius_mm) & (segmentation.labels == 6)
    return Volume(np.where(tube, ct.array + 60, ct.array), GRID), segmentation, tube


def test_lesions_keep_off_large_vessels() -> None:
    ct, segmentation, tube = bright_tube(6.0)
    lesion = replace(BALL, radii_mm=(9.0, 9.0, 9.0), signs=replace(PLAIN, washout_hu=40.0))
    case = plant_lesions(ct, segmentation, [lesion], 1, differentiation=0.5, delay_s=180.0)
    ids = case.truth.lesion_ids.array > 0
    assert np.count_nonzero(ids & tube) < 0.01 * np.count_nonzero(ids)


def test_lesions_cover_small_vessels() -> None:
    ct, segmentation, tube = bright_tube(2.0)
    lesion = replace(BALL, signs=replace(PLAIN, washout_hu=20.0))
    case = plant_lesions(ct, segmentation, [lesion], 1, differentiation=0.5, delay_s=180.0)
    core = binary_erosion(case.truth.lesion_ids.array == 1, iterations=2)
    assert np.any(core & tube)
    lesion_hu = case.ct.array[core & ~tube].mean()
    before = ct.array[core & tube].mean() - ct.array[core & ~tube].mean()
    assert before > 50
    # Half of it: voxels as wide as the vessel let no blur tell it from noise.
    assert case.ct.array[core & tube].mean() - lesion_hu < 0.6 * before


def test_thick_slices_blur_along_their_own_axis() -> None:
    """The oracle draws a plain ball on fine voxels and averages them over the slice."""
    grid = grid_around((40.0, -12.0, 8.0), (66, 56, 14), (1.5, 1.5, 6.0))
    ct, segmentation = liver_case(grid, noise_hu=0.0)
    lesion = replace(BALL, signs=replace(PLAIN, washout_hu=40.0))
    case = plant_lesions(ct, segmentation, [lesion], 1, differentiation=0.5, delay_s=180.0)
    added = (case.ct.array.astype(float) - ct.array) / -40
    ids = case.truth.lesion_ids.array > 0
    area = added.sum(axis=(1, 2))
    partly = (added > 0.15) & (added < 0.85)
    # A slice that the lesion's pole enters holds a part of it; sharp sampling would hold 0 or all.
    ends = np.flatnonzero(area > 1)[[0, -1]]
    assert np.all(partly[ends].sum(axis=(1, 2)) > 20)
    assert added.sum() == pytest.approx(np.count_nonzero(ids), rel=0.12)


def test_the_type_of_the_ct_is_kept() -> None:
    ct, segmentation = liver_case()
    real = Volume(ct.array.astype(np.float32) + np.float32(0.25), GRID)
    lesion = replace(BALL, signs=replace(PLAIN, arterial_hu=40.0, washout_hu=30.0))
    case = plant_lesions(real, segmentation, [lesion], 1, differentiation=0.5, delay_s=35.0)
    assert case.ct.array.dtype == np.float32
    assert core_contrast(case, real) == pytest.approx(40, abs=1.0)


def test_values_are_clipped_to_the_range_of_the_type() -> None:
    ct, segmentation = liver_case()
    small = Volume(np.clip(ct.array, -128, 127).astype(np.int8), GRID)
    lesion = replace(BALL, signs=replace(PLAIN, washout_hu=-38.0))
    case = plant_lesions(small, segmentation, [lesion], 1, differentiation=0.5, delay_s=180.0)
    core = binary_erosion(case.truth.lesion_ids.array == 1, iterations=2)
    assert case.ct.array[core].max() == 127
    assert case.ct.array[core].min() > 0


@pytest.mark.parametrize("radius", [50.0, 70.0])
def test_a_lesion_without_room_is_refused(radius: float) -> None:
    with pytest.raises(OptionError, match=f"{radius}.*finds no room") as caught:
        plant(replace(BALL, radii_mm=(radius,) * 3))
    assert "smaller" in caught.value.advice


def test_a_full_liver_is_refused() -> None:
    with pytest.raises(OptionError, match="finds no room"):
        plant(*[replace(BALL, radii_mm=(22.0,) * 3)] * 4)


def test_a_lesion_between_the_slices_is_refused() -> None:
    grid = grid_around((38.0, -10.0, 10.0), (32, 28, 5), (3.8, 3.4, 22.0))
    ct, segmentation = liver_case(grid)
    lesion = replace(BALL, radii_mm=(3.0,) * 3)
    wrong = 0
    for height in np.linspace(0.35, 0.65, 4):
        at = [replace(lesion, position=(0.5, 0.5, float(height)))]
        try:
            case = plant_lesions(ct, segmentation, at, 1, differentiation=0.5, delay_s=70.0)
        except OptionError as error:
            assert "falls between voxels" in error.message
            wrong += 1
        else:
            assert case.truth.lesions[0].volume_ml > 0
    assert wrong > 0


def refused(change: Callable[[Volume, Segmentation], dict]) -> str:
    ct, segmentation = liver_case()
    options = {"ct": ct, "segmentation": segmentation, "lesions": [BALL], "seed": 1}
    options |= {"differentiation": 0.5, "delay_s": 70.0}
    with pytest.raises((InputError, OptionError)) as caught:
        plant_lesions(**(options | change(ct, segmentation)))
    assert caught.value.advice
    return caught.value.message


def test_unusable_input_is_refused_with_its_value() -> None:
    assert "no lesion" in refused(lambda ct, s: {"lesions": []})
    assert "1.5" in refused(lambda ct, s: {"differentiation": 1.5})
    assert "5" in refused(lambda ct, s: {"delay_s": 5.0})
    shifted = replace(GRID, origin_lps=(0.0, 0.0, 0.0))
    assert "grid" in refused(
        lambda ct, s: {"segmentation": Segmentation(s.labels, shifted, s.segments)}
    )
    assert "organ" in refused(
        lambda ct, s: {"segmentation": Segmentation(s.labels, GRID, s.segments[1:])}
    )
    assert "1129" in refused(lambda ct, s: {"ct": Volume(ct.array + 1024, GRID)})
    every = tuple(Segment(n, f"s{n}") for n in range(1, 256) if n != 6)
    assert "255" in refused(
        lambda ct, s: {"segmentation": Segmentation(s.labels, GRID, (s.segments[0], *every))}
    )


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real CT in {REAL}")
@pytest.mark.parametrize("signs", [replace(PLAIN, capsule_hu=35.0), RICH])
def test_a_real_liver_takes_a_lesion(signs: Signs) -> None:
    ct = read_ct(REAL / "CRLM-CT-1004_ct.nii.gz")
    organs = read_volume(REAL / "CRLM-CT-1004_organs_auto.nii.gz", "segmentation")
    labels = resample_array(organs.array, organs.geometry, ct.geometry, nearest=True)
    segmentation = Segmentation(
        labels.astype(np.uint8), ct.geometry, (Segment(6, "liver", "liver"), Segment(1, "spleen"))
    )
    lesion = Lesion((0.65, 0.5, 0.6), (17.5, 17.5, 17.5), signs)
    case = plant_lesions(ct, segmentation, [lesion], 3, differentiation=0.2, delay_s=70.0)
    ids, rims = case.truth.lesion_ids.array > 0, case.truth.rim_ids.array > 0
    assert case.truth.liver_hu == pytest.approx(118, abs=2)
    assert np.all(labels[ids | rims] == 6)
    assert np.array_equal(case.ct.array[~(ids | rims)], ct.array[~(ids | rims)])
    assert case.truth.lesions[0].volume_ml == pytest.approx(22.4, rel=0.3)
    # No large vessel under the lesion.
    blurred = gaussian_filter(ct.array.astype(np.float32), (0, 2.0, 2.0))
    assert np.mean(blurred[binary_erosion(ids, iterations=2)] > 118 + 40) < 0.005
    core = binary_erosion(ids, iterations=2)
    dark = ct.array[core].mean() - case.ct.array[core].mean()
    assert dark > 20 if signs is RICH else abs(dark) < 6
