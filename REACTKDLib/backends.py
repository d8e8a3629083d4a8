"""What runs the network: torch, OpenVINO or ONNX Runtime; all take and give numpy arrays.

``auto`` is torch where the device is CUDA; on the CPU it is OpenVINO where that is installed, else
ONNX Runtime, else torch: the order of their times (``Testing/benchmarks/backends.py``). OpenVINO
and ONNX Runtime run :func:`~.networks.onnx_student.student_graph` of the package's weights, in
single precision; torch is not imported then.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import EnvironmentProblem, ModelPackageError, OptionError
from .model_package import ModelPackage

BACKENDS = ("auto", "torch", "openvino", "onnxruntime")
DEVICES = ("auto", "cpu", "cuda")

#: Pip extra that brings each of the backends for the CPU, the fastest first.
_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}

#: Runs a compiled graph: its inputs by name to its outputs in order.
_Run = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """One forward pass of one case, float32.

    ``logits`` (classes,); ``features`` (channels, k', j', i'); ``attention`` (k', j', i');
    ``pooled`` (channels,).
    """

    logits: np.ndarray
    features: np.ndarray
    attention: np.ndarray
    pooled: np.ndarray


class Network(Protocol):
    """The student on some backend.

    ``volumes``, modality to (k, j, i), and ``roi`` (k, j, i) as in ``ModelInput``; ``weights``
    (k', j', i') on the feature grid, sum 1.
    """

    def prepare(self, modalities: Sequence[str]) -> None:
        """Do now what the first case with these modalities would wait for."""

    def __call__(
        self, volumes: Mapping[str, np.ndarray], roi: np.ndarray, weights: np.ndarray
    ) -> NetworkOutput:
        """One forward pass."""


def check_device(name: str) -> None:
    """Refuse a device that does not exist. Only "cuda" needs torch for that.

    Raises
    ------
    OptionError : not one of ``DEVICES``.
    EnvironmentProblem : CUDA was asked for and torch has none, or is not installed.
    """
    if name not in DEVICES:
        raise OptionError(f"Unknown device {name!r}.", f"Choose one of {', '.join(DEVICES)}.")
    if name == "cuda":
        check_torch()
        import torch

        if not torch.cuda.is_available():
            raise EnvironmentProblem(
                f"torch {torch.__version__} finds no CUDA device.",
                "Choose the device 'cpu' or 'auto'.",
            )


def check_backend(name: str, device: str = "auto") -> None:
    """Refuse a backend that does not exist, is not installed or cannot use the device.

    Raises
    ------
    OptionError : not one of ``BACKENDS``, or CUDA with one that runs on the CPU only.
    EnvironmentProblem : it is not installed.
    """
    if name not in BACKENDS:
        raise OptionError(f"Unknown backend {name!r}.", f"Choose one of {', '.join(BACKENDS)}.")
    if name in _EXTRAS and device == "cuda":
        raise OptionError(
            f"The backend {name!r} runs on the CPU, not on the device 'cuda'.",
            "Choose the backend 'torch', or the device 'cpu'.",
        )
    if name == "torch":
        check_torch()
    missing = _missing(name)
    if missing:
        raise EnvironmentProblem(
            f"The backend {name!r} needs the Python package {missing[0]}, which is not installed.",
            f"Install it: pip install 'reactkd[{_EXTRAS[name]}]'; or choose the backend 'auto'.",
        )


def check_torch() -> None:
    """Refuse to go on without torch.

    Raises
    ------
    EnvironmentProblem : it is not installed.
    """
    if not _installed("torch"):
        raise EnvironmentProblem(
            "The Python package torch is not installed.", "Install it: pip install torch."
        )


def _missing(backend: str) -> list[str]:
    return [name for name in (backend, "onnx") if backend in _EXTRAS and not _installed(name)]


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def choose_device(name: str) -> str:
    """``auto`` is "cuda" where torch has it, else "cpu".

    Raises
    ------
    OptionError, EnvironmentProblem : as :func:`check_device`.
    """
    check_device(name)
    return "cuda" if name == "cuda" or (name == "auto" and _has_cuda()) else "cpu"


def _has_cuda() -> bool:
    # torch's import takes longer than a case: it is asked only where there may be a GPU.
    if not _installed("torch") or not ("torch" in sys.modules or _has_gpu_driver()):
        return False
    import torch

    return torch.cuda.is_available()


def _has_gpu_driver() -> bool:
    """Whether a driver that torch's device "cuda" needs is there (NVIDIA's, or AMD's on Linux)."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def backends_to_try(name: str, device: str) -> tuple[str, ...]:
    """Backends for a device of :func:`choose_device`, the first to be tried first; one unless
    ``name`` is "auto".

    Raises
    ------
    OptionError, EnvironmentProblem : as :func:`check_backend`.
    """
    check_backend(name, device)
    if name != "auto":
        return (name,)
    fast = [b for b in _EXTRAS if device == "cpu" and not _missing(b)]
    if not fast:
        check_torch()
    return (*fast, *(["torch"] if _installed("torch") else []))


def make_network(
    backend: str, package: ModelPackage, state: Mapping[str, np.ndarray], device: str
) -> Network:
    """The package's network with the weights ``state`` on one of the backends.

    Raises
    ------
    ModelPackageError : the weights do not fit the network that the package describes.
    EnvironmentProblem : the backend's library cannot be used.
    RuntimeError : the device fails.
    """
    if backend == "torch":
        return TorchNetwork(package, state, device)
    _check_import(backend)
    return GraphNetwork(package, state, _openvino if backend == "openvino" else _onnxruntime)


class TorchNetwork:
    """The student in torch. ``student`` is the module, in evaluation mode on its device."""

    def __init__(self, package: ModelPackage, state: Mapping[str, np.ndarray], device: str) -> None:
        import torch

        from .networks.onednn import use_onednn
        from .networks.student import Student

        with torch.random.fork_rng(devices=[]):  # random weights, replaced at once
            student = Student(package.modality_names, len(package.classes), package.network)
        try:
            student.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
        except RuntimeError as error:
            raise ModelPackageError(
                f"{package.name}: the weights do not fit the network: {error}.",
                "Download the package again.",
            ) from error
        self.student = student.eval().requires_grad_(False).to(device)
        self._device = device
        use_onednn(self.student)

    def prepare(self, modalities: Sequence[str]) -> None:
        """Nothing to do."""

    def __call__(
        self, volumes: Mapping[str, np.ndarray], roi: np.ndarray, weights: np.ndarray
    ) -> NetworkOutput:
        """As :class:`Network`."""
        import torch

        def batch(array: np.ndarray) -> torch.Tensor:
            return torch.tensor(array, dtype=torch.float32, device=self._device)[None, None]

        with torch.inference_mode():
            inputs = {name: batch(array) for name, array in volumes.items()}
            output = self.student(inputs, batch(roi), batch(weights))
        return NetworkOutput(
            logits=output.logits[0].cpu().numpy(),
            features=output.features[0].cpu().numpy(),
            attention=output.attention[0, 0].cpu().numpy(),
            pooled=output.pooled[0].cpu().numpy(),
        )


class GraphNetwork:
    """The student as ONNX graphs, one for each set of modalities, compiled when first needed."""

    def __init__(
        self,
        package: ModelPackage,
        state: Mapping[str, np.ndarray],
        compiler: Callable[[bytes], _Run],
    ) -> None:
        from .networks.onnx_student import check_weights

        check_weights(package, state)
        self._package = package
        self._state = state
        self._compiler = compiler
        self._compiled: dict[tuple[str, ...], _Run] = {}

    def prepare(self, modalities: Sequence[str]) -> None:
        """Compile the graph for these modalities; those that the package does not have are not
        looked at."""
        self._run_for(modalities)

    def _run_for(self, modalities: Sequence[str]) -> _Run:
        from .networks.onnx_student import student_graph

        names = tuple(name for name in self._package.modality_names if name in modalities)
        if names not in self._compiled:
            graph = student_graph(self._package, self._state, names)
            self._compiled[names] = self._compiler(graph.SerializeToString())
        return self._compiled[names]

    def __call__(
        self, volumes: Mapping[str, np.ndarray], roi: np.ndarray, weights: np.ndarray
    ) -> NetworkOutput:
        """As :class:`Network`."""
        inputs = {**volumes, "roi": roi, "weights": weights}
        logits, features, attention, pooled = self._run_for(list(volumes))(
            {k: np.ascontiguousarray(v, dtype=np.float32)[None, None] for k, v in inputs.items()}
        )
        return NetworkOutput(logits[0], features[0], attention[0, 0], pooled[0])


def _check_import(backend: str) -> None:
    try:
        importlib.import_module(backend)
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"The backend {backend!r} cannot be loaded: {error}.", "Choose the backend 'torch'."
        ) from error


def _openvino(graph: bytes) -> _Run:
    import openvino

    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        # Left alone, OpenVINO takes bfloat16 where the CPU has it: logits then differ by 0.001.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if (threads := _threads()) is not None:
        properties["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(graph), "CPU", properties)
    request = compiled.create_infer_request()

    def run(inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        found = request.infer(dict(inputs))
        return [found[output] for output in compiled.outputs]

    return run


def _onnxruntime(graph: bytes) -> _Run:
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # nothing leaves the machine
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if (threads := _threads()) is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        return session.run(None, dict(inputs))

    return run


def _threads() -> int | None:
    """``OMP_NUM_THREADS``, which torch obeys and these two do not by themselves."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of those of some packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
