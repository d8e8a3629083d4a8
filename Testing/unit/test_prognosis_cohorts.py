"""Patients of a prognosis study: the public table, manifests, and the simulated cohort."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantoms import grid_around

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.geometry import image_from_array
from REACTKDLib.prognosis.clinical_arrays import to_array
from REACTKDLib.prognosis.clinical_input import check_record
from REACTKDLib.prognosis.schema import load_schema
from REACTKDLib.prognosis.types import PatientArrays, RadiomicsFeatures
from REACTKDLib.types import Study
from training.cohort import sample_case_parameters, simulate_cohort_case
from training.evaluation.discrimination import binary_auc
from training.manifest_file import ManifestError
from training.prognosis import simulated_cases
from training.prognosis.cohort import PrognosisCase, PrognosisCohort, modalities_of
from training.prognosis.features import measure_radiomics, radiomics_of
from training.prognosis.hcc_table import hcc_schema, not_in_unit, read_hcc_table
from training.prognosis.listed import listed_cohort, simulated_cohort
from training.prognosis.settings import ListedPatients, SimulatedPatients
from training.prognosis.sight_check import sight
from training.prognosis.simulated import (
    BASE,
    EFFECTS,
    attainable,
    latents_of,
    simulate_outcome,
)
from training.prognosis.simulated_variables import MARKERS, function_given, simulated_schema

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
#: Real data lie beside the repository where there are any; they are no part of it.
REAL_TABLE = CONFIGS.parents[2] / "shared" / "data" / "tables" / "hcc-data.txt"
FLAGS = ["1"] * 23
NUMBERS = "67,137,15,0,1,1,1.53,95,13.7,106.6,4.9,99,3.4,2.1,34,41,183,150,7.1,0.7,1,3.5,0.5"
OUTCOMES = [simulate_outcome(index, 20260) for index in range(240)]


def line(last: str = "?,?,?", flags: list[str] = FLAGS, label: str = "1") -> str:
    return ",".join((*flags, NUMBERS, last, label))


def table(folder: Path, *lines: str) -> Path:
    path = folder / "hcc-data.txt"
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def test_the_table_is_read_as_it_is_written(tmp_path: Path) -> None:
    strange = line("0,126,0", ["0", *FLAGS[1:-1], "?"], "0").replace(",99,", ",193000,")
    cohort = read_hcc_table(table(tmp_path, line(), strange))
    assert cohort.labels == (0, 1)  # the event is death, the table's 0
    assert [case.patient for case in cohort.cases] == ["line-001", "line-002"]
    values = {}
    for case in cohort.cases:
        assert case.arrays.clinical is not None
        values[case.patient] = dict(zip(hcc_schema().names, case.arrays.clinical, strict=True))
    first, second = values.values()
    assert (first["age"], first["inr"], first["bilirubin_direct"]) == (67, 1.53, 0.5)
    assert np.isnan([first["iron"], first["ferritin"], second["radiological_hallmark"]]).all()
    assert (first["sex"], second["sex"]) == (1, 0)  # male, female
    assert (first["performance_status"], first["encephalopathy"]) == (0, 0)  # codes 0 and 1
    assert (second["platelets"], second["iron"]) == (193000, 0)  # nothing is changed
    assert not_in_unit(cohort.cases) == {"platelets": 1, "iron": 1, "ferritin": 1}
    assert "platelets 1" in "".join(cohort.notes.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (line()[2:], "line 2 has 49 cells, not 50"),
        (line(label="?"), r"line 2: the class is '\?'"),
        (line(flags=["2", *FLAGS[1:]]), "sex has no code '2'"),
        (line(flags=["1", "2", *FLAGS[2:]]), "symptoms is 2, not 0 or 1"),
        (line("a,1,1"), "iron is 'a', no number"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, wrong: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_hcc_table(table(tmp_path, line(), wrong))
    with pytest.raises(InputError, match="cannot be read"):
        read_hcc_table(tmp_path / "none.txt")


@pytest.mark.real
@pytest.mark.skipif(not REAL_TABLE.is_file(), reason=f"no table {REAL_TABLE}")
def test_the_real_table_is_as_its_description_says() -> None:
    cohort = read_hcc_table(REAL_TABLE)
    assert (len(cohort.cases), sum(cohort.labels)) == (165, 63)
    assert cohort.notes["missing values"] == "10.22%; 8 patients have none"
    assert not_in_unit(cohort.cases)["platelets"] == 115


def manifest(folder: Path, text: str) -> ListedPatients:
    (folder / "patients.csv").write_text(text, encoding="utf-8")
    return ListedPatients("patients.csv", "decompensation", labels={"event": ("decompensated",)})


def test_a_manifest_may_lack_everything_but_patient_and_label(tmp_path: Path) -> None:
    schema = load_schema("chronic_liver_58")
    settings = manifest(
        tmp_path,
        "patient,group,label,text,clinical_albumin [g/dl],clinical_sex,clinical_hbv\n"
        "A,north,0,,4.1,m,yes\nB,north,decompensated,ascites since May,,,\nC,,yes,,,female,\n",
    )
    cohort = listed_cohort(settings, tmp_path, tmp_path / "work", schema)
    assert cohort.labels == (0, 1, 1)
    assert cohort.units == ("group north", "group north", "patient C")
    assert cohort.event == "decompensation" and not cohort.simulated
    first, second, third = (case.arrays for case in cohort.cases)
    names = schema.names
    assert first.clinical is not None and third.clinical is not None
    assert first.clinical[names.index("albumin")] == pytest.approx(41)  # g/l
    assert first.clinical[names.index("sex")] == 1
    assert np.isnan(third.clinical).sum() == 57
    assert second.clinical is None and second.text == "ascites since May"
    assert [modalities_of(a) for a in (first, second)] == [("clinical",)] * 2


def test_every_problem_of_a_manifest_is_listed(tmp_path: Path) -> None:
    settings = manifest(
        tmp_path,
        "patient,label,segmentation,clinical_albumin,clinical_magic,colour\n"
        "A,0,a.nii.gz,41,,\nB,perhaps,,4.1,,\nB,1,,40,3,\n",
    )
    with pytest.raises(ManifestError) as caught:
        listed_cohort(settings, tmp_path, tmp_path, load_schema("chronic_liver_58"))
    problems = "\n".join(caught.value.problems)
    for text in (
        "unknown column 'colour'",
        "there is segmentation without a ct",
        "'perhaps' is no class",
        "patient B is there 2 times",
        "albumin",
        "magic",
    ):
        assert text in problems, text
    assert "the ct is missing" not in problems


def test_images_and_radiomics_of_a_manifest(tmp_path: Path, inline: None) -> None:
    import SimpleITK

    grid = grid_around((0.0, 0.0, 0.0), (24, 22, 12), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    rng = np.random.default_rng(0)
    for patient in "AB":
        hu = rng.normal(60, 20, grid.array_shape).astype(np.int16)
        mask = np.zeros(grid.array_shape, np.uint8)
        mask[3:9, 5:17, 6:18] = 1
        hu[mask == 0] -= 160  # fat
        for name, array in (("ct", hu), ("mask", mask)):
            file = tmp_path / f"{patient}_{name}.nii.gz"
            SimpleITK.WriteImage(image_from_array(array, grid), str(file))
    (tmp_path / "patients.csv").write_text(
        "patient,label,ct,mask_lesion\nA,0,A_ct.nii.gz,A_mask.nii.gz\n"
        "B,1,B_ct.nii.gz,B_mask.nii.gz\nC,1,,\n",
        encoding="utf-8",
    )
    settings = ListedPatients(
        "patients.csv",
        "metastasis",
        spec=str(CONFIGS / "sts_lung_metastasis.json"),
        radiomics="plain figures",
        roles=("lesion",),
    )
    cohort = listed_cohort(settings, tmp_path, tmp_path / "work", workers=1)
    first, second, third = (case.arrays for case in cohort.cases)
    assert cohort.radiomics[0] == "plain_volume_ml"
    assert first.radiomics is not None and second.radiomics is not None
    assert first.radiomics[0] == pytest.approx(6 * 12 * 12 * 12 / 1000)
    assert first.radiomics[1] != second.radiomics[1]
    assert first.ct is not None and first.roi is not None
    assert first.ct.dtype == np.float32 and first.ct.shape == first.roi.shape
    assert modalities_of(first) == ("ct", "radiomics")
    assert modalities_of(third) == ()


class Measured:
    """Radiomics of three figures; counts what it measures in a file, for other processes."""

    settings = "three"

    def __call__(self, study: Study, roles: object) -> RadiomicsFeatures:
        return RadiomicsFeatures({"a": 1.0, "b": float("nan"), "c": 3.0}, self.settings)


def no_study() -> Study:
    return None  # type: ignore[return-value]


class Inline:
    """A pool of processes without processes."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, function, jobs):
        return map(function, jobs)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("training.prognosis.features", "training.prepare"):
        monkeypatch.setattr(f"{module}.ProcessPoolExecutor", Inline)


def test_radiomics_are_measured_once(tmp_path: Path, inline: None) -> None:
    names, values = measure_radiomics({"P": no_study}, Measured(), ("liver",), tmp_path)
    assert names == ("a", "b", "c")
    np.testing.assert_array_equal(values["P"], [1, np.nan, 3])
    file = next(tmp_path.iterdir())
    file.write_text(json.dumps({"a": 5.0, "b": None, "c": 3.0}))
    again = measure_radiomics({"P": no_study}, Measured(), ("liver",), tmp_path)[1]
    assert again["P"][0] == 5  # kept
    other = measure_radiomics({"P": no_study}, Measured(), ("lesion",), tmp_path)[1]
    assert other["P"][0] == 1  # other roles are other figures
    file.write_text(json.dumps({"a": 5.0}))
    with pytest.raises(InputError, match="Q has 3 radiomics features"):
        measure_radiomics({"P": no_study, "Q": no_study}, Measured(), ("liver",), tmp_path)


def test_radiomics_by_name_or_file(tmp_path: Path) -> None:
    (tmp_path / "few.json").write_text('{"image_types": ["original"]}')
    assert radiomics_of("full", tmp_path).settings != radiomics_of("few.json", tmp_path).settings
    with pytest.raises(OptionError, match="No radiomics 'none'"):
        radiomics_of("none", tmp_path)


def test_an_impossible_cohort_is_refused() -> None:
    def cohort(*cases: PrognosisCase) -> PrognosisCohort:
        return PrognosisCohort("generated", cases, "event", False, None, ("f",))

    one, other = (PrognosisCase(p, y, PatientArrays()) for p, y in (("A", 0), ("B", 1)))
    assert cohort(one, other).fingerprint != cohort(one, replace(other, group="g")).fingerprint
    with pytest.raises(InputError, match="'A' is there more than once"):
        cohort(one, other, one)
    with pytest.raises(InputError, match=r"outcomes \[0\]"):
        cohort(one)
    wrong = replace(other, arrays=PatientArrays(radiomics=np.zeros(2)))
    with pytest.raises(InputError, match=r"radiomics values of the shape \(2,\)"):
        cohort(one, wrong)


def test_a_simulated_outcome_is_frozen() -> None:
    """Results of a study are of these: whatever changes them needs another seed and study."""
    first = OUTCOMES[7]
    assert first.latents == pytest.approx(
        {
            "function": 1.560997523,
            "parenchyma": -1.636253235,
            "tumour": -0.013316006,
        },
        abs=1e-6,
    )
    assert (first.label, len(first.record.values)) == (0, 45)
    assert first.record.values["albumin"] == 34.47
    again = simulate_outcome(7, 20260)
    assert (again.record, again.label) == (first.record, first.label)
    assert simulate_outcome(7, 20261).record != first.record
    truth = json.loads(json.dumps(first.truth))
    assert truth["simulated"] is True
    assert truth["logit"] == pytest.approx(
        BASE + sum(EFFECTS[name] * value for name, value in truth["latents"].items())
    )


def test_the_images_decide_two_of_the_latents() -> None:
    parameters = sample_case_parameters("internal", 7, 20260)
    assert latents_of(parameters)["tumour"] == OUTCOMES[7].latents["tumour"]
    lesion = parameters.lesions[0]
    larger = replace(lesion, radii_mm=tuple(1.2 * r for r in lesion.radii_mm))
    grown = latents_of(replace(parameters, lesions=(larger, *parameters.lesions[1:])))
    sick = latents_of(replace(parameters, cirrhosis=1.0))
    plain = latents_of(parameters)
    assert grown["tumour"] > plain["tumour"] and grown["parenchyma"] == plain["parenchyma"]
    assert sick["parenchyma"] > plain["parenchyma"] and sick["tumour"] == plain["tumour"]


def test_latents_are_standard_and_apart() -> None:
    table = np.array([[o.latents[name] for name in EFFECTS] for o in OUTCOMES])
    assert np.abs(table.mean(axis=0)).max() < 0.2
    np.testing.assert_allclose(table.std(axis=0), 1, atol=0.12)
    assert np.abs(np.corrcoef(table.T) - np.eye(3)).max() < 0.15
    assert 0.3 < np.mean([o.label for o in OUTCOMES]) < 0.55


def test_simulated_records_pass_every_check_of_real_ones() -> None:
    schema = simulated_schema()
    for outcome in OUTCOMES[:120]:
        record = check_record(schema, outcome.record.values)
        assert dict(record.values) == dict(outcome.record.values)
        assert {notice.code for notice in record.notices} <= {"unit_assumed"}
        np.testing.assert_array_equal(to_array(schema, record), to_array(schema, outcome.record))


def test_gaps_are_of_three_kinds() -> None:
    records = [o.record.values for o in OUTCOMES]

    def rate(name: str, chosen: list) -> float:
        return float(np.mean([name in values for values in chosen]))

    assert rate("age", records) == rate("sex", records) == 1
    assert 0.85 < rate("albumin", records) < 1
    lipids = [("hdl" in v, "ldl" in v) for v in records]
    assert np.mean([a == b for a, b in lipids]) > 0.9 and 0.55 < rate("hdl", records) < 0.8
    high = [v for v in records if float(v.get("bilirubin_total", 0)) > 34]
    low = [v for v in records if 0 < float(v.get("bilirubin_total", 0)) <= 34]
    assert rate("bilirubin_direct", high) > rate("bilirubin_direct", low) + 0.15
    assert rate("bile_acid", high) > rate("bile_acid", low) + 0.15
    assert not any("bilirubin_direct" in v and "bilirubin_total" not in v for v in records)


def test_bayes_rule_gives_function_as_sure_as_it_says() -> None:
    given = np.array([function_given(o.record) for o in OUTCOMES])
    truth = np.array([o.latents["function"] for o in OUTCOMES])
    assert np.corrcoef(given[:, 0], truth)[0, 1] > 0.8
    assert np.mean((given[:, 0] - truth) ** 2 / given[:, 1]) == pytest.approx(1, abs=0.25)
    nothing = replace(OUTCOMES[0].record, values={})
    assert function_given(nothing) == (0.0, 1.0)
    # By regression: no linear combination of complete markers does better.
    name = "albumin"
    alone = replace(OUTCOMES[0].record, values={name: MARKERS[name].middle - MARKERS[name].spread})
    mean, variance = function_given(alone)
    assert (mean, variance) == pytest.approx((0.7, 1 - 0.7**2))


def test_every_modality_adds_and_the_bound_is_the_truths() -> None:
    found = attainable(OUTCOMES)
    assert len(found) == 7
    for names, figures in found.items():
        assert figures["as measured"] <= figures["latents"] + 0.01
        for more, better in found.items():
            if set(names) < set(more):
                assert better["latents"] > figures["latents"] + 0.02, (names, more)
    labels = np.array([o.label for o in OUTCOMES]) == 1
    logits = np.array([o.logit for o in OUTCOMES])
    everything = found["ct", "clinical", "radiomics"]
    assert everything["latents"] == pytest.approx(float(binary_auc(labels, logits)[0]))
    tumour = np.array([o.latents["tumour"] for o in OUTCOMES])
    assert found["ct",]["latents"] == pytest.approx(float(binary_auc(labels, tumour)[0]))


def test_simulated_patients_without_images(tmp_path: Path) -> None:
    cohort = simulated_cohort(SimulatedPatients(12, 20260), tmp_path, tmp_path)
    assert cohort.simulated and "simulated" in cohort.name and "simulated" in cohort.event
    assert cohort.labels == tuple(o.label for o in OUTCOMES[:12])
    assert all("simulated" in case.patient for case in cohort.cases)
    assert modalities_of(cohort.cases[0].arrays) == ("clinical",)


def test_the_ct_is_that_of_the_frozen_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = sample_case_parameters("internal", 7, 20260)
    whole = simulate_cohort_case(parameters, "internal", 7, 20260)
    study = simulated_cases.simulated_study(7, 20260)
    np.testing.assert_array_equal(study.ct.array, whole.ct.array)
    assert set(study.volumes) == {"ct"}

    asked = []

    def simulated(index: int, seed: int) -> Study:
        asked.append((index, seed))
        return study

    monkeypatch.setattr(simulated_cases, "simulated_study", simulated)
    spec = str(CONFIGS / "prognosis" / "liver_ct.json")
    settings = SimulatedPatients(6, 20260, spec, "plain figures", ("liver",))
    cohort = simulated_cohort(settings, tmp_path, tmp_path, workers=1)
    assert asked == [(index, 20260) for index in range(6)]
    again = simulated_cohort(settings, tmp_path, tmp_path, workers=1)
    assert len(asked) == 6  # kept
    assert again.fingerprint == cohort.fingerprint
    other = replace(settings, roles=("lesion",))
    assert simulated_cohort(other, tmp_path, tmp_path, 1).fingerprint != cohort.fingerprint
    case = cohort.cases[1]
    arrays = case.arrays
    assert modalities_of(arrays) == ("ct", "clinical", "radiomics")
    assert arrays.ct is not None and arrays.roi is not None and case.lesion is not None
    assert arrays.ct.shape == arrays.roi.shape == case.lesion.shape
    assert all(n % 4 == 1 for n in arrays.ct.shape)  # whole cells of the network's feature map
    assert arrays.radiomics is not None and case.statistics is not None
    # Less the lesions, which the radiomics leave out.
    assert 0.7 < arrays.radiomics[0] / parameters.liver_volume_ml < 1.05
    assert case.statistics.volume_ml > arrays.radiomics[0]
    voxel_ml = 8**3 / 1000
    assert case.lesion.sum() * voxel_ml == pytest.approx(
        case.statistics.volume_ml - arrays.radiomics[0], rel=0.2
    )


def test_sight_finds_what_figures_hold_and_no_more() -> None:
    rng = np.random.default_rng(0)
    latent, figures = rng.normal(size=200), rng.normal(size=(200, 4))
    assert sight(figures, latent) < 0.05
    figures[:, 2] = 30 * (latent + rng.normal(size=200))  # half of its variance is noise
    assert sight(figures, latent) == pytest.approx(0.5, abs=0.12)
