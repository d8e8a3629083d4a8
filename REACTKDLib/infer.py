"""One forward pass of the student, on any device and backend."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import softmax

from .backends import backends_to_try, broken_cuda, choose_device
from .errors import EnvironmentProblem, ModelPackageError
from .geometry import Geometry
from .model_package import ModelPackage, load_package, modality_set_key
from .network_runs import Network, make_network
from .normalise import ModelInput, feature_geometry, to_feature_grid
from .types import Notice, frozen_mapping, read_only

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

    ``head_weight`` (classes, channels) and ``head_bias`` (classes,) are its last layer, float64;
    ``notices`` tell of a device or backend that was to be used and failed.
    """

    package: ModelPackage
    network: Network
    statistics: Mapping[str, FeatureStatistics]
    head_weight: np.ndarray
    head_bias: np.ndarray
    device: str
    backend: str
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
    backend: str
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        for name in ("logits", "probabilities", "features", "attention", "weights"):
            object.__setattr__(self, name, read_only(getattr(self, name)))


def load_classifier(
    package: ModelPackage, device: str = "auto", backend: str = "auto"
) -> Classifier:
    """The network of a package, ready on ``device``; loaded once per package, device and backend.

    A CUDA device that fails to take the network is answered by the CPU, and a library that "auto"
    chose and that cannot be used by the next one, with a notice; the next call tries it again. A
    broken CUDA driver is told of too, where "auto" goes without it.

    Raises
    ------
    ModelPackageError : the weights do not fit the network that the package describes, or the
        package on the disk is no longer the given one.
    OptionError, EnvironmentProblem : as :func:`~.backends.check_device` and
        :func:`~.backends.check_backend`.
    """
    chosen = choose_device(device)
    *earlier, last = backends_to_try(backend, chosen)
    problem = broken_cuda() if device == "auto" and chosen == "cpu" else ""
    notices: tuple[Notice, ...] = (cuda_failed(problem),) if problem else ()
    for candidate in earlier:
        try:
            return _noting(_load(package.path, package.package_sha256, chosen, candidate), notices)
        except EnvironmentProblem as error:
            notices += (_backend_failed(error),)
    try:
        return _noting(_load(package.path, package.package_sha256, chosen, last), notices)
    except RuntimeError as error:
        if chosen == "cpu":
            raise
        return _noting(load_classifier(package, "cpu", backend), (cuda_failed(error),))


def _noting(classifier: Classifier, notices: tuple[Notice, ...]) -> Classifier:
    """The classifier itself where there is nothing to tell."""
    return replace(classifier, notices=notices + classifier.notices) if notices else classifier


def _backend_failed(error: EnvironmentProblem) -> Notice:
    return Notice("backend_failed", "warning", f"{error.message} Another one was used.")


def cuda_failed(reason: RuntimeError | str) -> Notice:
    """Says that the CPU stood in for CUDA, and why."""
    return Notice(
        "cuda_failed",
        "warning",
        f"The CUDA device failed ({str(reason).splitlines()[0]}); the CPU was used.",
    )


@functools.lru_cache(maxsize=4)
def _load(path: Path, package_sha256: str, device: str, backend: str) -> Classifier:
    package = load_package(path)
    if package.package_sha256 != package_sha256:
        raise ModelPackageError(f"{package.name} changed while in use.", "Start again.")
    tensors = _tensors(package)
    state = _state(tensors)
    try:
        statistics = {
            key: FeatureStatistics(
                mean=tensors[f"{STATISTICS}{key}/mean"].astype(np.float64),
                standard_deviation=tensors[f"{STATISTICS}{key}/sd"].astype(np.float64),
            )
            for key in package.statistics
        }
        _check_values(state, statistics)
    except (KeyError, ValueError) as error:
        raise _misfit(package, error) from error
    return Classifier(
        package=package,
        network=make_network(backend, package, state, device),
        statistics=frozen_mapping(statistics),
        head_weight=state["head.weight"].astype(np.float64),
        head_bias=state["head.bias"].astype(np.float64),
        device=device,
        backend=backend,
    )


def load_state(package: ModelPackage) -> dict[str, np.ndarray]:
    """The tensors of the network's state by name.

    Raises
    ------
    ModelPackageError : the weights file cannot be read.
    """
    return _state(_tensors(package))


def _state(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: v for name, v in tensors.items() if not name.startswith(STATISTICS)}


def _tensors(package: ModelPackage) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(package.weights_path)
    except (SafetensorError, TypeError, ValueError) as error:  # also types that numpy has not
        raise _misfit(package, error) from error


def _misfit(package: ModelPackage, error: Exception) -> ModelPackageError:
    return ModelPackageError(
        f"{package.name}: the weights do not fit the network: {error}.",
        "Download the package again.",
    )


def _check_values(
    state: Mapping[str, np.ndarray], statistics: Mapping[str, FeatureStatistics]
) -> None:
    """Raises ValueError for weights or statistics that are not finite or of the wrong shape."""
    if not all(np.isfinite(tensor).all() for tensor in state.values()):
        raise ValueError("a weight is not finite")
    channels = state["head.weight"].shape[1:]
    for key, values in statistics.items():
        for array in (values.mean, values.standard_deviation):
            if array.shape != channels or not np.isfinite(array).all():
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
        output = classifier.network(model_input.volumes, model_input.roi, weights)
    except RuntimeError as error:
        if classifier.device == "cpu":
            raise
        notices = (cuda_failed(error),)
        classifier = load_classifier(package, "cpu", classifier.backend)
        output = classifier.network(model_input.volumes, model_input.roi, weights)
    logits = output.logits.astype(np.float64)
    statistics = classifier.statistics[key]
    z_scores = (output.pooled - statistics.mean) / statistics.standard_deviation
    return Prediction(
        logits=logits,
        probabilities=softmax(logits / package.statistics[key].temperature),
        features=output.features,
        attention=output.attention,
        weights=weights,
        geometry=feature_geometry(model_input.geometry, stride),
        head_weight=classifier.head_weight,
        head_bias=classifier.head_bias,
        reference=statistics.mean,
        distance=float(np.sqrt(np.mean(z_scores**2))),
        modalities=modalities,
        device=classifier.device,
        backend=classifier.backend,
        notices=notices,
    )
