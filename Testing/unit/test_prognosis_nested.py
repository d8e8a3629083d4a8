"""Nested cross-validation: nothing of a test patient is ever seen, and it finds what is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.prognosis.types import ClinicalSchema, PatientArrays, Variable
from training.__main__ import main
from training.evaluation.discrimination import binary_auc
from training.evaluation.results import read_results
from training.prognosis.cohort import UNKNOWN, PrognosisCase, PrognosisCohort
from training.prognosis.methods import METHODS, Context, make_method
from training.prognosis.nested import NestedSplit, NestedStudy, nested_split, run_fold
from training.prognosis.report import write_prognosis_study
from training.prognosis.results import METRICS, prognosis_results, prognosis_table
from training.prognosis.scaling import ScalingSettings
from training.prognosis.settings import PrognosisConfiguration, read_prognosis_study

SCHEMA = ClinicalSchema(
    "generated", "Generated", tuple(Variable(f"v{n}", f"V{n}", "number") for n in range(4))
)
CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs" / "prognosis"


def cohort(
    n: int = 80, effect: float = 0.0, seed: int = 0, simulated: bool = False, groups: bool = False
) -> PrognosisCohort:
    """Patients whose first variable decides if ``effect`` is large; 10 % of values are missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4))
    y = rng.permutation(np.arange(n) % 2)
    values[:, 0] += effect * y
    values[:, 1:][rng.random((n, 3)) < 0.1] = np.nan
    cases = tuple(
        PrognosisCase(
            f"P{k:03d}", int(y[k]), PatientArrays(values[k]), f"G{k // 2}" if groups else ""
        )
        for k in range(n)
    )
    return PrognosisCohort("generated", cases, "event", simulated, SCHEMA)


def context(inner: int = 3) -> Context:
    return Context(SCHEMA, (), ScalingSettings(), inner)


def ridge() -> Any:
    return make_method("ridge", {"inputs": ["clinical"]}, context())


def configuration(folder: Path, **changes: Any) -> PrognosisConfiguration:
    document = {
        "name": "generated",
        "title": "Generated",
        "hcc_table": "none",
        "folds": 3,
        "inner_parts": 3,
        "references": ["flat"],
        "methods": {
            "ridge": {"kind": "ridge", "seeds": [0, 1], "settings": {"inputs": ["clinical"]}},
            "flat": {"kind": "flat"},
        },
        **changes,
    }
    path = folder / "study.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_prognosis_study(path)


@dataclass(frozen=True)
class Flat:
    """The training part's log odds for everybody; counts its trainings."""

    trainings: list[int]
    details: Mapping[str, Any]

    def fit(
        self, train: Sequence[PrognosisCase], selection: Sequence[PrognosisCase], seed: int
    ) -> Flat:
        self.trainings.append(len(train))
        return replace(self, details={"share": float(np.mean([c.label for c in train]))})

    def predict_logit(self, patients: Sequence[PrognosisCase]) -> np.ndarray:
        assert {case.label for case in patients} == {UNKNOWN}
        return np.full(len(patients), np.log(self.details["share"] / (1 - self.details["share"])))


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    trainings: list[int] = []
    monkeypatch.setitem(METHODS, "flat", lambda settings, context: Flat(trainings, {}))
    return trainings


def test_every_patient_is_tested_once_in_a_repeat_and_groups_stay_whole() -> None:
    own = cohort(groups=True)
    everybody = list(range(80))
    for repeat in range(2):
        tested: list[int] = []
        for fold in range(5):
            s = nested_split(own.units, own.labels, 5, 4, 42, 5 * repeat + fold)
            parts = [set(p) for p in (s.train, s.selection, s.test)]
            assert sorted(set.union(*parts)) == everybody
            assert sum(map(len, parts)) == 80
            groups = [{own.units[n] for n in part} for part in parts]
            assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
            for part in parts:
                assert 0.3 < np.mean([own.labels[n] for n in part]) < 0.7
            tested += s.test
        assert sorted(tested) == everybody
    first, second = (nested_split(own.units, own.labels, 5, 4, 42, f) for f in (0, 5))
    assert first != second
    assert first == nested_split(own.units, own.labels, 5, 4, 42, 0)
    assert first != nested_split(own.units, own.labels, 5, 4, 43, 0)


@pytest.mark.parametrize("kind", ["ridge", "lasso", "boosting"])
def test_outcomes_of_test_patients_change_no_prediction(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.prognosis.classical._TREES", 12)
    own = cohort(60, effect=1.0)
    split = nested_split(own.units, own.labels, 3, 3, 0, 0)
    method = make_method(kind, {"inputs": ["clinical"]}, context())
    expected, chosen = run_fold(method, own.cases, split, 0)
    turned = [
        replace(case, label=1 - case.label) if n in split.test else case
        for n, case in enumerate(own.cases)
    ]
    assert run_fold(method, turned, split, 0) == (expected, chosen)
    # The same turn on the other side is seen: the test above could fail.
    turned = [
        replace(case, label=1 - case.label) if n in split.selection else case
        for n, case in enumerate(own.cases)
    ]
    assert run_fold(method, turned, split, 0)[0] != expected


def test_values_of_test_patients_scale_nothing() -> None:
    own = cohort(60, effect=1.0)
    split = nested_split(own.units, own.labels, 3, 3, 0, 0)
    expected, _ = run_fold(ridge(), own.cases, split, 0)
    kept, moved = split.test[0], set(split.test[1:])
    far = [
        replace(case, arrays=PatientArrays(np.full(4, 1e3))) if n in moved else case
        for n, case in enumerate(own.cases)
    ]
    # A scaling over all patients would squeeze those that train, and this one.
    found, _ = run_fold(ridge(), far, split, 0)
    name = own.cases[kept].patient
    assert found[name] == expected[name]
    leaking = NestedSplit(tuple(sorted({*split.train, *moved})), split.selection, split.test)
    assert run_fold(ridge(), far, leaking, 0)[0][name] != expected[name]


@pytest.mark.parametrize(("effect", "low", "high"), [(6.0, 0.99, 1.0), (0.0, 0.3, 0.7)])
@pytest.mark.parametrize("kind", ["ridge", "lasso", "boosting"])
def test_a_deciding_variable_is_found_and_noise_is_not(
    kind: str, effect: float, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.prognosis.classical._TREES", 12)
    monkeypatch.setattr("training.prognosis.classical.LEAVES", (2,))
    monkeypatch.setattr("training.prognosis.classical.PENALTIES", (0.01, 0.1, 1.0))
    own = cohort(120, effect, seed=3)
    method = make_method(kind, {"inputs": ["clinical"]}, context())
    logits: dict[str, float] = {}
    for fold in range(3):
        split = nested_split(own.units, own.labels, 3, 3, 0, fold)
        logits |= run_fold(method, own.cases, split, 0)[0]
    scores = np.array([logits[case.patient] for case in own.cases])
    auc = float(binary_auc(np.array(own.labels) == 1, scores)[0])
    assert low <= auc <= high


def test_a_method_must_answer_for_every_patient() -> None:
    class Wrong:
        details: Mapping[str, Any] = {}

        def fit(self, train: Any, selection: Any, seed: int) -> Wrong:
            return self

        def predict_logit(self, patients: Sequence[PrognosisCase]) -> np.ndarray:
            return np.full(len(patients), np.nan)

    own = cohort(30)
    split = nested_split(own.units, own.labels, 3, 3, 0, 0)
    with pytest.raises(InputError, match=r"shape \(10,\), 0 of them finite"):
        run_fold(Wrong(), own.cases, split, 0)


def test_units_resume_and_know_their_configuration_and_data(
    tmp_path: Path, flat: list[int]
) -> None:
    own = cohort()
    study = NestedStudy(configuration(tmp_path), own, tmp_path / "work", tmp_path / "results")
    units = list(study.units())
    assert len(units) == 3 * 3
    assert [u.method for u in units[:2]] == ["ridge", "flat"]  # compared early
    for unit in units:
        study.run(unit)
    trained = len(flat)
    assert trained == 3
    again = NestedStudy(configuration(tmp_path), own, tmp_path / "work", tmp_path / "results")
    assert [again.run(unit) for unit in units] == [study.run(unit) for unit in units]
    assert len(flat) == trained
    # More repeats are more units, not others.
    repeats = NestedStudy(
        configuration(tmp_path, repeats=2), own, tmp_path / "work", tmp_path / "results"
    )
    assert sum(repeats.result_of(u) is not None for u in repeats.units()) == 9
    for changed in (
        NestedStudy(configuration(tmp_path, seed=7), own, tmp_path / "work", tmp_path),
        NestedStudy(configuration(tmp_path), cohort(seed=1), tmp_path / "work", tmp_path),
    ):
        assert all(changed.result_of(unit) is None for unit in changed.units())
    folds = json.loads(study.write_folds().read_text())
    assert folds["seed"] == 42
    assert sorted(folds["folds"]["0"]["test"]) == sorted(study.run(units[0])["logits"])


@pytest.mark.parametrize("simulated", [True, False])
def test_results_hold_no_patient_unless_simulated(
    tmp_path: Path, flat: list[int], simulated: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    own = cohort(effect=1.0, simulated=simulated)
    results = tmp_path / "results"
    study = NestedStudy(configuration(tmp_path), own, tmp_path / "work", results)
    for unit in study.units():
        study.run(unit)
    study.write_folds()
    written = write_prognosis_study(study, repeats=200)
    assert read_results(results / "results.json") == written
    texts = [path.read_text(encoding="utf-8") for path in results.rglob("*") if path.is_file()]
    assert any("P007" in text for text in texts) == simulated
    assert (results / "units").exists() == simulated
    report = (results / "report.html").read_text(encoding="utf-8")
    assert "published figures of another cohort (n = 184)" in report
    assert ("Simulated data" in report) == simulated
    assert "| ridge | 0." in capsys.readouterr().out

    rows = {(row.method, row.metric): row for row in written.rows}
    # By hand: a run's folds pooled, the mean of two seeds.
    labels = np.array(own.labels)
    values = []
    for seed in (0, 1):
        logits: dict[str, float] = {}
        for unit in study.units(["ridge"]):
            if unit.seed == seed:
                logits |= study.run(unit)["logits"]
        scores = np.array([logits[case.patient] for case in own.cases])
        values.append(binary_auc(labels == 1, scores)[0])
    row = rows["ridge", "AUROC"]
    assert row.value == pytest.approx(np.mean(values))
    assert (row.n, row.seeds) == (80, (0, 1))
    assert row.low < row.value < row.high
    assert {m for name, m in rows if name == "ridge"} >= set(METRICS)
    gain = rows["ridge", "AUROC, gain over flat"]
    assert gain.value == pytest.approx(row.value - rows["flat", "AUROC"].value)
    assert any(
        m.startswith("AUROC of the mean probability, gain over flat (DeLong p") for _, m in rows
    )
    assert ("flat", "calibration slope") not in rows or rows["flat", "calibration slope"].n == 80


def test_a_run_counts_once_all_its_folds_are_there(tmp_path: Path, flat: list[int]) -> None:
    study = NestedStudy(configuration(tmp_path), cohort(), tmp_path / "work", tmp_path / "r")
    for unit in list(study.units(["flat"]))[:2]:
        study.run(unit)
    assert study.runs() == {}
    assert prognosis_results(study).rows == ()
    for unit in study.units(["flat"]):
        study.run(unit)
    assert study.runs()["flat"].shape == (1, 80, 2)
    with pytest.raises(OptionError, match="no methods"):
        list(study.units(["none"]))


def test_the_table_shows_published_figures_apart() -> None:
    from training.evaluation.results import Results, Row

    row = Row("ridge", "c", None, "AUROC", 0.7, 0.6, 0.8, 50, (0,))
    lines = prognosis_table(Results((row,), True)).splitlines()
    assert "simulated data" in lines[0]
    assert "0.700 (0.600 to 0.800)" in lines[2]
    assert lines[3].startswith("| published figures of another cohort (n = 184) | 0.822")


@pytest.mark.parametrize("name", ["hcc_survival", "sts", "simulated"])
def test_shipped_configurations_are_valid(name: str) -> None:
    configuration = read_prognosis_study(CONFIGS / f"{name}.json")
    settings = configuration.settings
    context = Context(SCHEMA, ("f_a",), settings.scaling, settings.inner_parts)
    for title, method in settings.methods.items():
        make_method(method.kind, configuration.method_settings(title), context)
    if name == "simulated":
        compared = {n for n, m in settings.methods.items() if len(m.seeds) == 3}
        assert {"TMI-CLNet", "CT and radiomics", "clinical and radiomics", "radiomics"} < compared


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "two folds"),
        ({"references": ["other"]}, "references"),
        ({"methods": {}, "references": []}, "no method"),
        ({"methods": {"a": {"kind": "ridge", "seeds": [1, 1]}}, "references": []}, "seeds"),
        ({"methods": {"a": {"kind": "flat"}, "A": {"kind": "flat"}}, "references": []}, "names"),
        ({"simulated": {"count": 3, "seed": 0}}, "give one of"),
        ({"epochs": 3}, "unknown fields"),
    ],
)
def test_impossible_configurations_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        configuration(tmp_path, **changes)


def test_impossible_methods_are_refused() -> None:
    with pytest.raises(OptionError, match="No kind of method 'forest'"):
        make_method("forest", {}, context())
    with pytest.raises(OptionError, match="unknown fields"):
        make_method("ridge", {"inputs": ["clinical"], "depth": 3}, context())
    with pytest.raises(OptionError, match="cannot read"):
        make_method("ridge", {"inputs": ["ct"]}, context())


def test_the_command_runs_in_parts(
    tmp_path: Path, flat: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "hcc-data.txt"
    rng = np.random.default_rng(0)
    lines = []
    for n in range(40):
        numbers = [str(v) for v in (60, 0, 0, 1, 1, 2, *rng.integers(2, 8, 20))]
        flags = [str(v) for v in rng.integers(0, 2, 23)]
        lines.append(",".join((*flags, *numbers, str(n % 2))))
    table.write_text("\n".join(lines), encoding="ascii")
    configuration(tmp_path, hcc_table="hcc-data.txt", methods={"flat": {"kind": "flat"}})
    options = ["--config", str(tmp_path / "study.json"), "--work", str(tmp_path / "work")]
    options += ["--results", str(tmp_path / "results")]
    assert main(["prognosis-run", *options, "--part", "2/2"]) == 0
    assert len(flat) == 1
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:generated -->\n<!-- /results:generated -->\n")
    assert main(["prognosis-reproduce", *options, "--readme", str(readme)]) == 0
    assert len(flat) == 3
    assert "| flat | 0.5" in readme.read_text() or "| flat | 0.4" in readme.read_text()
    assert "3 of 3 trainings are finished" in capsys.readouterr().out
    assert main(["prognosis-run", *options, "--method", "none"]) == 2
