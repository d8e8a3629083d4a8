"""The student on torch, OpenVINO or ONNX Runtime: numpy arrays in, numpy arrays out.

OpenVINO and ONNX Runtime run :func:`~.networks.onnx_student.student_graph` of the package's
weights, in single precision; torch is not imported then.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .errors import EnvironmentProblem, ModelPackageError
from .model_package import ModelPackage

_TELEMETRY = "openvino_telemetry"

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

        try:
            with torch.device("meta"):  # no memory: what would it need?
                planned = Student(package.modality_names, len(package.classes), package.network)
            count, there = sum(p.numel() for p in planned.parameters()), _count(state)
            if count > there:
                raise ValueError(f"it has {count} weights, the file {there}")
            with torch.random.fork_rng(devices=[]):  # random weights, replaced at once
                student = Student(package.modality_names, len(package.classes), package.network)
            student.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
        except (RuntimeError, ValueError, TypeError) as error:
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


def _count(state: Mapping[str, np.ndarray]) -> int:
    return sum(tensor.size for tensor in state.values())


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
        looked at.

        Raises
        ------
        EnvironmentProblem : the library cannot compile it.
        """
        self._run_for(modalities)

    def _run_for(self, modalities: Sequence[str]) -> _Run:
        from .networks.onnx_student import student_graph

        names = tuple(name for name in self._package.modality_names if name in modalities)
        if names not in self._compiled:
            graph = student_graph(self._package, self._state, names)
            try:
                self._compiled[names] = self._compiler(graph.SerializeToString())
            except Exception as error:  # the runtimes have errors of their own
                raise EnvironmentProblem(
                    f"The network cannot be compiled on this machine: {error}.",
                    "Choose the backend 'torch'.",
                ) from error
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
        with _without_telemetry():
            importlib.import_module(backend)
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"The backend {backend!r} cannot be loaded: {error}.", "Choose the backend 'torch'."
        ) from error


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO tells its makers of every import, from a process of its own, unless the package for
    that cannot be imported: nothing leaves the machine."""
    there = _TELEMETRY in sys.modules
    if not there:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # its import fails
    try:
        yield
    finally:
        if not there:
            del sys.modules[_TELEMETRY]


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
