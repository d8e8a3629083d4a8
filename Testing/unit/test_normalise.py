"""What the network reads, against numbers computed by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from phantoms import CT_GRID, LIVER, PET_GRID, PHANTOM, sample, voxel_centres_ras
from random_models import specification
from scipy.spatial import cKDTree

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.model_package import ModelSpec, spec_from_section
from REACTKDLib.normalise import ModelInput, normalise
from REACTKDLib.roi import Roi, locate_roi
from REACTKDLib.types import Segmentation, Study, Volume

#: CT, labels and model share this grid, so that nothing is interpolated.
GRID = Geometry((14, 12, 10), (3.0, 3.0, 4.0), (0.0, 0.0, 0.0))
LABELS = np.zeros(GRID.array_shape, np.uint8)
LABELS[3:7, 4:8, 5:10] = 1
CT = np.random.default_rng(0).uniform(-400, 500, GRID.array_shape).astype(np.float32)


def spec_with(modalities: list[dict[str, Any]] | None = None, supersampling: int = 1) -> ModelSpec:
    document = specification()
    document["grid"] |= {"supersampling": supersampling, "margin_mm": 6.0}
    if modalities is not None:
        document["modalities"] = modalities
    return spec_from_section(document)


def windowed(name: str = "ct", **fields: Any) -> dict[str, Any]:
    return {"name": name, "title": name, "required": True, "window": [-160, 240]} | fields


def read_by_model(ct: np.ndarray, spec: ModelSpec, labels: np.ndarray = LABELS) -> ModelInput:
    volume = Volume(ct, GRID, "CT")
    study = Study({"ct": volume}, Segmentation(labels, GRID, (LIVER,)))
    return normalise(study, Roi((0, 0, 0), GRID, labels, GRID), spec)


def test_the_region_of_interest_falls_to_0_over_one_voxel_at_the_margin():
    roi = read_by_model(CT, spec_with()).roi
    centres = voxel_centres_ras(GRID)
    distance = cKDTree(centres[LABELS > 0]).query(centres)[0]
    expected = np.clip((6.0 + 1.5 - distance) / 3.0, 0, 1)  # the finest spacing is 3 mm
    assert np.allclose(roi, expected, atol=1e-5)
    assert set(np.unique(roi[LABELS > 0])) == {1.0}


def test_values_are_clipped_scaled_and_z_scored_over_the_region():
    result = read_by_model(CT, spec_with([windowed()]))
    scaled = (np.clip(CT.astype(float), -160, 240) + 160) / 400
    mean = (scaled * result.roi).sum() / result.roi.sum()
    variance = ((scaled - mean) ** 2 * result.roi).sum() / result.roi.sum()
    expected = (scaled - mean) / np.sqrt(variance) * result.roi
    assert result.volumes["ct"].dtype == np.float32
    assert np.allclose(result.volumes["ct"], expected, atol=1e-5)


def test_beyond_the_window_all_values_are_alike():
    spec = spec_with([windowed()])
    ends = np.where(CT > 0, 240, -160).astype(np.float32)
    beyond = np.where(CT > 0, 3000, -1000).astype(np.float32)
    assert np.array_equal(
        read_by_model(ends, spec).volumes["ct"], read_by_model(beyond, spec).volumes["ct"]
    )


def test_percentiles_are_those_of_the_region():
    result = read_by_model(CT, spec_with([windowed(window=None, percentiles=[5, 95])]))
    inside = result.roi > 0.5
    low, high = np.percentile(CT[inside], (5, 95))
    values = result.volumes["ct"] / np.where(result.roi > 0, result.roi, 1)
    clipped_low, clipped_high = inside & (low >= CT), inside & (high <= CT)
    assert clipped_low.sum() > 10
    assert np.allclose(values[clipped_low], values[inside].min(), atol=1e-5)
    assert np.allclose(values[clipped_high], values[inside].max(), atol=1e-5)
    between = inside & ~clipped_low & ~clipped_high
    slope = np.polyfit(CT[between], values[between], 1)
    assert np.allclose(np.polyval(slope, CT[between]), values[between], atol=1e-4)


def test_outside_the_region_everything_is_0_and_nothing_there_matters():
    spec = spec_with([windowed()])
    result = read_by_model(CT, spec)
    outside = result.roi == 0
    assert outside.sum() > 200
    assert not result.volumes["ct"][outside].any()
    changed = np.where(outside, 999, CT).astype(np.float32)
    assert np.array_equal(read_by_model(changed, spec).volumes["ct"], result.volumes["ct"])


def test_supersampling_averages_points_inside_each_voxel(ct_study):
    """A field linear in space has its centre's value as the average, with any factor."""
    study = ct_study
    field = sample(lambda ras: ras @ np.array([0.9, -0.7, 0.8]) + 40, CT_GRID)
    study = Study({"ct": Volume(field, CT_GRID)}, study.segmentation)
    results = []
    for factor in (1, 2, 3):
        spec = spec_with([windowed()], factor)
        roi = locate_roi(study, spec)
        results.append(normalise(study, roi, spec))
    whole = (results[0].roi == 1) & (results[1].roi == 1) & (results[2].roi == 1)
    truth = sample(lambda ras: ras @ np.array([0.9, -0.7, 0.8]) + 40, results[0].geometry)
    for result in results:
        line = np.polyfit(truth[whole], result.volumes["ct"][whole], 1)
        residual = result.volumes["ct"][whole] - np.polyval(line, truth[whole])
        assert np.abs(residual).max() < 1e-3


def test_ct_has_its_values_where_the_patient_has_them(ct_study):
    """Against the phantom's formula at the model's voxel centres, from an oblique CT."""
    spec = spec_with([windowed()], 2)
    result = normalise(ct_study, locate_roi(ct_study, spec), spec)
    truth = np.clip(sample(PHANTOM.hu, result.geometry), -160, 240)
    whole = result.roi == 1
    correlation = np.corrcoef(truth[whole], result.volumes["ct"][whole])[0, 1]
    assert correlation > 0.98
    shifted = np.corrcoef(truth[whole], np.roll(result.volumes["ct"], 1, axis=2)[whole])[0, 1]
    assert shifted < 0.93  # one voxel off would be seen


def test_pet_keeps_its_own_grid_until_the_models(phantom_study):
    modalities = [windowed(), windowed("pet_fdg", window=[0, 10])]
    spec = spec_with(modalities, 2)
    result = normalise(phantom_study, locate_roi(phantom_study, spec), spec)
    assert list(result.volumes) == ["ct", "pet_fdg"]
    truth = sample(PHANTOM.suv, result.geometry)
    on_pet = PET_GRID.ijk_from_ras(voxel_centres_ras(result.geometry))
    seen = (result.roi == 1) & np.all(
        (on_pet >= 0) & (on_pet <= np.array(PET_GRID.size) - 1), axis=-1
    )
    assert seen.sum() > 0.9 * (result.roi == 1).sum()
    assert np.corrcoef(truth[seen], result.volumes["pet_fdg"][seen])[0, 1] > 0.99
    assert not result.volumes["pet_fdg"][result.roi == 0].any()


@pytest.mark.parametrize(
    "how", [{"window": [-160, 240]}, {"window": None, "percentiles": [0, 100]}], ids=str
)
def test_what_the_ct_does_not_show_has_no_weight_and_no_air(how):
    """A CT cut at the organ's border, in the middle of a model voxel, against the whole CT."""
    grid = Geometry((40, 40, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    labels = np.zeros(grid.array_shape, np.uint8)
    labels[10:31, 10:30, 10:30] = 1
    hu_of_slice = 5.0 * np.arange(40).clip(0, 26)
    hu = np.broadcast_to(hu_of_slice[:, None, None], grid.array_shape).astype(np.float32)
    segmentation, spec = Segmentation(labels, grid, (LIVER,)), spec_with([windowed(**how)], 2)
    whole = Study({"ct": Volume(hu, grid)}, segmentation)
    cut = Study({"ct": Volume(hu[10:], grid.crop((0, 0, 10), (40, 40, 30)))}, segmentation)
    before = normalise(whole, locate_roi(whole, spec), spec)
    after = normalise(cut, locate_roi(cut, spec), spec)

    # Each voxel has sampling points at one and three quarters of its height.
    assert after.geometry == before.geometry
    slices = np.arange(after.geometry.size[2])[:, None] + np.array([-0.25, 0.25])
    z = after.geometry.origin_lps[2] + after.geometry.spacing_mm[2] * slices
    shown = z > 10 * 2.0 - 1.0
    part = shown.mean(axis=1)
    assert set(part[before.roi.any(axis=(1, 2))]) == {0.0, 0.5, 1.0}
    assert np.array_equal(after.roi, before.roi * part.astype(np.float32)[:, None, None])

    hu_of_point = np.interp((z / 2.0).clip(10, None), np.arange(40), hu_of_slice)
    values = (hu_of_point * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
    values = np.broadcast_to(values[:, None, None], after.roi.shape)
    if how["window"] is None:
        values = values.clip(values[after.roi > 0.5].min(), values[after.roi > 0.5].max())
    mean = np.average(values, weights=after.roi)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=after.roi))
    assert np.allclose(after.volumes["ct"], (values - mean) / spread * after.roi, atol=1e-4)


def test_pet_counts_as_0_beyond_its_field_of_view(phantom_study):
    x, y, z = PET_GRID.origin_lps
    half = dataclasses.replace(PET_GRID, origin_lps=(x, y, z + 50))
    pet = Volume(sample(PHANTOM.suv, half), half, "pet")
    study = Study({"ct": phantom_study.ct, "pet_fdg": pet}, phantom_study.segmentation)
    spec = spec_with([windowed(), windowed("pet_fdg", window=[0, 10])], 2)
    result = normalise(study, locate_roi(study, spec), spec)
    below = (voxel_centres_ras(result.geometry)[..., 2] < z + 50 - 10) & (result.roi == 1)
    values = result.volumes["pet_fdg"][below]
    assert below.sum() > 50
    assert np.ptp(values) < 1e-5
    assert values.max() < result.volumes["pet_fdg"][result.roi == 1].max() - 0.5


def study_of_a_cube(side_mm: int) -> Study:
    fine = Geometry((30, 30, 30), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    labels = np.zeros(fine.array_shape, np.uint8)
    labels[13 : 13 + side_mm, 12 : 12 + side_mm, 15 : 15 + side_mm] = 1
    ct = np.random.default_rng(5).uniform(0, 100, fine.array_shape).astype(np.float32)
    return Study({"ct": Volume(ct, fine)}, Segmentation(labels, fine, (LIVER,)))


def test_a_structure_smaller_than_any_model_voxel_has_its_region_around_it():
    """A cube of 4 mm on the corner of eight voxels of 5 x 5 x 7 mm fills each by a part only."""
    study, spec = study_of_a_cube(4), spec_with([windowed()], 2)
    roi = locate_roi(study, spec)
    centred = roi.model_geometry
    shifted = tuple(o + s / 2 for o, s in zip(centred.origin_lps, centred.spacing_mm, strict=True))
    grid = dataclasses.replace(centred, origin_lps=shifted)
    result = normalise(study, dataclasses.replace(roi, model_geometry=grid), spec)
    middle = study.ct.geometry.ras_from_ijk([16.5, 13.5, 14.5])
    distance = np.linalg.norm(voxel_centres_ras(result.geometry) - middle, axis=-1)
    assert np.all(result.roi[distance < 5.1] == 1.0)
    assert not result.roi[distance > 6 + 2.5 + 4.4].any()  # margin, soft edge, voxel centre


def test_a_structure_between_all_sampling_points_is_refused():
    study, spec = study_of_a_cube(1), spec_with([windowed()], 2)
    with pytest.raises(InputError, match="fall between the points of the model's grid"):
        normalise(study, locate_roi(study, spec), spec)


def test_a_constant_image_is_refused():
    with pytest.raises(InputError, match="no value of the region") as caught:
        read_by_model(np.full_like(CT, 40), spec_with([windowed(title="contrast CT")]))
    assert "contrast CT" in caught.value.message
    with pytest.raises(InputError, match=r"constant \(40\)"):
        read_by_model(np.full_like(CT, 40), spec_with([windowed(window=None, percentiles=[1, 99])]))


def test_an_image_all_beyond_the_window_is_refused():
    with pytest.raises(InputError, match=r"lies inside -160\.\.240"):
        read_by_model(CT + 5000, spec_with([windowed()]))


def test_a_missing_required_modality_is_refused_by_its_title():
    spec = spec_with([windowed(), windowed("pet_fdg", title="FDG-PET", window=[0, 10])])
    with pytest.raises(InputError, match="needs the modality 'pet_fdg'") as caught:
        read_by_model(CT, spec)
    assert "FDG-PET" in caught.value.advice


def test_the_input_cannot_be_changed():
    result = read_by_model(CT, spec_with([windowed()]))
    with pytest.raises(ValueError, match="read-only"):
        result.roi[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        result.volumes["ct"][0, 0, 0] = 1


# Weights of the pooling.


def weighed(
    labels: np.ndarray, lesion_weight: float, margin_mm: float = 4.5
) -> tuple[ModelInput, np.ndarray]:
    """The model's input, and what lies within the margin of a lesion (on the common grid)."""
    document = specification()
    document["grid"] = {
        "spacing_mm": list(GRID.spacing_mm),
        "supersampling": 1,
        "margin_mm": 6.0,
    }
    document["pooling"] = {"lesion_weight": lesion_weight, "lesion_margin_mm": margin_mm}
    spec = spec_from_section(document)
    segmentation = Segmentation(labels, GRID, (LIVER,))
    study = Study({"ct": Volume(CT, GRID, "CT")}, segmentation)
    result = normalise(study, Roi((0, 0, 0), GRID, labels, GRID), spec)
    centres = voxel_centres_ras(GRID)
    near = np.zeros(GRID.array_shape)
    if (labels == 2).any():
        distance = cKDTree(centres[labels == 2]).query(centres)[0]
        near = np.clip((margin_mm + 1.5 - distance) / 3.0, 0, 1)
    return result, near


@pytest.mark.parametrize("lesion_weight", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("lesion", [np.s_[4:5, 5:6, 7:8], np.s_[3:6, 4:8, 5:8]])
def test_lesions_have_their_weight_whatever_their_size(lesion, lesion_weight):
    labels = LABELS.copy()
    labels[lesion] = 2
    result, near = weighed(labels, lesion_weight)
    near = near * result.roi
    rest = result.roi - near
    expected = lesion_weight * near / near.sum() + (1 - lesion_weight) * rest / rest.sum()
    assert np.allclose(result.weights, expected, atol=1e-7)
    assert result.weights.sum() == pytest.approx(1.0, abs=1e-5)


def test_without_a_lesion_the_region_of_interest_weighs_evenly():
    result, _ = weighed(LABELS, 0.5)
    assert np.allclose(result.weights, result.roi / result.roi.sum(), atol=1e-7)


def test_where_all_is_near_a_lesion_the_whole_weight_is_there():
    result, near = weighed(np.where(LABELS > 0, 2, 0).astype(np.uint8), 0.5, margin_mm=20.0)
    assert near[result.roi > 0].min() == 1
    assert np.allclose(result.weights, result.roi / result.roi.sum(), atol=1e-7)
