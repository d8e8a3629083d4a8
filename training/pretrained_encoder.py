"""The file of a pretrained CT encoder: safetensors with the network, the input and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.model_package import ModelSpec
from REACTKDLib.networks.segresnet import SegResEncoder
from REACTKDLib.networks.student import Student

FORMAT = "reactkd-encoder-1"


def write_encoder(
    encoder: SegResEncoder, spec: ModelSpec, path: Path, notes: Mapping[str, Any]
) -> None:
    """Write an encoder's weights.

    The metadata say which network they fit and what its CT must be like (grid and window of
    ``spec``), beside ``notes``: "figures" and whatever else JSON can hold.
    """
    parts = {"network": _shape_of(encoder), "input": input_of(spec), **notes}
    metadata = {name: json.dumps(part) for name, part in parts.items()} | {"format": FORMAT}
    tensors = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file(tensors, temporary, metadata)
    temporary.replace(path)


def load_encoder(student: Student, path: Path, spec: ModelSpec | None = None) -> dict[str, Any]:
    """Load pretrained weights into the CT encoder of ``student``, in place; returns the figures.

    With the ``spec`` of the student it is checked too that its CT looks as in pretraining.

    Raises
    ------
    InputError : the file is missing, cannot be read, or holds no pretrained encoder.
    OptionError : a student without such an encoder of CT, of other widths, blocks or strides, or
        on another grid.
    """
    encoder = dict(student.encoders.items()).get("ct")
    if not isinstance(encoder, SegResEncoder):
        raise OptionError(
            f"The student has no SegResNet encoder of CT (it has {sorted(student.encoders)}).",
            "Load a pretrained CT encoder into a student with such an encoder.",
        )
    tensors, metadata = _read(path)
    pairs = [("network", _shape_of(encoder), metadata["network"])]
    if spec is not None:
        pairs.append(("input", input_of(spec), metadata["input"]))
    for what, wanted, found in pairs:
        wrong = [f"{n} {found.get(n)}, not {v}" for n, v in wanted.items() if found.get(n) != v]
        if wrong:
            raise OptionError(
                f"The encoder in {path} does not fit the student's {what}: it has"
                f" {'; '.join(wrong)}.",
                "Pretrain with the same model specification, or choose another file.",
            )
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if shapes != {name: tensor.shape for name, tensor in encoder.state_dict().items()}:
        raise InputError(
            f"The weights in {path} are not those that its metadata announce.", "Pretrain again."
        )
    encoder.load_state_dict(tensors)
    return dict(metadata["figures"])


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if not path.is_file():
        raise InputError(
            f"There is no pretrained encoder {path}.",
            "Pretrain one, or give the path of an existing file.",
        )
    try:
        with safe_open(path, "pt") as stored:
            metadata = dict(stored.metadata() or {})
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if metadata.pop("format", None) != FORMAT:
            raise ValueError(f"its metadata do not say {FORMAT}")
        parts = {name: json.loads(metadata[name]) for name in ("network", "input", "figures")}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as a pretrained encoder: {error}.",
            "Give a file that the pretraining wrote.",
        ) from error
    return tensors, parts


def _shape_of(encoder: SegResEncoder) -> dict[str, Any]:
    """What two encoders must share to share weights, as JSON gives it back."""
    levels: Any = encoder.layers  # of SegResLevel, which a ModuleList does not say
    return {
        "init_filters": encoder.conv_init.out_channels,
        "blocks_down": [len(level.blocks) for level in levels],
        "strides": [list(stride) for stride in encoder.strides],
    }


def input_of(spec: ModelSpec) -> dict[str, Any]:
    """What makes the CT of two models look alike, as JSON gives it back."""
    ct = spec.modalities[spec.modality_names.index("ct")]
    parts = {
        "spacing_mm": spec.grid.spacing_mm,
        "margin_mm": spec.grid.margin_mm,
        "window": ct.window,
        "percentiles": ct.percentiles,
    }
    loaded: dict[str, Any] = json.loads(json.dumps(parts))
    return loaded
