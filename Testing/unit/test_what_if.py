"""What-if: a phantom with a lesion hidden looks as the phantom without it; fewer photons."""

from __future__ import annotations

import numpy as np
import pytest
from phantoms import CT_GRID, PET_GRID, PHANTOM, Phantom, voxel_centres_ras
from random_models import specification_without_organ, write_random_package

from REACTKDLib.dose import simulate_low_dose
from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.pipeline import RunOptions, run_case
from REACTKDLib.types import Segment, Segmentation, Study, WhatIf
from REACTKDLib.what_if import changed_study, run_what_if

#: The larger lesion of the phantom, and the phantom without it.
LARGE, SMALL = PHANTOM.lesions
WITHOUT_LARGE = Phantom(lesions=(SMALL,))


@pytest.fixture(scope="module")
def original(phantom_study, random_package):
    return run_case(phantom_study, random_package, RunOptions(target="poor"))


@pytest.fixture(scope="module")
def hidden(phantom_study, original, random_package):
    return changed_study(phantom_study, original, WhatIf(hidden=("lesion-1",)), random_package)


def test_the_ids_are_those_of_the_lesions_by_size(original):
    centres = {r.id: r.centroid_ras for r in original.regions if r.kind == "lesion"}
    assert np.allclose(centres["lesion-1"], LARGE.centre_ras, atol=3)
    assert np.allclose(centres["lesion-2"], SMALL.centre_ras, atol=3)


@pytest.mark.parametrize(("name", "grid"), [("ct", CT_GRID), ("pet_fdg", PET_GRID)])
def test_a_hidden_lesion_becomes_nearby_parenchyma(name, grid, phantom_study, hidden):
    """Grids are oblique and anisotropic, and the PET's differs from the CT's."""
    ras = voxel_centres_ras(grid)
    truth = (WITHOUT_LARGE.hu if name == "ct" else WITHOUT_LARGE.suv)(ras)
    inside = LARGE.level(ras) < 1
    before = np.abs(phantom_study.volumes[name].array - truth)[inside].mean()
    after = np.abs(hidden.volumes[name].array - truth)[inside].mean()
    assert after < before / 4


@pytest.mark.parametrize(("name", "grid"), [("ct", CT_GRID), ("pet_fdg", PET_GRID)])
def test_voxels_away_from_the_hidden_region_stay(name, grid, phantom_study, hidden):
    ras = voxel_centres_ras(grid)
    changed = hidden.volumes[name].array != phantom_study.volumes[name].array
    # A margin for the blur of PET (8 mm), and a voxel.
    far = np.linalg.norm(ras - np.array(LARGE.centre_ras), axis=-1) > 17 + 8 + 6
    assert changed.any()
    assert not changed[far].any()


def test_a_hidden_lesion_is_part_of_the_organ(phantom_study, hidden):
    ras = voxel_centres_ras(CT_GRID)
    labels = hidden.segmentation.labels
    assert (labels[LARGE.level(ras) <= 1] == 1).all()
    elsewhere = LARGE.level(ras) > 1
    assert np.array_equal(labels[elsewhere], phantom_study.segmentation.labels[elsewhere])


def test_the_segmentation_may_stand_on_another_grid(original, random_package):
    study = PHANTOM.study(CT_GRID, segmentation=PET_GRID)
    case = run_case(study, random_package)
    changed = changed_study(study, case, WhatIf(hidden=("lesion-1",)), random_package)
    level = LARGE.level(voxel_centres_ras(PET_GRID))
    assert (changed.segmentation.labels[level < 0.8] == 1).all()
    assert np.array_equal(
        changed.segmentation.labels[level > 1.4], study.segmentation.labels[level > 1.4]
    )


def test_a_hidden_rim_stays_organ_and_takes_its_values_from_the_parenchyma(
    ct_study, random_package
):
    case = run_case(ct_study, random_package)
    changed = changed_study(ct_study, case, WhatIf(hidden=("rim-1",)), random_package)
    assert np.array_equal(changed.segmentation.labels, ct_study.segmentation.labels)
    labels = {region.id: region.label for region in case.regions}
    lesion = case.region_labels.array == labels["lesion-1"]
    rim = case.region_labels.array == labels["rim-1"]
    different = changed.ct.array != ct_study.ct.array
    assert different[rim].mean() > 0.9
    # The margin reaches a little into the lesion, not to its middle.
    core = LARGE.level(voxel_centres_ras(CT_GRID)) < 0.6
    assert lesion[core].all()
    assert not different[core].any()


def test_the_study_itself_does_not_change(phantom_study, original, random_package):
    arrays = {name: volume.array.copy() for name, volume in phantom_study.volumes.items()}
    labels = phantom_study.segmentation.labels.copy()
    what_if = WhatIf(hidden=("lesion-1",), photons=5e4)
    changed_study(phantom_study, original, what_if, random_package)
    for name, array in arrays.items():
        assert np.array_equal(phantom_study.volumes[name].array, array)
    assert np.array_equal(phantom_study.segmentation.labels, labels)


def test_fewer_photons_more_noise(phantom_study, original, random_package):
    def noise(photons: float) -> float:
        changed = changed_study(phantom_study, original, WhatIf(photons=photons), random_package)
        assert np.array_equal(
            changed.volumes["pet_fdg"].array, phantom_study.volumes["pet_fdg"].array
        )
        liver = phantom_study.segmentation.labels == 1
        return float((changed.ct.array - phantom_study.ct.array)[liver].std())

    few, many = noise(1e5), noise(1e7)
    assert few / many == pytest.approx(10, rel=0.2)  # the square root of the dose


def test_the_quicker_dose_has_the_noise_of_the_usual_one(phantom_study, original, random_package):
    liver = phantom_study.segmentation.labels == 1
    quick = changed_study(phantom_study, original, WhatIf(photons=1e5), random_package).ct
    usual = simulate_low_dose(phantom_study.ct, 1e5, 0, method="image")
    sd = [(ct.array - phantom_study.ct.array)[liver].std() for ct in (quick, usual)]
    assert sd[0] == pytest.approx(sd[1], rel=0.05)


def test_a_what_if_keeps_target_and_regions_and_its_shares_add_up(
    phantom_study, original, random_package
):
    after = run_what_if(
        phantom_study, original, WhatIf(hidden=("lesion-1",)), random_package, RunOptions()
    )
    assert after.target == original.target == "poor"
    assert [r.id for r in after.regions] == [r.id for r in original.regions]
    assert np.array_equal(after.region_labels.array, original.region_labels.array)
    total = sum(share.share for share in after.shares) + after.outside_share
    assert total == pytest.approx(after.contrast - after.reference_contrast, abs=1e-3)
    assert after.logits != original.logits
    before = {r.id: r.mean_hu for r in original.regions}
    now = {r.id: r.mean_hu for r in after.regions}
    assert now["lesion-1"] > before["lesion-1"] + 30  # measured on the changed CT
    assert now["lesion-2"] == pytest.approx(before["lesion-2"])


def test_nothing_changed_gives_the_same_answer(phantom_study, original, random_package):
    again = run_what_if(phantom_study, original, WhatIf(), random_package, RunOptions())
    assert again.probabilities == pytest.approx(original.probabilities, abs=1e-6)
    assert [s.share for s in again.shares] == pytest.approx(
        [s.share for s in original.shares], abs=1e-4
    )
    assert again.graph.edges == original.graph.edges


def test_all_lesions_hidden_leaves_a_study_without_lesion(phantom_study, original, random_package):
    what_if = WhatIf(hidden=("lesion-1", "lesion-2"))
    changed = changed_study(phantom_study, original, what_if, random_package)
    assert set(np.unique(changed.segmentation.labels)) == {0, 1}
    after = run_what_if(phantom_study, original, what_if, random_package, RunOptions())
    assert sum(after.probabilities.values()) == pytest.approx(1)


def test_an_unknown_region_is_refused(phantom_study, original, random_package):
    with pytest.raises(OptionError, match=r"no region 'lesion-9'.*Choose of lesion-1"):
        changed_study(phantom_study, original, WhatIf(hidden=("lesion-9",)), random_package)


def test_hiding_everything_is_refused(phantom_study, original, random_package):
    everything = tuple(region.id for region in original.regions)
    with pytest.raises(OptionError, match="Hide fewer regions"):
        changed_study(phantom_study, original, WhatIf(hidden=everything), random_package)


def test_a_model_that_sees_the_lesion_alone_cannot_do_without_it(tmp_path):
    whole = PHANTOM.study(CT_GRID)
    labels = (whole.segmentation.labels == 2).astype(np.uint8)
    segmentation = Segmentation(labels, CT_GRID, (Segment(1, "tumour", "tumour"),))
    study = Study({"ct": whole.ct}, segmentation, "tumour")
    package = write_random_package(tmp_path / "package", specification_without_organ())
    case = run_case(study, package)
    with pytest.raises(OptionError, match="organ"):
        changed_study(study, case, WhatIf(hidden=("lesion-1",)), package)


def test_regions_of_another_grid_are_refused(original, random_package):
    other = PHANTOM.study(PET_GRID)
    with pytest.raises(InputError, match="Run the model on this CT first"):
        run_case(other, random_package, like=original)
