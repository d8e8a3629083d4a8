"""Which device and which backend (torch, OpenVINO, ONNX Runtime) runs the network.

``auto`` is torch where the device is CUDA; on the CPU it is OpenVINO where that is installed, else
ONNX Runtime, else torch: the order of their times (``Testing/benchmarks/backends.py``).
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import EnvironmentProblem, OptionError

BACKENDS = ("auto", "torch", "openvino", "onnxruntime")
DEVICES = ("auto", "cpu", "cuda")

#: Pip extra that brings each of the backends for the CPU, the fastest first.
_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}


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
    if not _worth_asking_torch():
        return False
    import torch

    return torch.cuda.is_available()


def cuda_problem() -> str:
    """Why torch cannot use CUDA; empty where it can."""
    import torch

    if torch.cuda.is_available():
        return ""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # a build without CUDA asserts
        return str(error).splitlines()[0].rstrip(".")
    return "torch finds no CUDA device"


def broken_cuda() -> str:
    """Why CUDA cannot be used where it was to be expected: a build for CUDA beside a driver that
    fails; else empty. A computer without a driver has no GPU to use; its default build is for CUDA
    all the same."""
    if not _worth_asking_torch():
        return ""
    import torch

    problem = "" if torch.version.cuda is None else cuda_problem()
    return "" if "no NVIDIA driver" in problem else problem


def _worth_asking_torch() -> bool:
    """Whether there may be a GPU: torch's import takes longer than a case."""
    return _installed("torch") and ("torch" in sys.modules or _has_gpu_driver())


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


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of those of some packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
