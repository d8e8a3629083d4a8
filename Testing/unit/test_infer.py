"""Loading a package's network and one forward pass."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from random_models import altered_copy, random_student
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from REACTKDLib.backends import choose_device
from REACTKDLib.errors import EnvironmentProblem, ModelPackageError, OptionError
from REACTKDLib.infer import Classifier, load_classifier, predict
from REACTKDLib.model_package import METADATA, WEIGHTS, load_package, write_checksums
from REACTKDLib.networks.onednn import use_onednn
from REACTKDLib.normalise import ModelInput, normalise, to_feature_grid
from REACTKDLib.roi import locate_roi


@pytest.fixture(scope="module")
def model_input(phantom_study, random_package) -> ModelInput:
    return normalise(phantom_study, locate_roi(phantom_study, random_package), random_package)


def without_pet(model_input: ModelInput) -> ModelInput:
    return dataclasses.replace(model_input, volumes={"ct": model_input.volumes["ct"]})


def test_the_prediction_is_that_of_the_network_in_plain_torch(model_input, random_package):
    """A network built by hand from the weights file, without oneDNN or REACTKD's loading."""
    network = random_student(random_package, 0)
    tensors = load_file(random_package.weights_path)
    state = {k: torch.tensor(v) for k, v in tensors.items() if not k.startswith("statistics/")}
    network.load_state_dict(state)
    stride = random_package.network.total_stride
    weights = to_feature_grid(model_input.weights.astype(float), stride)
    roi = torch.tensor(np.array(model_input.roi))[None, None]
    weights = torch.tensor(weights / weights.sum(), dtype=torch.float32)[None, None]
    volumes = {n: torch.tensor(np.array(v))[None, None] for n, v in model_input.volumes.items()}
    with torch.inference_mode():
        expected = network(volumes, roi, weights)

    prediction = predict(load_classifier(random_package, "cpu", "torch"), model_input)
    assert np.allclose(prediction.logits, expected.logits[0], atol=1e-3)
    assert np.allclose(prediction.features, expected.features[0], atol=2e-4)
    assert np.allclose(prediction.attention, expected.attention[0, 0], atol=1e-5)
    assert prediction.weights.sum() == pytest.approx(1.0)
    assert prediction.probabilities.sum() == pytest.approx(1.0)
    assert prediction.modalities == ("ct", "pet_fdg", "pet_acetate")
    assert prediction.device == "cpu"
    assert prediction.notices == ()


def test_the_head_and_the_weighted_map_give_the_logits(model_input, random_package):
    p = predict(load_classifier(random_package, "cpu", "torch"), model_input)
    pooled = (p.features * p.weights).sum(axis=(1, 2, 3))
    assert np.allclose(p.head_weight @ pooled + p.head_bias, p.logits, atol=1e-4)


def test_distance_is_the_root_mean_square_z_score(model_input, random_package):
    p = predict(load_classifier(random_package, "cpu", "torch"), model_input)
    tensors = load_file(random_package.weights_path)
    key = "statistics/ct+pet_acetate+pet_fdg"
    pooled = (p.features * p.weights).sum(axis=(1, 2, 3))
    z = (pooled - tensors[f"{key}/mean"]) / tensors[f"{key}/sd"]
    assert p.distance == pytest.approx(np.sqrt((z**2).mean()), rel=1e-3)
    assert np.array_equal(p.reference, tensors[f"{key}/mean"])


def test_onednn_gives_torchs_result(model_input, random_package):
    plain = random_student(random_package, 1).requires_grad_(False)
    fast = copy.deepcopy(plain)
    use_onednn(fast)
    volumes = {"ct": torch.tensor(np.array(model_input.volumes["ct"]))[None, None]}
    with torch.inference_mode():
        assert torch.allclose(fast(volumes).features, plain(volumes).features, atol=1e-5)
        pair = {"ct": volumes["ct"].repeat(2, 1, 1, 1, 1)}
        assert torch.allclose(fast(pair).features, plain(pair).features, atol=1e-5)


def test_the_network_is_loaded_once(random_package):
    first = load_classifier(random_package, "cpu", "torch")
    again = load_classifier(load_package(random_package.path), "cpu", "torch")
    assert again is first
    assert not any(p.requires_grad for p in first.network.student.parameters())
    assert not first.network.student.training


def test_loading_leaves_torchs_generator_alone(random_package, tmp_path):
    package = load_package(altered_copy(random_package, tmp_path / "copy"))  # not cached yet
    before = torch.get_rng_state()
    load_classifier(package, "cpu", "torch")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_package_changed_after_it_was_read_is_refused(random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    package = load_package(folder)
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"head.bias": tensors["head.bias"] + 1}, folder / WEIGHTS)
    with pytest.raises(ModelPackageError, match="altered"):
        load_classifier(package, "cpu")
    write_checksums(folder)
    with pytest.raises(ModelPackageError, match="changed while in use"):
        load_classifier(package, "cpu")


def test_a_package_edited_in_a_living_process_is_loaded_anew(model_input, random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    before = predict(load_classifier(load_package(folder), "cpu"), model_input)
    metadata = json.loads((folder / METADATA).read_text())
    for statistics in metadata["reactkd"]["statistics"].values():
        statistics["temperature"] = 100.0
    (folder / METADATA).write_text(json.dumps(metadata))
    write_checksums(folder)
    after = predict(load_classifier(load_package(folder), "cpu"), model_input)
    assert np.array_equal(after.logits, before.logits)
    assert np.ptp(before.probabilities) > 0.1
    assert np.allclose(after.probabilities, softmax(before.logits / 100))


def drop_bias(tensors: dict[str, np.ndarray]) -> None:
    del tensors["head.bias"]


def widen_head(tensors: dict[str, np.ndarray]) -> None:
    tensors["head.weight"] = np.zeros((4, 8), np.float32)


def drop_statistics(tensors: dict[str, np.ndarray]) -> None:
    del tensors["statistics/ct/mean"]


def add_a_layer(tensors: dict[str, np.ndarray]) -> None:
    tensors["another.weight"] = np.zeros(3, np.float32)


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
@pytest.mark.parametrize("change", [drop_bias, widen_head, drop_statistics, add_a_layer])
def test_weights_that_do_not_fit_the_network_are_refused(change, backend, random_package, tmp_path):
    if backend != "torch":
        pytest.importorskip(backend)
        pytest.importorskip("onnx")
    folder = altered_copy(random_package, tmp_path / "copy")
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    write_checksums(folder)
    with pytest.raises(ModelPackageError, match="do not fit the network"):
        load_classifier(load_package(folder), "cpu", backend)


def test_modalities_without_calibration_are_refused_with_the_sets_known(
    model_input, random_package, tmp_path
):
    def forget_pet(metadata: dict[str, Any]) -> None:
        statistics = metadata["reactkd"]["statistics"]
        metadata["reactkd"]["statistics"] = {"ct": statistics["ct"]}

    package = load_package(altered_copy(random_package, tmp_path / "copy", forget_pet))
    classifier = load_classifier(package, "cpu")
    with pytest.raises(ModelPackageError, match=r"'ct\+pet_acetate\+pet_fdg'") as caught:
        predict(classifier, model_input)
    assert "ct" in caught.value.advice
    assert predict(classifier, without_pet(model_input)).modalities == ("ct",)


def test_an_unknown_device_is_refused():
    with pytest.raises(OptionError, match="'tpu'") as caught:
        choose_device("tpu")
    assert "auto, cpu, cuda" in caught.value.advice


def test_devices():
    assert choose_device("cpu") == "cpu"
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto") == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_not_there_is_refused_when_asked_for():
    with pytest.raises(EnvironmentProblem, match="no CUDA device"):
        choose_device("cuda")


class _FailingNetwork:
    """A network on a device that gives out."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, volumes: object, roi: object, weights: object) -> object:
        self.calls += 1
        raise RuntimeError("CUDA out of memory.\nTried to allocate 20 TiB.")


def failing_classifier(random_package, device: str) -> Classifier:
    good = load_classifier(random_package, "cpu", "torch")
    return dataclasses.replace(good, network=_FailingNetwork(), device=device)


def test_a_device_that_fails_is_answered_by_the_cpu_with_a_notice(model_input, random_package):
    failing = failing_classifier(random_package, "cuda")
    prediction = predict(failing, model_input)
    assert failing.network.calls == 1
    assert prediction.device == "cpu"
    assert [(n.code, n.severity) for n in prediction.notices] == [("cuda_failed", "warning")]
    assert "CUDA out of memory." in prediction.notices[0].text
    assert "TiB" not in prediction.notices[0].text
    expected = predict(load_classifier(random_package, "cpu", "torch"), model_input)
    assert np.array_equal(prediction.logits, expected.logits)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_device_that_cannot_take_the_network_is_answered_by_the_cpu_with_a_notice(
    name, model_input, random_package, tmp_path, monkeypatch
):
    package = load_package(altered_copy(random_package, tmp_path / "copy"))  # not cached yet
    move, moved_to = torch.nn.Module.to, []

    def full(network: torch.nn.Module, device: str) -> torch.nn.Module:
        moved_to.append(device)
        if device != "cpu":
            raise RuntimeError("CUDA out of memory.\nTried to allocate 20 TiB.")
        return move(network, device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.nn.Module, "to", full)
    classifier = load_classifier(package, name, "torch")
    assert classifier.device == "cpu"
    prediction = predict(classifier, model_input)
    assert prediction.device == "cpu"
    assert [(n.code, n.severity) for n in prediction.notices] == [("cuda_failed", "warning")]
    assert "CUDA out of memory." in prediction.notices[0].text
    # A full device may have room later; the CPU's network is kept and has nothing to tell.
    load_classifier(package, name, "torch")
    assert moved_to == ["cuda", "cpu", "cuda"]
    assert load_classifier(package, "cpu", "torch").notices == ()


@pytest.mark.parametrize(
    ("build", "problem", "told"),
    [
        ("12.8", "The NVIDIA driver on your system is too old (found 11020).", True),
        ("12.8", "CUDA unknown error - this may be due to the environment.", True),
        ("12.8", "Found no NVIDIA driver on your system.", False),  # no GPU is nothing to tell
        (None, "Torch not compiled with CUDA enabled", False),
    ],
)
def test_auto_tells_of_a_broken_driver(build, problem, told, random_package, monkeypatch):
    def init() -> None:
        raise RuntimeError(f"{problem}\nPlease check your GPU driver.")

    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    classifier = load_classifier(random_package, "auto")
    assert classifier.device == "cpu"
    assert [n.code for n in classifier.notices] == ["cuda_failed"] * told
    assert all(problem.rstrip(".") in n.text for n in classifier.notices)
    assert load_classifier(random_package, "cpu").notices == ()


def test_a_failure_of_the_cpu_is_not_hidden(model_input, random_package):
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(failing_classifier(random_package, "cpu"), model_input)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_cpus_answer(model_input, random_package):
    cpu = predict(load_classifier(random_package, "cpu", "torch"), model_input)
    cuda = predict(load_classifier(random_package, "cuda"), model_input)
    assert cuda.device.startswith("cuda")
    assert np.allclose(cuda.probabilities, cpu.probabilities, atol=1e-3)
    assert np.allclose(cuda.features, cpu.features, atol=1e-3)
