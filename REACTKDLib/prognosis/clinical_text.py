"""A record as the sentence that a language model reads, and that sentence as token embeddings.

Any encoder of Hugging Face's library works, by the folder that holds it or by its name. Weights are
read as safetensors alone, code that comes with a model is never run, and nothing is downloaded
unless the caller says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EnvironmentProblem, InputError
from ..types import Notice, frozen_mapping, read_only
from .clinical_values import describe
from .text_models import packaged_folder
from .types import ClinicalRecord, ClinicalSchema

__all__ = ["MAX_TOKENS", "Rendered", "TextEncoder", "TextTokens", "render"]

#: Tokens that an encoder is given at most, as in the paper; some encoders take fewer.
MAX_TOKENS = 512
_MISSING = ("omit", "say")


@dataclass(frozen=True)
class Rendered:
    """A record as text. ``spans`` : variable -> (start, stop) of its part, in characters."""

    text: str
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", frozen_mapping(self.spans))


@dataclass(frozen=True, eq=False)
class TextTokens:
    """A text as an encoder sees it.

    ``embeddings`` : float32 (tokens, width), the last layer. ``mask`` : bool (tokens,), False for
    the encoder's own tokens, which stand for no text (such as ``[CLS]``). ``offsets`` : int
    (tokens, 2), start and stop in the text, in characters; 0, 0 where the mask is False.
    """

    embeddings: np.ndarray
    mask: np.ndarray
    offsets: np.ndarray
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        for name in ("embeddings", "mask", "offsets"):
            object.__setattr__(self, name, read_only(getattr(self, name)))


def render(schema: ClinicalSchema, record: ClinicalRecord, missing: str = "omit") -> Rendered:
    """``Age: 61 years; Sex: female; Albumin: 41 g/l.``, then the record's free text.

    Parameters
    ----------
    missing : ``omit`` leaves missing variables out, ``say`` writes ``Albumin: missing``.

    Raises
    ------
    ValueError : another ``missing``.
    """
    if missing not in _MISSING:
        raise ValueError(f"missing is {missing!r}, none of {', '.join(_MISSING)}")
    text, spans = "", {}
    for variable in schema.variables:
        if variable.name not in record.values and missing == "omit":
            continue
        part = f"{variable.title}: {describe(variable, record.values.get(variable.name))}"
        start = len(text) + (2 if text else 0)
        text = f"{text}; {part}" if text else part
        spans[variable.name] = (start, start + len(part))
    parts = [f"{text}." if text else "", record.text.strip()]
    return Rendered(" ".join(part for part in parts if part), spans)


class TextEncoder:
    """A language model that makes embeddings of the tokens of a text.

    Parameters
    ----------
    model : folder of a model (``config.json``, tokenizer, ``model.safetensors``); a name of
        :data:`REACTKDLib.prognosis.text_models.PACKAGED`; or a name at Hugging Face.
    allow_download : fetch a model of Hugging Face that is not on this machine. False: nothing
        leaves it.
    device : where torch runs it.

    Raises
    ------
    EnvironmentProblem : transformers is not installed; the model is not there, needs code of its
        own, has no safetensors, or its weights are incomplete.
    """

    def __init__(
        self, model: Path | str, *, allow_download: bool = False, device: str = "cpu"
    ) -> None:
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise EnvironmentProblem(
                "A language model needs transformers, which is not installed.",
                "Install it with pip install 'reactkd[text]'.",
            ) from error
        self.name = str(model)
        source = str(packaged_folder(self.name) or model)
        options: dict[str, Any] = {
            "trust_remote_code": False,
            "local_files_only": not allow_download,
        }
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source, use_fast=True, **options)
            network, loading = AutoModel.from_pretrained(
                source, use_safetensors=True, output_loading_info=True, **options
            )
        except Exception as error:  # whatever a damaged or foreign model makes of the library
            raise EnvironmentProblem(
                f"The language model {self.name} cannot be loaded: {_first_line(error)}.",
                "Give the folder of a model with safetensors and without code of its own"
                " (docs/clinical_input.md).",
            ) from error
        # The pooler makes one vector of a text; only tokens are used here.
        absent = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
        if absent or not getattr(self._tokenizer, "is_fast", False):
            what = f"the weights {', '.join(absent[:3])}" if absent else "a fast tokenizer"
            raise EnvironmentProblem(
                f"The language model {self.name} lacks {what}.", "Give the whole model."
            )
        if getattr(network.config, "is_encoder_decoder", False):
            network = network.get_encoder()
        self._network: Any = network.float().to(device).eval()
        self._device = device
        places = getattr(network.config, "max_position_embeddings", None) or MAX_TOKENS
        #: Tokens of a text at most, the encoder's own among them.
        self.limit = int(min(MAX_TOKENS, places, self._tokenizer.model_max_length))
        #: Width of the embeddings.
        self.width = int(network.config.hidden_size)

    def encode(self, text: str) -> TextTokens:
        """Embeddings of the tokens of ``text``.

        A text of more than ``limit`` tokens is cut off at its end; the notice ``text_truncated``
        says how many were dropped.

        Raises
        ------
        InputError : an empty text. A patient without one has no clinical text, which is normal.
        """
        if not text.strip():
            raise InputError("There is no text to encode.", "Take the modality as missing.")
        import torch

        every = self._tokenizer(text, verbose=False, return_special_tokens_mask=True)
        total = every["special_tokens_mask"].count(0)
        cut = self._tokenizer(
            text,
            truncation=True,
            max_length=self.limit,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_tensors="np",
        )
        mask = cut["special_tokens_mask"][0] == 0
        keys = [name for name in self._tokenizer.model_input_names if name in cut]
        inputs = {name: torch.from_numpy(cut[name]).to(self._device) for name in keys}
        with torch.inference_mode():
            hidden = self._network(**inputs).last_hidden_state[0]
        return TextTokens(
            embeddings=hidden.float().cpu().numpy(),
            mask=mask,
            offsets=np.where(mask[:, None], cut["offset_mapping"][0], 0).astype(np.int64),
            notices=_truncated(total - int(mask.sum()), total),
        )

    def digest(self) -> str:
        """SHA-256 of weights and tokenizer, to name the encoder in provenance."""
        tokenizer = json.loads(self._tokenizer.backend_tokenizer.to_str())
        # Both are those of the last call, not of the tokenizer.
        tokenizer |= {"truncation": None, "padding": None}
        digest = hashlib.sha256(json.dumps(tokenizer, sort_keys=True).encode())
        for name, tensor in sorted(self._network.state_dict().items()):
            if "pooler" not in name:
                digest.update(name.encode() + str(tuple(tensor.shape)).encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _truncated(dropped: int, total: int) -> tuple[Notice, ...]:
    if dropped <= 0:
        return ()
    return (
        Notice(
            "text_truncated",
            "warning",
            f"The clinical text is too long for its encoder: the last {dropped} of {total} tokens"
            " were dropped.",
        ),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
