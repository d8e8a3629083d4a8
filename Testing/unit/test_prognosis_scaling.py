"""Scaling of clinical variables and radiomics: fitted on training patients, kept as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from REACTKDLib.errors import InputError, ModelPackageError, OptionError
from REACTKDLib.prognosis.scaling import PrognosisScaling
from REACTKDLib.prognosis.types import ClinicalSchema, PatientArrays, Variable
from training.prognosis.classical import TableColumns
from training.prognosis.scaling import ScalingSettings, fit_scaling

SCHEMA = ClinicalSchema(
    "generated",
    "Generated",
    (
        Variable("age", "Age", "number"),
        Variable("alt", "ALT", "number", logarithmic=True),
        Variable("hbv", "HBV", "flag"),
        Variable("stage", "Stage", "category", categories=("a", "b", "c")),
        Variable("never", "Never measured", "number"),
    ),
)
FEATURES = ("f_one", "f_copy", "f_constant", "f_noise", "f_negated")


def patients(n: int = 60, seed: int = 0) -> list[PatientArrays]:
    rng = np.random.default_rng(seed)
    clinical = np.column_stack(
        [
            rng.normal(60, 10, n),
            np.exp(rng.normal(3, 1, n)),
            rng.integers(0, 2, n),
            rng.integers(0, 3, n),
            np.full(n, np.nan),
        ]
    ).astype(float)
    clinical[::7, 0] = np.nan
    one, noise = rng.normal(size=(2, n))
    radiomics = np.column_stack([one, 100 * one + 3, np.full(n, 0.1), noise, -one + 1e-3 * noise])
    return [
        PatientArrays(clinical=c, radiomics=None if k % 5 == 0 else r)
        for k, (c, r) in enumerate(zip(clinical, radiomics, strict=True))
    ]


def labels(rows: list[PatientArrays]) -> list[int]:
    return [n % 2 for n in range(len(rows))]


def test_standard_scaling_is_that_of_scikit_learn_without_the_missing() -> None:
    rows = patients()
    scaling = fit_scaling(rows, labels(rows), SCHEMA, FEATURES, ScalingSettings(limit=100))
    values, there = scaling.clinical_inputs(rows)
    raw = np.array([row.clinical for row in rows])
    raw[:, 1] = np.log(raw[:, 1])
    expected = StandardScaler().fit_transform(raw[:, :4])  # it too passes NaN over
    np.testing.assert_array_equal(there, ~np.isnan(raw))
    np.testing.assert_allclose(values[:, :4], np.nan_to_num(expected), atol=1e-5)
    assert (values[:, 4] == 0).all()
    assert values.dtype == np.float32


def test_robust_scaling_ignores_an_outlier_and_limits_it() -> None:
    rows = patients()
    plain = fit_scaling(rows, labels(rows), SCHEMA, FEATURES, ScalingSettings(robust=True))
    assert rows[1].clinical is not None
    rows[1].clinical[0] = 1e6
    robust = fit_scaling(rows, labels(rows), SCHEMA, FEATURES, ScalingSettings(robust=True))
    assert plain.clinical is not None and robust.clinical is not None
    assert robust.clinical.centre[0] == pytest.approx(plain.clinical.centre[0], abs=1.5)
    assert robust.clinical.spread[0] == pytest.approx(plain.clinical.spread[0], rel=0.1)
    assert robust.clinical_inputs(rows)[0][1, 0] == 6
    # A rare flag has no interquartile range: the standard deviation scales it.
    for row in rows:
        row.clinical[2] = 0.0  # type: ignore[index]
    rows[0].clinical[2] = 1.0  # type: ignore[index]
    rare = fit_scaling(rows, labels(rows), SCHEMA, FEATURES, ScalingSettings(robust=True))
    assert rare.clinical is not None
    assert rare.clinical.spread[2] == pytest.approx(np.std(np.arange(60) == 0))


def test_constants_and_copies_go_the_first_stays() -> None:
    rows = patients()
    scaling = fit_scaling(rows, labels(rows), SCHEMA, FEATURES)
    assert scaling.radiomics is not None
    assert scaling.radiomics.kept == ("f_one", "f_noise")
    values, there = scaling.radiomics_inputs(rows)
    assert values.shape == (60, 2)
    assert not there[::5].any() and there[1:5].all()
    assert (values[::5] == 0).all()


def test_selection_takes_the_features_that_separate() -> None:
    rng = np.random.default_rng(1)
    y = np.arange(80) % 2
    table = rng.normal(size=(80, 12))
    table[:, 7] -= 2 * y
    table[:, 2] += 1.5 * y
    rows = [PatientArrays(radiomics=row) for row in table]
    names = tuple(f"f_{n}" for n in range(12))
    scaling = fit_scaling(rows, list(y), None, names, ScalingSettings(features=2))
    assert scaling.clinical is None
    assert scaling.radiomics is not None
    assert scaling.radiomics.kept == ("f_2", "f_7")
    with pytest.raises(InputError, match="0 of 80 training patients"):
        fit_scaling(rows, [0] * 80, None, names, ScalingSettings(features=2))


def test_other_patients_change_nothing() -> None:
    rows = patients()
    scaling = fit_scaling(rows[:40], labels(rows)[:40], SCHEMA, FEATURES)
    alone, _ = scaling.clinical_inputs(rows[40:41])
    together, _ = scaling.clinical_inputs(rows)
    np.testing.assert_array_equal(alone[0], together[40])
    whole = fit_scaling(rows, labels(rows), SCHEMA, FEATURES)
    assert whole != scaling  # the patients left out would have been seen


def test_a_package_keeps_the_scaling() -> None:
    rows = patients()
    scaling = fit_scaling(rows, labels(rows), SCHEMA, FEATURES)
    document = json.loads(json.dumps(scaling.as_json()))
    assert document == scaling.as_json()
    assert PrognosisScaling.from_json(document) == scaling
    assert PrognosisScaling.from_json({"clinical": None}) == PrognosisScaling()
    document["clinical"]["spread"][0] = 0.0
    with pytest.raises(ModelPackageError, match="does not fit its 5 names"):
        PrognosisScaling.from_json(document)
    with pytest.raises(ModelPackageError, match=r"scaling\.clinical"):
        PrognosisScaling.from_json({"clinical": {"names": 3}})


def test_what_cannot_be_scaled_is_refused() -> None:
    rows = patients()
    scaling = fit_scaling(rows, labels(rows), SCHEMA, FEATURES)
    bad = PatientArrays(clinical=np.array([50.0, 0.0, 1.0, 0.0, np.nan]))
    with pytest.raises(InputError, match="alt is 0; its logarithm"):
        scaling.clinical_inputs([bad])
    with pytest.raises(InputError, match="4 clinical variables; the model knows 5"):
        scaling.clinical_inputs([PatientArrays(clinical=np.zeros(4))])
    with pytest.raises(InputError, match="trained without this kind"):
        PrognosisScaling().radiomics_inputs(rows)
    with pytest.raises(OptionError, match="not possible"):
        ScalingSettings(correlation=0)
    with pytest.raises(InputError, match="No patient"):
        fit_scaling([], [], SCHEMA, FEATURES)


def test_a_table_without_gaps_imputes_by_the_training_rows() -> None:
    rows = patients()
    scaling = fit_scaling(rows, labels(rows), SCHEMA, FEATURES)
    table = TableColumns.fit(scaling, ("clinical", "radiomics"), rows)
    values = table.apply(rows)
    # age and its gap, alt, hbv, three stages, never measured; two features and their gap.
    assert values.shape == (60, 2 + 1 + 1 + 3 + 1 + 3)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-9)
    spread = values.std(axis=0)
    assert spread == pytest.approx(np.where(np.arange(11) == 7, 0, 1))  # never measured: constant
    missing = np.isnan([row.clinical[0] for row in rows])  # type: ignore[index]
    ages = values[:, 0]
    assert len(set(ages[missing])) == 1
    assert ages[missing][0] == pytest.approx(np.median(ages[~missing]))
    assert len(set(values[missing, 1])) == 1 and values[missing, 1][0] > 0
    with pytest.raises(InputError, match="No training patient has radiomics"):
        TableColumns.fit(PrognosisScaling(scaling.clinical), ("radiomics",), rows)
