"""Training's own parts, and that a run can be interrupted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_models import SHIPPED_CONFIGURATION, random_student, specification
from safetensors.numpy import load_file
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score
from training_cases import synthetic_case

from REACTKDLib.errors import ModelPackageError, OptionError
from REACTKDLib.infer import load_classifier
from REACTKDLib.model_package import (
    ModalitySetStatistics,
    TrainingRanges,
    load_package,
    spec_from_section,
)
from training.configuration import TrainingConfiguration, read_configuration
from training.evaluation.calibration import fit_temperature
from training.evaluation.discrimination import macro_auc, macro_auc_interval
from training.export import TrainedModalitySet, write_package
from training.prepare import PreparedCase
from training.student import batch_of, head_logits, pooled_features, train_student
from training.trained_student import TrainedStudent, draw_modalities

CPU = torch.device("cpu")


def written(document: dict[str, Any], folder: Path) -> Path:
    path = folder / "configuration.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def document() -> dict[str, Any]:
    """The shipped configuration with a tiny network and almost no steps."""
    document = json.loads(SHIPPED_CONFIGURATION.read_text(encoding="utf-8"))
    network = document["spec"]["network"]
    network |= {"init_filters": 2, "blocks_down": [1, 1, 1], "fused_channels": 4}
    document["spec"] |= {"network": network}
    document["optimisation"] |= {
        "epochs": 2,
        "batch_size": 3,
        "crop_steps": 2,
        "crop_size": [4, 8, 8],
    }
    return document


@pytest.fixture
def configuration(document, tmp_path) -> TrainingConfiguration:
    return read_configuration(written(document, tmp_path))


TRAIN = [synthetic_case(n) for n in range(6)]
SELECTION = [synthetic_case(n) for n in range(6, 12)]


# Configuration.


def test_the_shipped_configuration_is_valid():
    configuration = read_configuration(SHIPPED_CONFIGURATION)
    assert configuration.spec.class_names == ("well", "moderate", "poor")
    assert configuration.spec.simulated is True
    assert sum(configuration.optimisation.modality_sets.values()) == pytest.approx(1)


@pytest.mark.parametrize("table", [None, "cohort", "optimisation"])
def test_an_unknown_or_missing_key_is_an_error(table, document, tmp_path):
    place = document if table is None else document[table]
    place["colour"] = "red"
    with pytest.raises(OptionError, match=r"unknown keys \['colour'\]"):
        read_configuration(written(document, tmp_path))
    del place["colour"]
    missing = sorted(place)[0]
    del place[missing]
    with pytest.raises(OptionError, match=rf"missing keys \['{missing}'\]"):
        read_configuration(written(document, tmp_path))


def test_the_models_specification_is_checked(document, tmp_path):
    document["spec"]["grid"]["colour"] = "red"
    with pytest.raises(ModelPackageError, match="colour"):
        read_configuration(written(document, tmp_path))


def test_an_unknown_modality_is_an_error(document, tmp_path):
    document["optimisation"]["modality_sets"]["ct+mr"] = 0.1
    with pytest.raises(OptionError, match="'mr'"):
        read_configuration(written(document, tmp_path))


def test_what_is_no_json_is_an_error(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(OptionError, match="cannot be read"):
        read_configuration(tmp_path / "a.json")
    with pytest.raises(OptionError, match="cannot be read"):
        read_configuration(tmp_path / "nowhere.json")


# Metrics.


def test_macro_auc_is_scikit_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    logits = rng.normal(size=(80, 3)) + 1.2 * np.eye(3)[labels]
    expected = roc_auc_score(labels, softmax(logits, axis=1), multi_class="ovr", average="macro")
    assert 0.6 < expected < 0.99
    assert macro_auc(labels, logits) == pytest.approx(expected)


def test_the_interval_holds_the_value_and_narrows_with_n():
    rng = np.random.default_rng(1)

    def estimate(n: int) -> tuple[float, float, float]:
        labels = np.arange(n) % 3
        logits = rng.normal(size=(n, 3)) + np.eye(3)[labels]
        found = macro_auc_interval(labels, logits, seed=3, repeats=100)
        assert found.n == n
        assert found.low <= found.value <= found.high
        return found.value, found.low, found.high

    _, low, high = estimate(30)
    _, low_many, high_many = estimate(600)
    assert high_many - low_many < 0.5 * (high - low)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_logits_that_are_too_sure_is_found(temperature):
    rng = np.random.default_rng(2)
    honest = rng.normal(0, 1.5, size=(4000, 3))
    labels = np.array([rng.choice(3, p=p) for p in softmax(honest, axis=1)])
    found = fit_temperature(labels, honest * temperature)
    assert found == pytest.approx(temperature, rel=0.08)
    losses = [
        log_loss(labels, softmax(honest * temperature / t, axis=1))
        for t in (found, 0.8 * found, 1.25 * found)
    ]
    assert losses[0] == min(losses)


# The student in training.


def test_folding_keeps_the_logits(configuration):
    """The trained student is pooling and one linear layer; its logits are those of training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TrainedStudent(configuration.spec)
    model.prior.data = torch.tensor([0.4, -0.2, 0.1])[: len(model.prior)]
    pooled = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) * 0.02 + 0.5
    with torch.inference_mode():
        expected = model.logits(pooled)
        folded = model.fold()
        assert torch.allclose(folded.head(pooled), expected, atol=1e-5)
        assert not torch.allclose(model.student.head(pooled), expected, atol=0.3)


def test_weights_of_a_case_are_its_region_and_sum_to_1(configuration):
    views = [(), (0, 2)]
    volumes, roi, weights, lesion = batch_of(TRAIN[1], configuration.spec, ["ct"], CPU, views)
    assert volumes["ct"].shape == roi.shape == (2, 1, 6, 12, 16)
    assert torch.allclose(weights.sum(dim=(1, 2, 3, 4)), torch.ones(2))
    assert weights.shape == lesion.shape
    assert torch.equal(volumes["ct"][1], volumes["ct"][0].flip((1, 3)))
    assert 0 < lesion.max() <= 1


def test_a_case_shows_only_modalities_that_it_has():
    rng = np.random.default_rng(0)
    ct_only = dataclasses.replace(TRAIN[0], volumes={"ct": TRAIN[0].volumes["ct"]})
    sets = {"ct": 0.5, "ct+pet_fdg": 0.5}
    drawn = [tuple(draw_modalities(TRAIN[0], sets, rng)) for _ in range(40)]
    assert set(drawn) == {("ct",), ("ct", "pet_fdg")}
    assert {tuple(draw_modalities(ct_only, sets, rng)) for _ in range(40)} == {("ct",)}
    assert draw_modalities(ct_only, {"pet_fdg": 1.0}, rng) == ["ct"]


def test_pooled_features_and_head_give_the_students_logits(configuration):
    student = random_student(configuration.spec, 0)
    pooled = pooled_features(student, SELECTION[:2], configuration.spec, ["ct"], CPU)
    volumes, roi, weights, _ = batch_of(SELECTION[1], configuration.spec, ["ct"], CPU)
    with torch.inference_mode():
        expected = student(volumes, roi, weights)
    assert np.allclose(pooled[1], expected.pooled[0], atol=1e-5)
    assert np.allclose(head_logits(student, pooled)[1], expected.logits[0], atol=1e-5)


class _PowerCut(list):
    """Selection cases; when they are looked at for the n-th time, the power goes."""

    def __init__(self, cases: list[PreparedCase], at: int) -> None:
        super().__init__(cases)
        self.left = at

    def __iter__(self) -> Iterator[PreparedCase]:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().__iter__()


def test_an_interrupted_training_goes_on_to_the_same_student(configuration, tmp_path):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    straight.mkdir()
    resumed.mkdir()
    expected = train_student(configuration, TRAIN, SELECTION, straight, CPU)
    with pytest.raises(KeyboardInterrupt):  # two looks an epoch: the third is in the second
        train_student(configuration, TRAIN, _PowerCut(SELECTION, at=3), resumed, CPU)
    assert (resumed / "checkpoint.pt").exists()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(999)  # whatever ran in between
        result = train_student(configuration, TRAIN, SELECTION, resumed, CPU)

    assert [row["epoch"] for row in result.history] == [1, 2]
    assert result.history == expected.history
    state, other = result.student.state_dict(), expected.student.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_training_changes_the_student_and_lowers_the_loss(document, tmp_path):
    document["optimisation"] |= {"epochs": 6, "crop_steps": 0, "fine_learning_rate": 0.02}
    configuration = read_configuration(written(document, tmp_path))
    history = train_student(configuration, TRAIN, SELECTION, tmp_path, CPU).history
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(0 <= row["selection_auc"] <= 1 for row in history)


# The package.


def test_a_package_is_written_and_read_back(tmp_path):
    document = specification()
    spec = spec_from_section(document)
    student = random_student(spec, 3)
    mean, spread = np.linspace(0.2, 0.8, 8), np.linspace(0.01, 0.08, 8)
    sets = {"ct": TrainedModalitySet(mean, spread, ModalitySetStatistics(1.7, 4.5))}
    ranges = TrainingRanges((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))
    bundle = {"version": "1.2.3", "intended_use": "Tests."}
    package = write_package(tmp_path / "p", document, student, sets, ranges, "# Card\n", bundle)

    again = load_package(tmp_path / "p")
    assert again == dataclasses.replace(package, statistics=again.statistics)
    assert again.training_ranges == ranges
    assert again.statistics["ct"] == ModalitySetStatistics(1.7, 4.5)
    assert (again.version, again.card) == ("1.2.3", "# Card\n")
    assert not any(p.suffix in (".pt", ".pkl", ".bin") for p in again.path.rglob("*"))
    classifier = load_classifier(again, "cpu")
    for name, tensor in student.state_dict().items():
        assert torch.equal(classifier.network.state_dict()[name], tensor)
    assert np.array_equal(classifier.statistics["ct"].mean, mean)
    assert np.array_equal(classifier.statistics["ct"].standard_deviation, spread)
    assert load_file(again.weights_path)["statistics/ct/mean"].dtype == np.float64
