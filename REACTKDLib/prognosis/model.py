"""A trained network of prognosis in memory, and the language model that it may need."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..backends import broken_cuda, choose_device
from ..errors import ModelPackageError
from ..infer import cuda_failed
from ..networks.onednn import use_onednn
from ..types import Notice
from .clinical_text import TextEncoder, TextTokens, render
from .metadata import TextEncoderSpec
from .networks.build import PrognosisNetwork, build_network
from .package import PrognosisPackage, load_prognosis_package
from .types import ClinicalRecord, ClinicalSchema

__all__ = ["LoadedNetwork", "load_network", "text_encoder", "text_inputs", "text_of"]


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """``network`` in evaluation mode on ``device``; ``notices`` tell of a device that failed."""

    network: PrognosisNetwork
    device: str
    notices: tuple[Notice, ...] = ()


def load_network(package: PrognosisPackage, device: str = "auto") -> LoadedNetwork:
    """The network of a package, loaded once per package and device.

    A CUDA device that fails to take it is answered by the CPU, with a notice.

    Raises
    ------
    ModelPackageError : the weights do not fit the network, or the package changed on the disk.
    OptionError, EnvironmentProblem : as :func:`REACTKDLib.backends.check_device`.
    """
    chosen = choose_device(device)
    problem = broken_cuda() if device == "auto" and chosen == "cpu" else ""
    notices: tuple[Notice, ...] = (cuda_failed(problem),) if problem else ()
    try:
        loaded = _load(package.path.absolute(), package.package_sha256, chosen)
    except RuntimeError as error:
        if chosen == "cpu":
            raise
        loaded = _load(package.path.absolute(), package.package_sha256, "cpu")
        notices += (cuda_failed(error),)
    return replace(loaded, notices=notices) if notices else loaded


@functools.lru_cache(maxsize=2)
def _load(path: Path, package_sha256: str, device: str) -> LoadedNetwork:
    package = load_prognosis_package(path)
    if package.package_sha256 != package_sha256:
        raise ModelPackageError(f"{package.name} changed while in use.", "Start again.")
    network = build_network(package.metadata.network, seed=0)
    state = _state(package)
    expected = network.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in expected]
    problems += [
        f"{name} has the shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems += [f"{n} is not finite" for n, tensor in state.items() if not tensor.isfinite().all()]
    if problems:
        raise _misfit(package, "; ".join(problems[:3]))
    network.load_state_dict(state)
    network.eval().to(device)
    if device == "cpu":
        use_onednn(network)
    return LoadedNetwork(network, device)


def _state(package: PrognosisPackage) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(package.weights_path)
    except (SafetensorError, TypeError, ValueError, OSError) as error:
        raise _misfit(package, str(error)) from error


def _misfit(package: PrognosisPackage, why: str) -> ModelPackageError:
    return ModelPackageError(
        f"{package.name}: the weights do not fit the network: {why}.",
        "Download the package again.",
    )


@functools.lru_cache(maxsize=1)
def text_encoder(name: str, digest: str, device: str) -> TextEncoder:
    """The language model of a package, loaded once; nothing is downloaded.

    Raises
    ------
    EnvironmentProblem : as :class:`.clinical_text.TextEncoder`.
    ModelPackageError : it is another one than the model was trained with.
    """
    encoder = TextEncoder(name, device=device)
    if digest and (found := encoder.digest()) != digest:
        raise ModelPackageError(
            f"The language model {name} is not the one that the model was trained with (SHA-256"
            f" {found[:16]}..., not {digest[:16]}...).",
            "Give the folder of the right one with --text-model.",
        )
    return encoder


def text_of(spec: TextEncoderSpec, schema: ClinicalSchema, record: ClinicalRecord) -> str:
    """What the language model is given of a record; "" for nothing."""
    if spec.reads == "text":
        return record.text.strip()
    return render(schema, record, spec.missing).text


def text_inputs(tokens: TextTokens, form: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token vectors (1, tokens, width) and their mask, bool (1, tokens).

    The published form reads the vector of the encoder's first own token, so all count there.
    """
    mask = np.ones_like(tokens.mask) if form == "faithful" else tokens.mask
    return torch.from_numpy(np.array(tokens.embeddings))[None], torch.from_numpy(mask.copy())[None]
