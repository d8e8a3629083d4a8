"""A whole study in small: two folds of simulated patients, teachers, students, figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from REACTKDLib.errors import OptionError
from training.__main__ import main
from training.evaluation.calibration import fit_temperature
from training.evaluation.results import read_results
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
    assert len(documents) == 4  # two methods, two folds, one seed
    for method in ("no distillation", "REACT-KD"):
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
            temperature = fit_temperature(*arrays(document["logits"]["selection"]))
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
    assert "4 of 4" in report
    environment = json.loads((smoke[1] / "environment.json").read_text())
    assert environment["device"] == "cpu"
    configuration = json.loads((smoke[1] / "configuration.json").read_text())
    assert configuration["seed"] == read_study(STUDIES / "smoke.json").settings.seed


def test_finished_students_are_not_trained_again(smoke, capsys):
    arguments, folder = smoke
    before = {path: path.stat().st_mtime_ns for path in (folder / "units").iterdir()}
    assert main(["distil", *arguments]) == 0
    assert "4 of 4 students are finished." in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "units").iterdir()}


def test_time_that_is_up_begins_no_student(smoke, tmp_path, capsys):
    arguments = [a if a != str(smoke[1]) else str(tmp_path) for a in smoke[0]]
    assert main(["distil", *arguments, "--minutes", "0"]) == 0
    assert "0 of 4 students are finished." in capsys.readouterr().out


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


@pytest.mark.parametrize("name", ["smoke", "small"])
def test_shipped_studies_are_valid(name):
    study = read_study(STUDIES / f"{name}.json")
    assert study.spec.simulated
    assert "REACT-KD" in study.settings.methods
