"""One forward pass of the student, on any device."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import EnvironmentProblem, ModelPackageError, OptionError
from .geometry import Geometry
from .model_package import ModelPackage, load_package, modality_set_key
from .normalise import ModelInput, feature_geometry, to_feature_grid
from .types import Notice, frozen_mapping, read_only

if TYPE_CHECKING:
    import torch

    from .networks.student import Student, StudentOutput

DEVICES = ("auto", "cpu", "cuda")

#: Prefix of the tensors in a weights file that describe training features: <prefix><set>/mean, /sd.
STATISTICS = "statistics/"


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Pooled features of the training cases for one set of modalities, (channels,) each."""

    mean: np.ndarray
    standard_deviation: np.ndarray


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network in memory with what its package says about its training features.

    ``notices`` tell of a device that was to be used and failed.
    """

    package: ModelPackage
    network: Student
    statistics: Mapping[str, FeatureStatistics]
    device: torch.device
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says and what is needed to explain it exactly.

    With F the ``features`` (channels, k, j, i), a the ``weights`` (k, j, i; sum 1), W the
    ``head_weight`` (classes, channels) and b the ``head_bias``: logits = sum_v a_v W F_v + b.
    ``attention`` (k, j, i) is the CBAM3D spatial attention. ``reference`` (channels) is the mean
    pooled feature of the training cases with the same modalities; ``distance`` the root mean
    square z-score of this case's pooled features against them.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    attention: np.ndarray
    weights: np.ndarray
    geometry: Geometry
    head_weight: np.ndarray
    head_bias: np.ndarray
    reference: np.ndarray
    distance: float
    modalities: tuple[str, ...]
    device: str
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        for name in ("logits", "probabilities", "features", "attention", "weights"):
            object.__setattr__(self, name, read_only(getattr(self, name)))


def check_device(name: str) -> None:
    """Refuse a device that does not exist. Only "cuda" needs torch for that.

    Raises
    ------
    OptionError : not one of ``DEVICES``.
    EnvironmentProblem : CUDA was asked for and torch has none.
    """
    if name not in DEVICES:
        raise OptionError(f"Unknown device {name!r}.", f"Choose one of {', '.join(DEVICES)}.")
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise EnvironmentProblem(
                f"torch {torch.__version__} finds no CUDA device.",
                "Choose the device 'cpu' or 'auto'.",
            )


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where torch has it, else the CPU.

    Raises
    ------
    OptionError, EnvironmentProblem : as :func:`check_device`.
    """
    import torch

    check_device(name)
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def load_classifier(package: ModelPackage, device: str = "auto") -> Classifier:
    """The network of a package, ready on ``device``; loaded once per package and device.

    A CUDA device that fails to take the network is answered by the CPU, with a notice; the next
    call tries it again.

    Raises
    ------
    ModelPackageError : the weights do not fit the network that the package describes, or the
        package on the disk is no longer the given one.
    OptionError, EnvironmentProblem : as :func:`check_device`.
    """
    chosen = choose_device(device)
    try:
        return _load(package.path, package.package_sha256, str(chosen))
    except RuntimeError as error:
        if chosen.type == "cpu":
            raise
        on_cpu = _load(package.path, package.package_sha256, "cpu")
        return replace(on_cpu, notices=(_cuda_failed(error),))


def _cuda_failed(error: RuntimeError) -> Notice:
    return Notice(
        "cuda_failed",
        "warning",
        f"The CUDA device failed ({str(error).splitlines()[0]}); the CPU was used.",
    )


@functools.lru_cache(maxsize=4)
def _load(path: Path, package_sha256: str, device: str) -> Classifier:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .networks.onednn import use_onednn
    from .networks.student import Student

    package = load_package(path)
    if package.package_sha256 != package_sha256:
        raise ModelPackageError(f"{package.name} changed while in use.", "Start again.")
    try:
        with torch.device("meta"):  # no memory: what would it need?
            planned = Student(package.modality_names, len(package.classes), package.network)
        count = sum(p.numel() for p in planned.parameters())
        size = package.weights_path.stat().st_size
        if count > size:  # a weight has at least a byte
            raise ValueError(f"it has {count} weights, the file {size} bytes")
        with torch.random.fork_rng(devices=[]):  # random weights, replaced at once
            network = Student(package.modality_names, len(package.classes), package.network)
        tensors = load_file(package.weights_path)
        state = {k: v for k, v in tensors.items() if not k.startswith(STATISTICS)}
        network.load_state_dict(state)
        statistics = {
            key: FeatureStatistics(
                mean=tensors[f"{STATISTICS}{key}/mean"].double().numpy(),
                standard_deviation=tensors[f"{STATISTICS}{key}/sd"].double().numpy(),
            )
            for key in package.statistics
        }
        _check_values(network, statistics)
    except (KeyError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
        raise ModelPackageError(
            f"{package.name}: the weights do not fit the network: {error}.",
            "Download the package again.",
        ) from error
    network.eval().requires_grad_(False).to(device)
    use_onednn(network)
    return Classifier(package, network, frozen_mapping(statistics), torch.device(device))


def _check_values(network: Student, statistics: Mapping[str, FeatureStatistics]) -> None:
    """Raises ValueError for weights or statistics that are not finite or of the wrong shape."""
    if not all(bool(p.isfinite().all()) for p in network.parameters()):
        raise ValueError("a weight is not finite")
    for key, values in statistics.items():
        for array in (values.mean, values.standard_deviation):
            if array.shape != (network.head.in_features,) or not np.isfinite(array).all():
                raise ValueError(f"the feature statistics of {key} have the shape {array.shape}")
        if values.standard_deviation.min() <= 0:
            raise ValueError(f"a standard deviation of {key} is not positive")


def predict(classifier: Classifier, model_input: ModelInput) -> Prediction:
    """Classify one case.

    A failure of the CUDA device (out of memory, no kernel for it) is answered by the CPU, with a
    notice.

    Raises
    ------
    ModelPackageError : the package has no statistics for this set of modalities.
    """
    import torch

    package = classifier.package
    modalities = tuple(name for name in package.modality_names if name in model_input.volumes)
    key = modality_set_key(modalities)
    if key not in package.statistics:
        raise ModelPackageError(
            f"{package.name} was not calibrated for the modalities {key!r}.",
            f"Give one of these sets: {', '.join(sorted(package.statistics))}.",
        )
    stride = package.network.total_stride
    weights = to_feature_grid(model_input.weights.astype(np.float64), stride)
    weights = weights / weights.sum()
    notices = classifier.notices
    try:
        output = _forward(classifier.network, model_input, weights, classifier.device)
    except RuntimeError as error:
        if classifier.device.type == "cpu":
            raise
        notices = (_cuda_failed(error),)
        classifier = load_classifier(package, "cpu")
        output = _forward(classifier.network, model_input, weights, classifier.device)
    logits = output.logits[0].double().cpu()
    statistics = classifier.statistics[key]
    pooled = output.pooled[0].double().cpu().numpy()
    z_scores = (pooled - statistics.mean) / statistics.standard_deviation
    head = classifier.network.head
    return Prediction(
        logits=logits.numpy(),
        probabilities=torch.softmax(logits / package.statistics[key].temperature, dim=0).numpy(),
        features=output.features[0].cpu().numpy(),
        attention=output.attention[0, 0].cpu().numpy(),
        weights=weights,
        geometry=feature_geometry(model_input.geometry, stride),
        head_weight=head.weight.double().cpu().numpy(),
        head_bias=head.bias.double().cpu().numpy(),
        reference=statistics.mean,
        distance=float(np.sqrt(np.mean(z_scores**2))),
        modalities=modalities,
        device=str(classifier.device),
        notices=notices,
    )


def _forward(
    network: Student, model_input: ModelInput, weights: np.ndarray, device: torch.device
) -> StudentOutput:
    import torch

    def batch(array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32, device=device)[None, None]

    with torch.inference_mode():
        volumes = {name: batch(array) for name, array in model_input.volumes.items()}
        return network(volumes, batch(model_input.roi), batch(weights))
