"""Is it a CT, and is it like those of training?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from phantoms import CT_GRID
from random_models import specification

from REACTKDLib.checks import (
    InputStatistics,
    check_ct,
    check_prediction,
    compare_with_training,
)
from REACTKDLib.errors import InputError
from REACTKDLib.infer import Prediction, load_classifier, predict
from REACTKDLib.model_package import (
    ModalitySetStatistics,
    ModelSpec,
    TrainingRanges,
    spec_from_section,
)
from REACTKDLib.normalise import normalise
from REACTKDLib.roi import Roi, locate_roi
from REACTKDLib.types import Study, Volume


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return spec_from_section(specification())


def checked(study: Study, spec: ModelSpec, ct: np.ndarray) -> InputStatistics:
    other = Study({"ct": Volume(ct, study.ct.geometry)}, study.segmentation)
    return check_ct(other, locate_roi(other, spec), spec)


def test_statistics_of_a_ct(ct_study, spec):
    statistics = checked(ct_study, spec, ct_study.ct.array)
    inside = ct_study.segmentation.labels > 0
    assert statistics.median_hu == pytest.approx(np.median(ct_study.ct.array[inside]))
    assert statistics.volume_ml == pytest.approx(inside.sum() * 3.9 * 4.2 * 5.6 / 1000)
    assert statistics.largest_spacing_mm == pytest.approx(5.6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda hu: np.clip(hu, 0, None), "lowest value is 0"),  # as PET, or MR
        (lambda hu: (hu + 1000) / 2000, "lowest value is"),  # scaled to 0..1
        (lambda hu: hu + 1024, "below -50 HU"),  # rescale intercept missing
        (lambda hu: np.where(hu < -500, hu, hu + 400), "plausible"),
        (lambda hu: np.full_like(hu, -1000), "The median under the segmentation is -1000"),
        (lambda hu: np.where(hu < -500, hu, 100), "hardly vary"),
        (lambda hu: np.where(hu < -500, -60, 0.3 + hu / 4000), "hardly vary"),
    ],
)
def test_what_is_not_a_ct_in_hu_is_refused(change, said, ct_study, spec):
    with pytest.raises(InputError) as caught:
        checked(ct_study, spec, change(ct_study.ct.array).astype(np.float32))
    assert said in caught.value.message
    assert caught.value.advice


def test_labels_between_the_ct_voxels_are_refused(ct_study, spec):
    roi = locate_roi(ct_study, spec)
    empty = Roi(roi.crop_start, roi.geometry, np.zeros_like(roi.labels), roi.model_geometry)
    with pytest.raises(InputError, match="No voxel centre"):
        check_ct(ct_study, empty, spec)


RANGES = TrainingRanges(median_hu=(80, 130), volume_ml=(900, 2000), largest_spacing_mm=(1, 5))


def test_an_input_like_training_has_no_notice():
    assert compare_with_training(InputStatistics(100, 1500, 5), RANGES) == ()


@pytest.mark.parametrize(
    ("statistics", "code", "said"),
    [
        (InputStatistics(60, 1500, 3), "unusual_hu", "60 HU; training had 80 to 130 HU"),
        (InputStatistics(100, 500, 3), "unusual_volume", "500 ml; training had 900 to 2000 ml"),
        (InputStatistics(100, 1500, 6.5), "unusual_spacing", "6.5 mm; training had 1 to 5 mm"),
    ],
)
def test_what_training_did_not_see_is_said_with_the_numbers(statistics, code, said):
    (notice,) = compare_with_training(statistics, RANGES)
    assert (notice.code, notice.severity) == (code, "warning")
    assert said in notice.text


@pytest.fixture(scope="module")
def prediction(ct_study, random_package) -> Prediction:
    model_input = normalise(ct_study, locate_roi(ct_study, random_package), random_package)
    return predict(load_classifier(random_package, "cpu"), model_input)


def test_missing_modalities_and_a_simulated_model_are_said(prediction, random_package):
    notices = {n.code: n for n in check_prediction(prediction, random_package)}
    assert set(notices) == {"missing_modality", "simulated_model"}
    assert "FDG-PET, acetate-PET" in notices["missing_modality"].text
    assert notices["simulated_model"].severity == "warning"
    assert "simulated images only" in notices["simulated_model"].text


def test_a_model_from_patients_is_not_called_simulated(prediction, random_package):
    real = dataclasses.replace(random_package, simulated=False)
    assert [n.code for n in check_prediction(prediction, real)] == ["missing_modality"]


def test_features_beyond_the_limit_are_said(prediction, random_package):
    def codes(limit: float) -> list[str]:
        statistics = {"ct": ModalitySetStatistics(temperature=1.0, distance_limit=limit)}
        package = dataclasses.replace(random_package, statistics=statistics)
        return [n.code for n in check_prediction(prediction, package)]

    assert prediction.distance > 0
    assert "unusual_features" in codes(0.9 * prediction.distance)
    assert "unusual_features" not in codes(1.1 * prediction.distance)


def test_a_thin_ct_is_measured_where_it_covers_the_segmentation(ct_study, spec):
    """Statistics come from the part of the segmentation that the CT shows."""
    short = CT_GRID.crop((0, 0, 7), (47, 41, 20))
    study = Study({"ct": Volume(ct_study.ct.array[7:], short)}, ct_study.segmentation)
    statistics = check_ct(study, locate_roi(study, spec), spec)
    inside = (ct_study.segmentation.labels > 0)[7:]
    assert statistics.volume_ml == pytest.approx(inside.sum() * 3.9 * 4.2 * 5.6 / 1000)
