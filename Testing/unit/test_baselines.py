"""Plain baselines: figures of lesions whose truth is known, the regression, the sarcoma set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantoms import Ellipsoid, grid_around, voxel_centres_ras, write_study
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry
from REACTKDLib.model_package import ModelSpec, spec_from_section
from REACTKDLib.types import Segment, Segmentation, Study, Volume
from training.baselines import (
    CT_FEATURES,
    cohort_features,
    feature_matrix,
    lesion_features,
    logistic_logits,
)
from training.evaluation.discrimination import binary_auc
from training.label_schema import LUNG_METASTASIS, SCHEMAS
from training.manifest import Cohort, CohortCase, read_manifest
from training.public_cohorts import build_manifest

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "training" / "configs" / "sts_lung_metastasis.json"
#: Real data lie beside the repository where there are any; they are no part of it.
REAL_STS = ROOT.parent / "shared" / "data" / "sts_petct51"

TUMOUR = Ellipsoid((12.0, -30.0, 55.0), (24.0, 17.0, 31.0))
HOT_SPOT = Ellipsoid((12.0, -30.0, 68.0), (7.0, 7.0, 7.0))
LESION = Segment(3, "tumour", "lesion")
#: Oblique and anisotropic, each in its own way; all cover the tumour.
CT_GRID = grid_around((10.0, -28.0, 52.0), (64, 52, 27), (1.4, 1.7, 3.3), (8.0, -11.0, 17.0))
MASK_GRID = grid_around((12.0, -31.0, 56.0), (58, 49, 61), (1.2, 1.3, 1.4), (-5.0, 3.0, -9.0))
PET_GRID = grid_around((15.0, -33.0, 58.0), (19, 20, 33), (4.1, 4.1, 3.3), (0.0, 4.0, 30.0))


def filled(shape: Ellipsoid, grid: Geometry) -> np.ndarray:
    return shape.level(voxel_centres_ras(grid)) <= 1


def sarcoma(
    ct: Geometry = CT_GRID,
    mask: Geometry | None = None,
    pet: Geometry | None = PET_GRID,
    suv: float = 4.0,
) -> Study:
    """Upper half of the tumour (its axial middle is the border) at 60 HU, lower at 20 HU, fat
    around; PET of ``suv`` with a hot spot of three times as much, 50 outside the tumour."""
    where = mask or ct
    upper = voxel_centres_ras(ct)[..., 2] > TUMOUR.centre_ras[2]
    hu = np.where(filled(TUMOUR, ct), np.where(upper, 60, 20), -100).astype(np.int16)
    volumes = {"ct": Volume(hu, ct, "CT")}
    if pet is not None:
        # A wide shell of the tumour's own uptake: no voxel at the border decides the test.
        wide = Ellipsoid(TUMOUR.centre_ras, (34.0, 27.0, 41.0))
        uptake = np.where(filled(wide, pet), suv, 50.0)
        uptake[filled(HOT_SPOT, pet)] = 3 * suv
        volumes["pet_fdg"] = Volume(uptake.astype(np.float32), pet, "PET")
    labels = np.where(filled(TUMOUR, where), np.uint8(3), np.uint8(0))
    labels[0, 0, 0] = 7  # another structure, which does not count
    segments = (LESION, Segment(7, "bone"))
    return Study(volumes, Segmentation(labels, where, segments), "generated")


def sts_spec() -> ModelSpec:
    return spec_from_section(json.loads(CONFIGURATION.read_text())["spec"])


@pytest.mark.parametrize("mask", [None, MASK_GRID], ids=["mask on CT", "mask on its own grid"])
def test_the_figures_of_a_known_tumour(mask):
    study = sarcoma(mask=mask)
    features = lesion_features(study)
    assert tuple(features) == (*CT_FEATURES, "pet_fdg_suv_max", "pet_fdg_suv_mean")
    assert features["volume_ml"] == pytest.approx(TUMOUR.volume_ml, rel=0.01)
    # A mask of another grid strays by half a voxel at the border, into fat.
    assert features["ct_mean_hu"] == pytest.approx(40, abs=0.5 if mask is None else 5)
    assert (features["ct_p10_hu"], features["ct_p90_hu"]) == (20, 60)
    assert features["pet_fdg_suv_max"] == pytest.approx(12)
    hot_part = HOT_SPOT.volume_ml / TUMOUR.volume_ml
    assert features["pet_fdg_suv_mean"] == pytest.approx(4 * (1 + 2 * hot_part), rel=0.02)
    if mask is None:
        assert features["ct_sd_hu"] == pytest.approx(20, abs=0.1)
        assert features["ct_entropy"] == pytest.approx(1, abs=0.01)  # two values, half each


def test_every_pet_is_measured_and_none_is_needed():
    study = sarcoma()
    second = Volume(study.volumes["pet_fdg"].array / 2, PET_GRID, "PET")
    both = Study({**study.volumes, "pet_acetate": second}, study.segmentation)
    features = lesion_features(both)
    assert features["pet_acetate_suv_max"] == pytest.approx(features["pet_fdg_suv_max"] / 2)
    assert tuple(lesion_features(sarcoma(pet=None))) == CT_FEATURES


def test_entropy_by_hand():
    grid = Geometry((4, 2, 2), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    labels = np.full(grid.array_shape, 3, np.uint8)

    def entropy_of(*values: float) -> float:
        hu = np.resize(np.array(values, np.float32), grid.array_shape)
        study = Study({"ct": Volume(hu, grid)}, Segmentation(labels, grid, (LESION,)))
        return lesion_features(study)["ct_entropy"]

    assert entropy_of(-160) == 0
    assert entropy_of(0, 9.9) == 0  # one bin: 0 to below 10 HU
    assert entropy_of(0, 10, 20, 30) == pytest.approx(2)
    assert entropy_of(0, 0, 0, 10) == pytest.approx(0.25 * 2 + 0.75 * np.log2(4 / 3))
    assert entropy_of(-1000, -155, 235, 3000) == pytest.approx(1)  # beyond: the outermost bins


def test_several_segments_are_one_lesion():
    grid = Geometry((6, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    labels = np.zeros(grid.array_shape, np.uint8)
    labels[..., 0], labels[..., 3], labels[..., 5] = 1, 2, 3
    segments = (Segment(1, "a", "mass"), Segment(2, "b", "mass"), Segment(3, "c", "organ"))
    hu = np.broadcast_to(np.arange(6, dtype=np.int16) * 10, grid.array_shape)
    study = Study({"ct": Volume(hu, grid)}, Segmentation(labels, grid, segments))
    features = lesion_features(study, "mass")
    assert (features["volume_ml"], features["ct_mean_hu"]) == (0.008, 15)


@pytest.mark.parametrize("missing", ["lesion", "ct", "pet_fdg"])
def test_no_lesion_voxel_is_an_error(missing):
    far = grid_around((500.0, 0.0, 0.0), (9, 9, 9), (4.0, 4.0, 4.0))
    if missing == "lesion":
        study = sarcoma()
        labels = np.where(study.segmentation.labels == 3, np.uint8(0), study.segmentation.labels)
        segments = study.segmentation.segments
        study = Study(study.volumes, Segmentation(labels, CT_GRID, segments), "generated")
        expected = "no voxel of the role 'lesion'"
    else:
        study = sarcoma(mask=MASK_GRID, **{"ct" if missing == "ct" else "pet": far})
        expected = f"no voxel centre of {missing}"
    with pytest.raises(InputError, match=expected) as caught:
        lesion_features(study)
    assert "generated" in caught.value.message
    assert caught.value.advice


def test_features_of_a_cohort_come_from_its_files(tmp_path):
    cases = []
    for number, suv in enumerate((2.0, 5.0)):
        study = sarcoma(suv=suv)
        only = np.where(study.segmentation.labels == 3, np.uint8(1), np.uint8(0))
        segmentation = Segmentation(only, CT_GRID, (Segment(1, "GTV", "lesion"),))
        files = write_study(Study(study.volumes, segmentation), tmp_path / str(number))
        cases.append(
            CohortCase(
                patient=f"P{number}",
                ct=files["ct"],
                label=number,
                masks={"lesion": (files["segmentation"],)},
                pet={"pet_fdg": files["pet_fdg"]},
            )
        )
    cohort = Cohort("generated", tuple(cases), LUNG_METASTASIS)
    features = cohort_features(cohort, sts_spec())
    assert list(features) == ["P0", "P1"]
    for name, value in lesion_features(sarcoma(suv=5.0)).items():
        assert features["P1"][name] == pytest.approx(value, rel=1e-5)
    again = replace(cases[0], study="second")
    features = cohort_features(Cohort("generated", (cases[0], again), LUNG_METASTASIS), sts_spec())
    assert list(features) == ["P0", "P0/second"]


def test_skewed_features_are_logarithms():
    features = {
        "A": {"volume_ml": 1.0, "ct_mean_hu": -20.0, "pet_fdg_suv_max": 10.0},
        "B": {"volume_ml": 100.0, "ct_mean_hu": 40.0, "pet_fdg_suv_max": 0.0},
    }
    columns = feature_matrix(features, ("ct_mean_hu", "volume_ml"))
    np.testing.assert_allclose(columns, [[-20, 0], [40, np.log(100)]])
    with pytest.raises(InputError, match="pet_fdg_suv_max of 'B' is 0, not positive"):
        feature_matrix(features, ("pet_fdg_suv_max",))
    del features["B"]["pet_fdg_suv_max"]
    with pytest.raises(InputError, match=r"1 of 2 patients have no pet_fdg_suv_max.*'B'"):
        feature_matrix(features, ("pet_fdg_suv_max",))


@pytest.mark.parametrize("classes", [2, 3])
def test_logits_are_those_of_the_regression(classes):
    rng = np.random.default_rng(classes)
    labels = np.arange(60) % classes
    train = rng.normal(size=(60, 3)) * (1, 50, 0.1) + labels[:, None] * (0.5, 0, 0.1)
    test = rng.normal(size=(20, 3)) * (1, 50, 0.1)
    logits = logistic_logits(train, labels, test, classes, seed=3)
    assert logits.shape == (20, classes)
    np.testing.assert_allclose(logsumexp(logits, axis=1), 0, atol=1e-12)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    model = LogisticRegression(max_iter=1000).fit((train - mean) / spread, labels)
    expected = model.predict_log_proba((test - mean) / spread)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_scale_and_other_test_rows_change_nothing():
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    train, test = rng.normal(size=(40, 2)) + labels[:, None], rng.normal(size=(9, 2))
    logits = logistic_logits(train, labels, test, 2)
    assert (logits[:, 1] > logits[:, 0]).any() and (logits[:, 1] < logits[:, 0]).any()
    scaled = logistic_logits(train * (1000, 0.01) + 5, labels, test * (1000, 0.01) + 5, 2)
    np.testing.assert_allclose(scaled, logits, rtol=1e-4)
    alone = logistic_logits(train, labels, test[:1], 2)  # standardised by the training rows alone
    np.testing.assert_allclose(alone, logits[:1], rtol=1e-12)
    far = logistic_logits(train, labels, np.full((1, 2), 1e6), 2)
    assert np.isfinite(far).all()
    assert logistic_logits(train, labels, test[:0], 2).shape == (0, 2)


def test_a_constant_feature_is_harmless():
    labels = np.arange(10) % 2
    train = np.stack([labels + 0.1 * np.arange(10), np.full(10, 7.0)], axis=1)
    one = logistic_logits(train[:, :1], labels, train[:, :1], 2)
    np.testing.assert_allclose(logistic_logits(train, labels, train, 2), one, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": np.zeros((4, 3))}, "shape"),
        ({"train": np.zeros((6, 0)), "test": np.zeros((4, 0))}, "shape"),
        ({"labels": np.zeros(5, int)}, "6 rows"),
        ({"labels": np.zeros(6, int)}, r"classes \[0\]"),
        ({"labels": np.array([1, 2, 1, 2, 1, 2])}, r"classes \[1, 2\]"),
        ({"test": np.full((4, 2), np.nan)}, "not finite"),
    ],
)
def test_unusable_rows_are_refused(change, message):
    rows = {"train": np.eye(6, 2), "labels": np.arange(6) % 2, "test": np.zeros((4, 2))} | change
    with pytest.raises(InputError, match=message):
        logistic_logits(**rows, classes=2)


def test_the_schema_of_lung_metastasis():
    schema = SCHEMAS["lung_metastasis"]
    written = (("0", 0), (0, 0), ("No", 0), ("1.0", 1), (1, 1), ("YES", 1), ("Lung metastasis", 1))
    for label, index in written:
        assert schema.index_of(label) == index, label
    assert [schema.index_of(label) for label in ("", "2", "unknown", "metastasis?")] == [None] * 4


def test_the_specification_fits_its_cohort():
    spec = sts_spec()
    assert spec.class_names == LUNG_METASTASIS.class_names
    assert not spec.simulated
    assert [(rule.name, rule.required) for rule in spec.role_rules] == [("lesion", True)]
    assert spec.regions.organ_role is None
    # The ring beside the lesion shares the pooling: it must not be thinner than a voxel.
    ring_mm = spec.grid.margin_mm - spec.pooling.lesion_margin_mm
    assert ring_mm > max(spec.grid.spacing_mm)


@pytest.mark.real
@pytest.mark.skipif(not REAL_STS.is_dir(), reason=f"no real PET/CT in {REAL_STS}")
def test_real_figures_separate_as_published_with_the_data(tmp_path):
    built = build_manifest("sts", REAL_STS, tmp_path / "sts.csv")
    cohort = read_manifest(built.path, LUNG_METASTASIS, spec=sts_spec())
    features = cohort_features(cohort, sts_spec())
    positive = np.array(cohort.labels) == 1
    # In sample: the figure itself is the score. SOURCES.md beside the data has these values.
    expected = {
        "pet_fdg_suv_max": 0.811,
        "pet_fdg_suv_mean": 0.671,
        "volume_ml": 0.692,
        "ct_mean_hu": 0.541,
    }
    for name, auc in expected.items():
        column = np.array([features[case.patient][name] for case in cohort.cases])
        assert binary_auc(positive, column)[0] == pytest.approx(auc, abs=0.03), name
