"""What a package says of its training: figures, temperature, features; and its files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from random_models import random_student, shipped_specification, specification
from safetensors.numpy import load_file
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score
from training_cases import synthetic_case

from REACTKDLib.infer import load_classifier
from REACTKDLib.model_package import (
    ModalitySetStatistics,
    TrainingRanges,
    load_package,
    spec_from_section,
)
from training.batches import whole_case
from training.evaluation.calibration import fit_temperature
from training.evaluation.discrimination import macro_auc, macro_auc_interval
from training.export import TrainedModalitySet, write_package
from training.package_statistics import head_logits, pooled_features

CPU = torch.device("cpu")


SPEC = spec_from_section(
    specification(
        network=shipped_specification()["network"]
        | {"init_filters": 2, "blocks_down": [1, 1, 1], "fused_channels": 4}
    )
)
SELECTION = [synthetic_case(n) for n in range(2)]


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


def test_pooled_features_and_head_give_the_students_logits():
    student = random_student(SPEC, 0)
    pooled = pooled_features(student, SELECTION[:2], SPEC, ("ct",), CPU)
    batch = whole_case(SELECTION[1], SPEC, CPU)
    weights = student.cells(batch.weights)
    with torch.inference_mode():
        expected = student({"ct": batch.volumes["ct"]}, batch.roi, weights / weights.sum())
    assert np.allclose(pooled[1], expected.pooled[0], atol=1e-5)
    assert np.allclose(head_logits(student, pooled)[1], expected.logits[0], atol=1e-5)


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
    classifier = load_classifier(again, "cpu", "torch")
    for name, tensor in student.state_dict().items():
        assert torch.equal(classifier.network.student.state_dict()[name], tensor)
    assert np.array_equal(classifier.statistics["ct"].mean, mean)
    assert np.array_equal(classifier.statistics["ct"].standard_deviation, spread)
    assert load_file(again.weights_path)["statistics/ct/mean"].dtype == np.float64
