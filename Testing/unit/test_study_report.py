"""Rows, tables and figures of a study, from invented logits: nothing is trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from training_cases import synthetic_case

from REACTKDLib.errors import InputError
from REACTKDLib.networks.student import Student
from training.aggregate import CT
from training.evaluation import bootstrap, comparison
from training.evaluation.bootstrap import draw_weights
from training.evaluation.comparison import delong_test
from training.evaluation.results import Results, read_results
from training.readme_table import update_readme
from training.study import Study
from training.study_attention import _on_voxels, attention_panels
from training.study_checklists import checklist_answers
from training.study_configuration import read_study
from training.study_figures import _shown, study_figures
from training.study_report import report_content, write_study
from training.study_results import CHANCE, study_results
from training.study_runs import finished_runs, folds_of, labels_of
from training.study_tables import delong_rows, readme_table

STUDIES = Path(__file__).resolve().parents[2] / "training" / "configs" / "studies"
CPU = torch.device("cpu")
METHODS = {
    name: {"distillation": "none", "teachers": [], "seeds": [0, 1]}
    for name in ("no distillation", "KD", "REACT-KD")
}
SKILL = {"no distillation": 0.5, "KD": 1.0, "REACT-KD": 1.6}
EVALUATE = ("ct", "pet_fdg", "ct+pet_fdg", "pet_fdg+pet_acetate")


def cases(cohort: str, count: int, classes: int) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(patient=name, unit=name, label=n % classes, responsible=None)
        for n, name in enumerate(f"{cohort}-{n:03d}" for n in range(count))
    ]


def invented_study(folder: Path, *, classes: int = 3, **changes) -> Study:
    """A study whose cases have only a name and a class; no unit is finished."""
    document = json.loads((STUDIES / "smoke.json").read_text())
    spec = json.loads((STUDIES / document["spec"]).read_text())["spec"]
    document |= {"folds": 3, "evaluate": list(EVALUATE), "methods": METHODS} | changes
    document["spec"] = spec | {"classes": spec["classes"][:classes]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(document))
    configuration = read_study(folder / "study.json")
    study = Study(configuration, folder / "work", folder / "results", CPU)
    counts = study.settings.simulated
    study.__dict__["internal"] = cases("internal", counts.internal, classes)
    study.__dict__["external"] = cases("external", counts.external, classes)
    return study


def invent(study: Study, *, leave_out=lambda unit: False, channels: int = 8) -> None:
    """Write a document of every unit, with logits that know the class by the method's skill."""
    folder = study.results / "units"
    folder.mkdir(parents=True, exist_ok=True)
    count = len(study.spec.classes)
    for number, unit in enumerate(study.units()):
        if leave_out(unit):
            continue
        rng = np.random.default_rng(number)
        skill = SKILL.get(unit.method, 1.2)

        def logits(those, share=1.0, skill=skill, rng=rng):
            found = {}
            for case in those:
                values = rng.normal(size=count) + share * skill * np.eye(count)[case.label]
                found[case.patient] = values.round(5).tolist()
            return found

        part = study.part(unit.fold)
        with_pet = [case for case in part.test if not case.patient.endswith("7")]
        tables = {"selection": logits(part.selection), "external": logits(study.external, 0.8)}
        for key in study.settings.evaluate:
            tables[f"internal {key}"] = logits(part.test if key == "ct" else with_pet)
        for step, photons in enumerate(study.settings.doses.photons):
            tables[f"external {photons!r}"] = logits(study.external, 0.8 - 0.1 * step)
        mass = {case.patient: float(rng.uniform(0, 0.3 * skill)) for case in part.test[1:]}
        pooled = {c.patient: (rng.normal(size=channels) + c.label).tolist() for c in part.test}
        document = {
            "digest": study.configuration.method_digest(unit.method),
            "simulated": True,
            "method": unit.method,
            "seed": unit.seed,
            "fold": unit.fold,
            "selected_epoch": 3,
            "minutes": 1.0,
            "logits": tables,
            "pooled": pooled,
            "explanation": {"attention mass": mass, "faithfulness": {}},
        }
        if unit.method == "REACT-KD":
            document["explanation"]["faithfulness"] = mass
        (folder / unit.file_name).write_text(json.dumps(document))


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    """Fewer bootstrap draws: how many there are is no concern of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (bootstrap, comparison):
            patch.setattr(
                module,
                "draw_weights",
                lambda labels, seed, repeats=50, patients=None: draw_weights(
                    labels, seed, min(repeats, 50), patients
                ),
            )
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    made = invented_study(
        tmp_path_factory.mktemp("invented"), simulated=dict(internal=72, external=9)
    )
    invent(made)
    return made


@pytest.fixture(scope="module")
def results(study) -> Results:
    return write_study(study)


@pytest.fixture(scope="module")
def rows(results) -> dict:
    return {row.key: row for row in results.rows}


def test_every_figure_is_there_inside_and_outside(study, rows):
    titles = [c.title for c in study.spec.classes]
    for cohort, n in (("internal, ct", 72), ("external", 9)):
        for metric in (
            "macro AUC",
            "micro AUC",
            "balanced accuracy",
            "Brier score",
            *(f"AUC, {title}" for title in titles),
            "expected calibration error",
            "net benefit, mean of thresholds 0.1 to 0.6, macro",
            "net benefit, mean of thresholds 0.1 to 0.6, at least moderately differentiated",
            "coverage of 90 % prediction sets",
            "mean size of 90 % prediction sets",
            "abstained by 90 % prediction sets",
        ):
            row = rows["REACT-KD", cohort, None, metric]
            assert row.n == n
            # A binned error grows with every resampling: its interval may lie above it.
            assert row.low <= row.value <= row.high or metric == "expected calibration error"
            assert row.seeds == (0, 1)
    assert rows["KD", "external", 1e4, "macro AUC"].n == 9


def test_pet_without_ct_is_measured_on_those_who_have_it(rows):
    for key in ("pet_fdg", "ct+pet_fdg", "pet_fdg+pet_acetate"):
        assert rows["REACT-KD", f"internal, {key}", None, "macro AUC"].n == 65


def test_class_aucs_are_those_of_the_folds(study, rows):
    labels, values = labels_of(study), []
    for document in finished_runs(study)["KD"]:
        table = document["probabilities"][CT]
        truth = np.array([labels[p] for p in table])
        values.append(roc_auc_score(truth == 2, np.array(list(table.values()))[:, 2]))
    row = rows["KD", "internal, ct", None, "AUC, poorly differentiated"]
    assert row.value == pytest.approx(np.mean(values))


def test_gains_are_over_the_reference_and_of_ours_over_every_other(rows):
    pairs = [
        ("KD", "no distillation"),
        ("REACT-KD", "no distillation"),
        ("REACT-KD", "KD"),
    ]
    benefit = "net benefit, mean of thresholds 0.1 to 0.6, macro"
    names = {(m, metric) for m, cohort, dose, metric in rows if "gain over" in metric}
    assert names == {
        (method, f"{metric}, gain over {other}")
        for method, other in pairs
        for metric in ("macro AUC", benefit, "attention mass in the responsible region")
    }
    for method, other in pairs:
        for metric in ("macro AUC", benefit):
            gain = rows[method, "internal, ct", None, f"{metric}, gain over {other}"]
            values = [rows[name, "internal, ct", None, metric].value for name in (method, other)]
            assert gain.value == pytest.approx(values[0] - values[1])
            assert gain.low <= gain.value <= gain.high


def test_what_a_dose_costs_each_method_and_ours_beside_the_others(study, rows):
    doses = sorted(study.settings.doses.photons, reverse=True)
    lost = f"macro AUC lost since {doses[0]:g} photons"
    for dose in doses[1:]:
        each = {}
        for method in METHODS:
            high, low = (rows[method, "external", d, "macro AUC"].value for d in (doses[0], dose))
            each[method] = rows[method, "external", dose, lost].value
            assert each[method] == pytest.approx(high - low)
        for other in ("no distillation", "KD"):
            row = rows["REACT-KD", "external", dose, f"{lost}, less the loss of {other}"]
            assert row.value == pytest.approx(each["REACT-KD"] - each[other])
            assert row.low <= row.value <= row.high
    assert ("KD", "external", doses[0], lost) not in rows


def test_the_mean_of_all_students_is_measured_outside(study, rows):
    table = np.mean(
        [list(d["probabilities"]["external"].values()) for d in finished_runs(study)["KD"]], axis=0
    )
    truth = np.array([case.label for case in study.external])
    row = rows["KD", "external", None, "macro AUC, mean probability of all students"]
    assert row.value == pytest.approx(roc_auc_score(truth, table, multi_class="ovr"))


def test_sets_cover_about_what_they_promise(rows):
    row = rows["REACT-KD", "internal, ct", None, "coverage of 90 % prediction sets"]
    assert 0.8 < row.value <= 1
    assert 1 <= rows["REACT-KD", "external", None, "mean size of 90 % prediction sets"].value <= 3


def test_a_score_of_the_explanation_may_be_of_some_methods(rows):
    assert ("REACT-KD", "internal, ct", None, "faithfulness") in rows
    assert ("KD", "internal, ct", None, "faithfulness") not in rows
    assert rows["KD", "internal, ct", None, "attention mass in the responsible region"].n == 69


def test_two_classes_without_external_cohort(tmp_path):
    made = invented_study(tmp_path, classes=2)
    made.__dict__["external"] = []
    invent(made)
    rows = {row.key for row in study_results(made).rows}
    event = "net benefit, mean of thresholds 0.1 to 0.6, moderately differentiated"
    assert ("KD", "internal, ct", None, event) in rows
    tests = delong_rows(made, finished_runs(made))
    assert len(tests) == 1
    assert tests[0].metric.startswith("AUC, moderately differentiated, gain over no distillation")


def test_a_fold_without_a_class_has_no_auc_but_the_other_figures(tmp_path):
    made = invented_study(tmp_path, simulated=dict(internal=18, external=3), evaluate=["ct"])
    invent(made)
    for path in (made.results / "units").glob("*fold1.json"):
        document = json.loads(path.read_text())
        table = document["logits"]["internal ct"]
        labels = labels_of(made)
        document["logits"]["internal ct"] = {p: v for p, v in table.items() if labels[p] != 2}
        path.write_text(json.dumps(document))
    rows = {row.key: row for row in study_results(made).rows}
    assert rows["KD", "internal, ct", None, "macro AUC"].n == 12
    assert rows["KD", "internal, ct", None, "Brier score"].n == 16
    write_study(made)


def test_repeated_folds_are_pooled_over_all_patients(tmp_path):
    made = invented_study(tmp_path, repeats=2, simulated=dict(internal=30, external=3))
    # The second repeat of seed 1 is not complete: it is not used.
    invent(made, leave_out=lambda unit: unit.seed == 1 and unit.fold == 5)
    documents, labels = finished_runs(made)["REACT-KD"], labels_of(made)
    assert {(d["seed"], d["fold"]) for d in documents} == {
        *((0, n) for n in range(6)),
        *((1, n) for n in range(3)),
    }
    (fold,) = folds_of(documents, CT, labels, made)
    assert fold.probabilities.shape == (3, 30, 3)
    table = {}
    for document in documents:
        if document["seed"] == 0 and document["fold"] >= 3:
            logits = document["logits"]["internal ct"]
            at = document["temperature"]
            table |= {p: softmax(np.array(v) / at) for p, v in logits.items()}
    expected = np.array([table[p] for p in sorted(table)])
    assert any(np.allclose(run, expected) for run in fold.probabilities)
    (outside,) = folds_of(documents, "external", labels, made)
    assert outside.probabilities.shape == (9, 3, 3)
    write_study(made)
    rows = {row.key: row for row in read_results(made.results / "results.json").rows}
    assert rows["REACT-KD", "internal, ct", None, "macro AUC"].n == 30


def test_delongs_test_is_combined_over_folds(study):
    runs, labels = finished_runs(study), labels_of(study)
    found = delong_rows(study, runs)
    assert [row.cohort for row in found] == ["internal, ct"] * 3 + ["external"] * 3
    tests = []
    for a, b in zip(
        folds_of(runs["REACT-KD"], CT, labels, study),
        folds_of(runs["no distillation"], CT, labels, study),
        strict=True,
    ):
        first, second = a.probabilities.mean(axis=0)[:, 1], b.probabilities.mean(axis=0)[:, 1]
        tests.append(delong_test(a.labels == 1, first, second))
    gap = np.mean([t.first - t.second for t in tests])
    error = np.sqrt(sum(t.standard_error**2 for t in tests)) / 3
    assert found[1].value == pytest.approx(gap)
    assert found[1].high - found[1].value == pytest.approx(1.959964 * error)
    assert found[1].n == 72
    assert "Holm" in found[1].metric


def test_the_report_says_simulated_in_every_table_and_figure(study, results):
    content = report_content(study, results)
    for row in (*content.results.rows, *content.calibration, *content.explanation):
        assert "simulated" in row.cohort
    figures = (*content.figures, *content.calibration_figures)
    # ROC inside and outside and features of two methods, decision curves (macro, cumulative and
    # of three classes), dose, modalities, reliability
    assert len(figures) == 4 + 2 + 5 + 1 + 1 + 1
    for figure in figures:
        assert "simulated" in figure.caption
        assert "n = " in figure.caption or "n below each set" in figure.caption
    assert content.configuration["attention figure"].startswith("needs the work folder")
    assert "Simulated data" in (study.results / "report.html").read_text()


def test_what_the_run_knows_fills_the_checklists(study, results):
    answers = report_content(study, results).answers
    assert len([key for key in answers if key.startswith("claim")]) >= 20
    assert len([key for key in answers if key.startswith("tripod")]) >= 15
    assert "3 folds, stratified by class" in answers["claim-19"]
    assert "72 (24 well differentiated, 24 moderately" in answers["tripod-20a"]
    assert "no patient" in answers["claim-7"]
    assert "9 cases of the external cohort" in answers["claim-33"]
    report = (study.results / "report.html").read_text()
    assert "0 of 44 items" not in report
    assert answers["claim-20"] in report


def test_a_study_of_patients_does_not_speak_for_their_doctors(study, monkeypatch):
    monkeypatch.setattr(Study, "simulated", False)
    answers = checklist_answers(study, {})
    assert not {"claim-7", "claim-14", "tripod-17", "tripod-20a"} & set(answers)
    assert not any("imulat" in text for key, text in answers.items() if key == "claim-31")


def test_a_study_that_has_just_begun_has_a_report(tmp_path):
    made = invented_study(tmp_path)
    assert report_content(made, study_results(made)).figures == []
    invent(made, leave_out=lambda unit: unit.method != "KD" or unit.fold or unit.seed)
    results = write_study(made)
    assert {row.method for row in results.rows} == {"KD"}
    assert study_figures(made, finished_runs(made), results)


def test_the_table_has_intervals_and_n(results, rows):
    table = readme_table(results)
    lines = table.splitlines()
    assert "simulated" in lines[0]
    assert "internal, macro AUC (n = 72)" in lines[0]
    assert "external, 10000 photons (n = 9)" in lines[0]
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    row = rows["KD", "internal, ct", None, "macro AUC"]
    kd = next(line for line in lines if line.startswith("| KD"))
    assert f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" in kd
    assert len(lines) == 5
    both = rows["KD", "internal, ct+pet_fdg", None, "macro AUC"]
    place = next(n for n, t in enumerate(lines[0].split("|")) if "CT and PET" in t)
    assert kd.split("|")[place].strip().startswith(f"{both.value:.3f}")


def test_a_table_is_put_between_its_marks(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# a\n<!-- results:small -->\nold\n<!-- /results:small -->\nb\n")
    for _ in range(2):
        update_readme(path, "small", "| new |\n")
        text = "# a\n<!-- results:small -->\n| new |\n<!-- /results:small -->\nb\n"
        assert path.read_text() == text
    with pytest.raises(InputError, match="'large'"):
        update_readme(path, "large", "| new |")
    with pytest.raises(InputError, match="cannot be read"):
        update_readme(tmp_path / "nowhere.md", "small", "| new |")
    path.write_text("<!-- /results:small -->\n<!-- results:small -->\n")
    with pytest.raises(InputError, match="no one place"):
        update_readme(path, "small", "| new |")
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_attention_is_shown_with_and_without_the_graph(tmp_path, monkeypatch):
    made = invented_study(tmp_path, simulated=dict(internal=24, external=3))
    made.__dict__["internal"] = [
        dataclasses.replace(case, responsible=case.roi) for case in map(synthetic_case, range(24))
    ]
    asked = []

    def trained(self, unit):
        asked.append(unit)
        torch.manual_seed(len(asked))
        names = made.spec.modality_names
        return Student(names, len(made.spec.classes), made.spec.network)

    monkeypatch.setattr(Study, "trained", trained, raising=False)
    figures = attention_panels(made)
    assert [(unit.method, unit.seed, unit.fold) for unit in asked] == [
        ("REACT-KD", 0, 0),
        ("no distillation", 0, 0),  # there is no REACT-KD without graph in this study
    ]
    assert len(figures) == 3
    tested = {case.patient for case in made.part(0).test}
    for figure, title in zip(figures, (c.title for c in made.spec.classes), strict=True):
        assert title in figure.caption
        assert "n = 1 simulated case" in figure.caption
        assert figure.caption.split(",")[0] in tested
    monkeypatch.setattr(Study, "trained", lambda self, unit: None)
    assert "needs the work folder" in attention_panels(made)


def test_a_map_has_each_cell_where_the_student_has_it():
    spec = read_study(STUDIES / "smoke.json").spec
    student = Student(spec.modality_names, len(spec.classes), spec.network)
    assert student.total_stride == (2, 4, 4)
    voxels = torch.zeros(1, 1, 5, 16, 12)
    voxels[..., 2, 7:10, 3:6] = 1
    cells = student.cells(voxels)[0, 0].numpy()
    drawn = _on_voxels(student, cells, (5, 16, 12))
    assert drawn.shape == (5, 16, 12)
    assert drawn[2, 8, 4] == cells.max()
    assert np.argwhere(drawn == cells.max()).mean(axis=0) == pytest.approx([1.5, 7.5, 3.5])


def test_a_baseline_has_the_rows_that_it_was_measured_for(tmp_path):
    made = invented_study(tmp_path, simulated=dict(internal=24, external=3))
    invent(made)
    for path in (made.results / "units").glob("kd_*.json"):
        document = json.loads(path.read_text())
        logits = document["logits"]
        kept = {key: logits[key] for key in ("selection", "internal ct+pet_fdg")}
        bare = {k: v for k, v in document.items() if k not in ("pooled", "explanation")}
        path.write_text(json.dumps(bare | {"logits": kept}))
    rows = write_study(made).rows
    assert {row.cohort for row in rows if row.method == "KD"} == {"internal, ct+pet_fdg"}
    assert not any("gain over KD" in row.metric for row in rows)


def test_eight_methods_are_drawn(tmp_path):
    methods = {f"method {n}": METHODS["KD"] for n in range(5)} | METHODS
    made = invented_study(tmp_path, simulated=dict(internal=24, external=3), methods=methods)
    invent(made)
    runs = finished_runs(made)
    assert set(_shown(list(runs))) == set(methods)
    assert study_figures(made, runs, study_results(made))


def test_attention_without_knowledge_is_what_pooling_weights_give(tmp_path):
    made = invented_study(tmp_path, simulated=dict(internal=24, external=3))
    made.__dict__["internal"] = [
        dataclasses.replace(case, responsible=np.ones_like(case.roi))
        for case in map(synthetic_case, range(24))
    ]
    # The responsible region is all of it: a map without knowledge has all its mass there.
    invent(made)
    rows = {row.key: row for row in study_results(made).rows}
    mass = "attention mass in the responsible region"
    chance = rows[CHANCE, "internal, ct", None, mass]
    assert chance.value == pytest.approx(1, abs=0.02)  # but for cells that reach out of the grid
    gain = rows["KD", "internal, ct", None, f"{mass}, gain over {CHANCE}"]
    assert gain.value == pytest.approx(rows["KD", "internal, ct", None, mass].value - chance.value)
    table = readme_table(Results(tuple(rows.values()), simulated=True)).splitlines()
    assert next(line for line in table if line.startswith(f"| {CHANCE}")).endswith("|  |")
