"""A whole study in small: two folds of simulated patients, teachers, students, figures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from REACTKDLib.errors import OptionError
from REACTKDLib.infer import load_classifier
from REACTKDLib.model_package import load_package
from training.__main__ import _part, main
from training.evaluation.calibration import cautious_temperature
from training.evaluation.results import read_results
from training.export_student import choose
from training.measure import logits_of
from training.study import Study
from training.study_configuration import read_study

STUDIES = Path(__file__).resolve().parents[2] / "training" / "configs" / "studies"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> tuple[list[str], Path]:
    """Arguments of the commands, and the results of the smoke study."""
    folder = tmp_path_factory.mktemp("smoke")
    arguments = ["--config", str(STUDIES / "smoke.json"), "--work", str(folder / "work")]
    arguments += ["--results", str(folder / "results"), "--device", "cpu"]
    assert main(["reproduce", *arguments]) == 0
    return arguments, folder / "results"


def units_of(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "units").glob("*.json"))]


def test_every_patient_is_tested_once_and_never_selected_on(smoke):
    documents = units_of(smoke[1])
    assert len(documents) == 6  # three methods, two folds, one seed
    for method in ("no distillation", "REACT-KD", "REACT-KD, Swin student with LoRA"):
        folds = [d for d in documents if d["method"] == method]
        tested = [set(d["logits"]["internal ct"]) for d in folds]
        assert not tested[0] & tested[1]
        assert len(tested[0] | tested[1]) == 18
        for document, held_out in zip(folds, tested, strict=True):
            assert not held_out & set(document["logits"]["selection"])
            assert len(document["logits"]["external"]) == 3
            assert all(p.startswith("simulated-external") for p in document["logits"]["external"])
            assert set(document["explanation"]["attention mass"]) <= held_out


def test_every_row_has_its_interval_and_n(smoke):
    results = read_results(smoke[1] / "results.json")
    assert results.simulated
    rows = {row.key: row for row in results.rows}
    internal = rows["REACT-KD", "internal, ct", None, "macro AUC"]
    assert internal.n == 18
    assert internal.low <= internal.value <= internal.high
    assert internal.seeds == (0,)
    for photons in (1e6, 1e4):
        assert rows["no distillation", "external", photons, "macro AUC"].n == 3
    assert ("REACT-KD", "internal, ct", None, "macro AUC, gain over no distillation") in rows
    assert ("REACT-KD", "internal, ct", None, "attention mass in the responsible region") in rows


def test_the_macro_auc_is_that_of_the_saved_logits(smoke):
    """By scikit-learn, at the temperature that the fold's selection cases give."""
    arguments, folder = smoke
    key = ("no distillation", "internal, ct", None, "macro AUC")
    row = next(r for r in read_results(folder / "results.json").rows if r.key == key)
    labels = labels_of(arguments)

    def arrays(table: dict[str, list[float]]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([labels[patient] for patient in table]), np.array(list(table.values()))

    values = []
    for document in units_of(folder):
        if document["method"] == "no distillation":
            temperature = cautious_temperature(*arrays(document["logits"]["selection"]))
            truth, logits = arrays(document["logits"]["internal ct"])
            probabilities = softmax(logits / temperature, axis=1)
            values.append(roc_auc_score(truth, probabilities, multi_class="ovr"))
    assert row.value == pytest.approx(np.mean(values), abs=1e-3)


def labels_of(arguments: list[str]) -> dict[str, int]:
    """Labels as the simulation gives them, without the study's code."""
    from training.cohort import sample_case_parameters

    settings = read_study(arguments[1]).settings
    names = ("well", "moderate", "poor")
    return {
        f"simulated-internal-{n:05d}": names.index(
            sample_case_parameters("internal", n, settings.seed).observed_grade
        )
        for n in range(settings.simulated.internal)
    }


def test_the_report_says_simulated_and_how_many(smoke):
    report = (smoke[1] / "report.html").read_text(encoding="utf-8")
    assert "imulated" in report
    assert "6 of 6" in report
    environment = json.loads((smoke[1] / "environment.json").read_text())
    assert environment["device"] == "cpu"
    configuration = json.loads((smoke[1] / "configuration.json").read_text())
    assert configuration["seed"] == read_study(STUDIES / "smoke.json").settings.seed


def test_finished_students_are_not_trained_again(smoke, capsys):
    arguments, folder = smoke
    before = {path: path.stat().st_mtime_ns for path in (folder / "units").iterdir()}
    assert main(["distil", *arguments]) == 0
    assert "6 of 6 students are finished." in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "units").iterdir()}


def test_time_that_is_up_begins_no_student(smoke, tmp_path, capsys):
    arguments = [a if a != str(smoke[1]) else str(tmp_path) for a in smoke[0]]
    assert main(["distil", *arguments, "--minutes", "0"]) == 0
    assert "0 of 6 students are finished." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("colour", 1, r"unknown fields \['colour'\]"),
        ("folds", "3", "folds is '3'"),
        ("evaluate", ["ct+mr"], "unknown modalities .'mr'."),
        ("methods", {"x": {"distillation": "y", "teachers": [], "seeds": [0]}}, "no distillation"),
        ("methods", {"x": {"distillation": "kd", "teachers": ["z"], "seeds": [0]}}, "teachers"),
        ("methods", {"x": {"distillation": "none", "teachers": [], "seeds": []}}, "seeds"),
    ],
)
def test_a_configuration_is_checked(place, value, said, tmp_path):
    document = json.loads((STUDIES / "smoke.json").read_text())
    document["spec"] = json.loads((STUDIES / document["spec"]).read_text())["spec"]
    path = tmp_path / "study.json"
    path.write_text(json.dumps(document | {place: value}))
    with pytest.raises(OptionError, match=said):
        read_study(path)


def test_an_unknown_method_is_refused(smoke, capsys):
    assert main(["distil", *smoke[0], "--method", "magic"]) == 2
    assert "magic" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["smoke", "small", "sts", "paper"])
def test_shipped_studies_are_valid(name):
    study = read_study(STUDIES / f"{name}.json")
    assert study.spec.simulated == (study.settings.simulated is not None)
    assert "REACT-KD" in study.settings.methods


def test_hyper_parameters_of_the_real_study_are_those_of_the_simulated_one():
    small, sts = (read_study(STUDIES / f"{name}.json").document for name in ("small", "sts"))
    for method in sts["methods"]:
        assert {**sts["methods"][method], "seeds": 0} == {**small["methods"][method], "seeds": 0}
    epochs = {"epochs": 0, "select_every": 0}  # a sixth of the cases: other numbers of epochs
    for key in ("optimisation",):
        assert sts["student"][key] | epochs == small["student"][key] | epochs
        for name in ("pet", "dose"):
            ours, theirs = sts["teachers"][name][key], small["teachers"][name][key]
            assert ours | epochs == theirs | epochs
    assert sts["crop"] == small["crop"]


@pytest.mark.parametrize(
    ("text", "left"), [("1/2", [0, 2, 4]), ("2/2", [1, 3, 5]), ("1/1", [*range(6)])]
)
def test_parts_share_the_work_out(text, left):
    first, step = _part(text)
    assert list(range(6))[first::step] == left


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_part_that_does_not_exist_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        _part(text)


def test_a_trained_student_is_there_again_and_gives_its_logits(smoke):
    """Also the one with LoRA: its updates are merged into the encoder."""
    arguments, folder = smoke
    configuration = read_study(arguments[1])
    study = Study(configuration, Path(arguments[3]), folder, torch.device("cpu"))
    for method in ("REACT-KD", "REACT-KD, Swin student with LoRA"):
        unit = next(study.units([method]))
        student = study.trained(unit)
        document = study.result_of(unit)
        assert student is not None and document is not None
        cases = study.part(unit.fold).test[:1]
        logits = logits_of(student, cases, ("ct",), study.spec, torch.device("cpu"))
        patient = cases[0].patient
        assert np.allclose(logits[patient], document["logits"]["internal ct"][patient], atol=2e-3)


def test_faithfulness_is_measured_for_the_first_seed(smoke):
    for document in units_of(smoke[1]):
        for name in (
            "deletion AUC",
            "insertion AUC",
            "map likeness, random network",
            "density likeness, random network",
        ):
            assert len(document["explanation"][name]) == 1
            assert all(0 <= v <= 1 for v in document["explanation"][name].values())


def test_two_methods_are_compared_patient_by_patient(smoke, capsys):
    arguments = smoke[0][:6]
    assert main(["compare", *arguments, "--reference", "no distillation"]) == 0
    table = capsys.readouterr().out
    assert table.startswith("Simulated data.")
    rows = {row.key: row for row in read_results(smoke[1] / "results.json").rows}
    gain = rows["REACT-KD", "internal, ct", None, "macro AUC, gain over no distillation"]
    assert f"| macro AUC, gain over no distillation | {gain.value:.3f} |" in table
    mine, other = (
        rows[name, "internal, ct", None, "attention mass in the responsible region"].value
        for name in ("REACT-KD", "no distillation")
    )
    title = "attention mass in the responsible region, gain over no distillation"
    assert f"| {title} | {mine - other:.3f} |" in table
    assert main(["compare", *arguments, "--reference", "magic"]) == 2


def test_the_table_of_a_readme_is_made_anew(smoke, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- results:smoke -->\nold\n<!-- /results:smoke -->\nb\n")
    assert main(["evaluate", *smoke[0], "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert "old" not in text
    assert "| REACT-KD |" in text
    assert "simulated" in text
    assert text.startswith("a\n") and text.endswith("b\n")


def test_the_student_is_exported_as_a_package(smoke, tmp_path):
    package = tmp_path / "package"
    arguments = [*smoke[0][:6], "--package", str(package), "--attribution", "Simulated."]
    assert main(["export", *arguments]) == 0
    loaded = load_package(package)
    assert loaded.simulated
    assert "Macro AUC" in loaded.card and "SIMULATED" in loaded.card
    statistics = loaded.statistics["ct"]
    assert statistics.prediction_set_coverage == 0.9
    assert 0 <= statistics.prediction_set_limit <= 1
    network = load_classifier(loaded, "cpu", "torch").network
    study = Study(read_study(arguments[1]), Path(arguments[3]), smoke[1], torch.device("cpu"))
    student = study.trained(choose(study, "REACT-KD").unit)
    ours, theirs = network.student.state_dict(), student.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
