"""Simulated cohorts: reproducible case by case, and different where they should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from REACTKDLib.errors import OptionError
from REACTKDLib.simulation import GRADES, Scanner, simulate_case
from training.cohort import PROFILES, sample_case_parameters, simulate_cohort_case
from training.cohort_check import cross_validated_scores, macro_auc

N = 240


def parameters_of(profile: str, n: int = N, seed: int = 0):
    return [sample_case_parameters(profile, index, seed) for index in range(n)]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_case_is_the_same_in_any_order(profile: str) -> None:
    forwards = parameters_of(profile, 9)
    backwards = [sample_case_parameters(profile, index, 0) for index in reversed(range(9))]
    assert forwards == backwards[::-1]
    assert parameters_of(profile, 9, seed=1) != forwards
    assert len(set(forwards)) == 9


def test_every_three_cases_hold_every_grade_in_varying_order() -> None:
    grades = [p.grade for p in parameters_of("internal")]
    blocks = [tuple(grades[i : i + 3]) for i in range(0, N, 3)]
    assert all(sorted(block) == sorted(GRADES) for block in blocks)
    assert len(set(blocks)) > 3


def test_labels_are_noisy_near_the_cuts_only() -> None:
    cohort = parameters_of("internal")
    wrong = [p for p in cohort if p.grade != p.observed_grade]
    assert 0.03 < len(wrong) / N < 0.2
    assert all(min(abs(p.differentiation - c) for c in (1 / 3, 2 / 3)) < 0.2 for p in wrong)


def test_tracers_follow_grade_in_opposite_directions() -> None:
    cohort = parameters_of("internal")

    def median_ratio(tracer: str, grade: str) -> float:
        return float(np.median([p.lesions[0].ratio(tracer) for p in cohort if p.grade == grade]))

    assert median_ratio("pet_fdg", "well") == pytest.approx(1.0, abs=0.2)
    assert 2 < median_ratio("pet_fdg", "poor") < 4
    assert 1.5 < median_ratio("pet_acetate", "well") < 2.5
    assert 0.95 < median_ratio("pet_acetate", "poor") < 1.3
    negative = np.mean([p.lesions[0].ratio("pet_fdg") < 1.4 for p in cohort])
    assert negative == pytest.approx(0.5, abs=0.1)


def test_external_cohort_has_other_scanners_and_timing_and_no_pet() -> None:
    inside, outside = parameters_of("internal"), parameters_of("external")
    assert {p.scanner.kernel for p in inside} == {"soft", "standard"}
    assert "sharp" in {p.scanner.kernel for p in outside}
    assert max(p.scanner.noise_hu for p in inside) < np.median(
        [p.scanner.noise_hu for p in outside]
    )
    assert (
        {p.scanner.orientation for p in inside}
        == {"LPS"}
        != {p.scanner.orientation for p in outside}
    )
    assert np.std([p.delay_s for p in outside]) > 3 * np.std([p.delay_s for p in inside])
    case = simulate_cohort_case(outside[0], "external", 0, 0)
    assert not case.pet


def test_anatomy_and_lesions_stay_in_range() -> None:
    for profile in PROFILES:
        for p in parameters_of(profile):
            assert 1000 <= p.liver_volume_ml <= 1800
            assert 1 <= len(p.lesions) <= 4
            diameters = [2 * float(np.mean(lesion.radii_mm)) for lesion in p.lesions]
            assert min(diameters) > 8 and max(diameters) < 125


@pytest.mark.parametrize("profile", PROFILES)
def test_every_lesion_is_seen_on_a_coarse_grid(profile: str) -> None:
    for index in range(2):
        parameters = sample_case_parameters(profile, index, 7)
        parameters = replace(parameters, scanner=Scanner(spacing_mm=(3.0, 3.0, 4.0)))
        case = simulate_case(parameters, 0, pet=(), noise=False)
        assert all(truth.volume_ml > 0 for truth in case.truth.lesions)


@pytest.mark.parametrize(("profile", "index"), [("phantom", 0), ("internal", -1)])
def test_unknown_profiles_and_negative_indices_are_refused(profile: str, index: int) -> None:
    with pytest.raises(OptionError):
        sample_case_parameters(profile, index, 0)


@pytest.mark.parametrize(
    ("profile", "index", "grade", "size", "voxels", "mean", "spread", "pet"),
    [
        ("internal", 7, "well", (220, 182, 57), 4147, 105.693, 11.904, (0.28378, 0.35497)),
        ("external", 3, "poor", (175, 145, 42), 317, 82.565, 27.233, ()),
    ],
)
def test_the_cohort_of_the_studies_is_frozen(
    profile, index, grade, size, voxels, mean, spread, pet
) -> None:
    """Results of a study are of these cases: whatever changes them needs another seed and study."""
    case = simulate_cohort_case(
        sample_case_parameters(profile, index, 20260), profile, index, 20260
    )
    lesion = case.truth.lesion_ids.array > 0
    assert case.truth.observed_grade == grade
    assert case.ct.geometry.size == size
    assert np.count_nonzero(lesion) == voxels
    assert case.ct.array[lesion].mean() == pytest.approx(mean, abs=0.01)
    assert case.ct.array[lesion].std() == pytest.approx(spread, abs=0.01)
    means = [float(volume.array.mean()) for volume in case.pet.values()]
    assert means == pytest.approx(pet, abs=1e-4)


def test_macro_auc_counts_ordered_pairs() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    score = np.array([0.9, 0.4, 0.5, 0.2, 0.1])
    pairs = [score[a] > score[b] for a in (0, 1) for b in (2, 3, 4)]
    auc = macro_auc(labels, np.column_stack([score, -score]))
    assert auc == pytest.approx(np.mean(pairs))


def test_cross_validation_finds_signal_and_no_more() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    noise = rng.normal(size=(300, 4))
    signal = np.column_stack([noise, labels + rng.normal(0, 0.3, 300)])
    assert macro_auc(labels, cross_validated_scores(signal, labels)) > 0.95
    assert macro_auc(labels, cross_validated_scores(noise, labels)) == pytest.approx(0.5, abs=0.08)
