"""What runs the network: the same answer by every backend, and which one is chosen."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from phantoms import CT_GRID
from simulated import BASE, with_signs

from REACTKDLib import backends, network_runs
from REACTKDLib.backends import backends_to_try, check_backend, choose_device
from REACTKDLib.errors import EnvironmentProblem, OptionError
from REACTKDLib.infer import load_classifier, predict
from REACTKDLib.model_package import load_package, shipped_packages
from REACTKDLib.normalise import ModelInput, normalise
from REACTKDLib.pipeline import RunOptions, run_case
from REACTKDLib.roi import locate_roi
from REACTKDLib.simulation import Scanner, simulate_case
from REACTKDLib.types import CaseResult, Study

REPOSITORY = Path(__file__).resolve().parents[2]
TRACERS = ("pet_fdg", "pet_acetate")
SETS = [("ct",), ("ct", "pet_fdg"), ("ct", "pet_acetate"), ("ct", *TRACERS)]

#: Agreement with torch. Logits as the package's users are told; shares and attention follow.
LOGITS, SHARES, DENSITY = 1e-4, 1e-4, 2e-4


@pytest.fixture(params=["openvino", "onnxruntime"])
def fast(request: pytest.FixtureRequest) -> str:
    for module in (request.param, "onnx"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    return request.param


def simulated(seed: int, spacing: tuple[float, float, float], **signs: float) -> Study:
    grid = Scanner(spacing_mm=spacing).geometry()
    return simulate_case(with_signs(**signs) if signs else BASE, seed, grid=grid).study()


@pytest.fixture(scope="module")
def cases(phantom_study: Study) -> list[Study]:
    """Two simulated patients and a phantom, on three grids."""
    return [
        simulated(1, (4.0, 4.0, 6.0)),
        simulated(2, (5.0, 4.5, 7.0), arterial_hu=40.0),
        phantom_study,
    ]


@pytest.fixture(scope="module")
def torchs(cases: list[Study], shipped_package) -> dict[tuple[int, tuple[str, ...]], CaseResult]:
    """Torch's results by case and modalities."""
    return {
        (n, names): by("torch", with_modalities(study, names), shipped_package)
        for n, study in enumerate(cases)
        for names in SETS
    }


def by(backend: str, study: Study, package, target: str | None = None) -> CaseResult:
    return run_case(study, package, RunOptions(target, "anatomical", "cpu", backend))


def with_modalities(study: Study, names: tuple[str, ...]) -> Study:
    return dataclasses.replace(study, volumes={n: study.volumes[n] for n in names})


def assert_same_answer(found: CaseResult, expected: CaseResult) -> None:
    def values(case: CaseResult) -> np.ndarray:
        return np.array([[s.share, *s.logit_shares.values()] for s in case.shares])

    assert found.modalities == expected.modalities
    assert dict(found.logits) == pytest.approx(dict(expected.logits), abs=LOGITS)
    assert dict(found.probabilities) == pytest.approx(dict(expected.probabilities), abs=LOGITS)
    assert np.allclose(values(found), values(expected), atol=SHARES, rtol=1e-4)
    assert [s.attention for s in found.shares] == pytest.approx(
        [s.attention for s in expected.shares], abs=SHARES
    )
    scale = np.abs(expected.attention.array).max()
    assert np.allclose(found.attention.array, expected.attention.array, atol=DENSITY * scale)
    assert np.array_equal(found.region_labels.array, expected.region_labels.array)
    assert found.prediction_set == expected.prediction_set
    assert [e.similarity for e in found.graph.edges] == pytest.approx(
        [e.similarity for e in expected.graph.edges], abs=1e-3
    )


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_logits_and_shares_are_torchs(names, fast, cases, torchs, shipped_package):
    grids = set()
    for n, study in enumerate(cases):
        study, expected = with_modalities(study, names), torchs[n, names]
        found = by(fast, study, shipped_package, expected.target)
        assert (found.provenance["backend"], expected.provenance["backend"]) == (fast, "torch")
        assert_same_answer(found, expected)
        grids.add(locate_roi(study, shipped_package).model_geometry.size)
    assert len(grids) == len(cases)


@pytest.mark.parametrize("path", shipped_packages(), ids=lambda path: path.name)
def test_every_shipped_model_gives_torchs_answer(path, fast, ct_study):
    package = load_package(path)
    expected = by("torch", ct_study, package)
    assert_same_answer(by(fast, ct_study, package, expected.target), expected)


@pytest.mark.parametrize("size", [(3, 5, 5), (5, 9, 45), (33, 13, 5)])
def test_grids_of_any_size_give_torchs_features(size, fast, shipped_package):
    """Down to two cells an axis, one after another through one compiled graph."""
    rng = np.random.default_rng(1)
    grid = CT_GRID.crop((0, 0, 0), size[::-1])
    weights = rng.random(size).astype(np.float32)
    volumes = {"ct": rng.normal(size=size).astype(np.float32)}
    model_input = ModelInput(volumes, np.ones(size, np.float32), weights / weights.sum(), grid)
    expected = predict(load_classifier(shipped_package, "cpu", "torch"), model_input)
    found = predict(load_classifier(shipped_package, "cpu", fast), model_input)
    assert np.allclose(found.logits, expected.logits, atol=LOGITS)
    assert np.allclose(found.features, expected.features, atol=LOGITS)
    assert np.allclose(found.attention, expected.attention, atol=LOGITS)
    assert found.distance == pytest.approx(expected.distance, rel=1e-4)


def test_a_second_run_does_not_change_what_the_first_gave(fast, cases, random_package):
    """The runtimes may reuse their memory; a prediction is ours."""
    classifier = load_classifier(random_package, "cpu", fast)
    inputs = [normalise(s, locate_roi(s, random_package), random_package) for s in cases[:2]]
    first = predict(classifier, inputs[0])
    kept = first.features.copy()
    predict(classifier, inputs[1])
    predict(classifier, inputs[0])
    assert np.array_equal(first.features, kept)


def test_the_graph_is_compiled_once_for_each_set(fast, cases, random_package, monkeypatch):
    load_classifier.__globals__["_load"].cache_clear()
    compiled: list[int] = []
    original = getattr(network_runs, f"_{fast}")

    def counted(graph: bytes):
        compiled.append(len(graph))
        return original(graph)

    monkeypatch.setattr(network_runs, f"_{fast}", counted)
    for names in (("ct",), ("ct",), ("ct", "pet_fdg"), ("ct",)):
        by(fast, with_modalities(cases[0], names), random_package)
    assert len(compiled) == 2
    load_classifier.__globals__["_load"].cache_clear()


def test_a_run_without_torch(fast, phantom_files, tmp_path):
    """A whole command in a process that cannot import torch."""
    program = """
import json, sys
sys.modules["torch"] = None
from REACTKDLib.cli import main
code = main(json.loads(sys.argv[1]))
print("torch" if sys.modules["torch"] else "no torch")
sys.exit(code)
"""
    arguments = ["predict", "--ct", str(phantom_files["ct"]), "--backend", fast]
    arguments += ["--segmentation", str(phantom_files["segmentation"])]
    arguments += ["--output", str(tmp_path / "out")]
    finished = subprocess.run(
        [sys.executable, "-c", program, json.dumps(arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "no torch"
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["backend"] == fast
    assert provenance["options"]["backend"] == fast
    assert fast in provenance["libraries"] and "torch" not in provenance["libraries"]


def test_a_graph_that_cannot_be_compiled_says_what_to_do(
    fast, ct_study, random_package, monkeypatch
):
    load_classifier.__globals__["_load"].cache_clear()

    def broken(graph: bytes):
        raise RuntimeError("no kernel for this processor")

    monkeypatch.setattr(network_runs, f"_{fast}", broken)
    with pytest.raises(EnvironmentProblem, match="no kernel for this processor") as caught:
        by(fast, ct_study, random_package)
    assert "'torch'" in caught.value.advice
    load_classifier.__globals__["_load"].cache_clear()


def only(*modules: str):
    """``importlib.util.find_spec`` as on a machine that has no backend but these."""
    find = importlib.util.find_spec

    def find_spec(name: str, *rest: object):
        if name in ("torch", "openvino", "onnxruntime", "onnx") and name not in modules:
            return None
        return find("json") if name in modules else find(name)

    return find_spec


@pytest.mark.parametrize(
    ("installed", "device", "expected"),
    [
        (("torch", "openvino", "onnxruntime", "onnx"), "cpu", "openvino onnxruntime torch"),
        (("torch", "openvino", "onnxruntime", "onnx"), "cuda", "torch"),
        (("torch", "onnxruntime", "onnx"), "cpu", "onnxruntime torch"),
        (("torch", "openvino"), "cpu", "torch"),  # without the package onnx
        (("openvino", "onnx"), "cpu", "openvino"),
        (("torch",), "cpu", "torch"),
    ],
)
def test_auto_takes_the_fastest_that_is_installed(installed, device, expected, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", only(*installed))
    assert " ".join(backends_to_try("auto", device)) == expected


@pytest.mark.parametrize(
    ("name", "installed", "message", "extra"),
    [
        ("openvino", ("torch", "onnx"), "package openvino", "reactkd[openvino]"),
        ("openvino", ("torch", "openvino"), "package onnx,", "reactkd[openvino]"),
        ("onnxruntime", ("torch", "onnx"), "package onnxruntime", "reactkd[onnx]"),
        ("torch", ("onnx", "openvino"), "package torch", "pip install torch"),
        ("auto", ("onnx",), "package torch", "pip install torch"),
    ],
)
def test_a_backend_that_is_not_installed_is_refused(name, installed, message, extra, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", only(*installed))
    with pytest.raises(EnvironmentProblem, match=message) as caught:
        backends_to_try(name, "cpu")
    assert extra in caught.value.advice


def test_a_backend_that_does_not_exist_or_cannot_use_the_device_is_refused():
    with pytest.raises(OptionError, match="'tensorrt'") as caught:
        check_backend("tensorrt")
    assert "auto, torch, openvino, onnxruntime" in caught.value.advice
    for name in ("openvino", "onnxruntime"):
        with pytest.raises(OptionError, match="runs on the CPU"):
            check_backend(name, "cuda")


def test_a_library_that_cannot_be_loaded_is_left_out_with_a_notice(
    cases, random_package, monkeypatch
):
    """Only by "auto": who asks for it by name is told."""
    pytest.importorskip("onnx")
    load_classifier.__globals__["_load"].cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", only("torch", "openvino", "onnx"))
    monkeypatch.setitem(sys.modules, "openvino", None)
    case = by("auto", with_modalities(cases[0], ("ct",)), random_package)
    assert case.provenance["backend"] == "torch"
    (notice,) = [n for n in case.notices if n.code == "backend_failed"]
    assert notice.severity == "warning" and "'openvino'" in notice.text
    with pytest.raises(EnvironmentProblem, match="'openvino' cannot be loaded"):
        by("openvino", cases[0], random_package)


def test_a_machine_without_a_gpu_driver_does_not_import_torch_to_know(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(backends, "_has_gpu_driver", lambda: False)
    assert choose_device("auto") == "cpu"
    assert "torch" not in sys.modules


@pytest.mark.parametrize(("text", "threads"), [("2", 2), ("", None), ("0", None), ("2,1", None)])
def test_threads_are_those_that_torch_would_take(text, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert network_runs._threads() == threads


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="no OpenVINO")
def test_nobody_is_told_that_openvino_runs(random_package):
    """Its import would send an event to its makers, by a process of its own."""
    code = f"""
import multiprocessing, sys
multiprocessing.Process.start = lambda self: sys.exit("a process was started")
from REACTKDLib.infer import load_classifier
from REACTKDLib.model_package import load_package
load_classifier(load_package({str(random_package.path)!r}), "cpu", "openvino")
from openvino.tools.ovc import telemetry_utils
assert telemetry_utils.tm.__name__.endswith("stub"), telemetry_utils.tm
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
