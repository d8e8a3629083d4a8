"""Clinical text of patients as token vectors of a language model, which stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from REACTKDLib.prognosis.metadata import TextEncoderSpec
from REACTKDLib.prognosis.model import text_encoder, text_inputs, text_of
from REACTKDLib.prognosis.types import ClinicalRecord, ClinicalSchema, PatientArrays

__all__ = ["TextReader", "encoded", "record_of"]


def record_of(schema: ClinicalSchema, arrays: PatientArrays) -> ClinicalRecord:
    """The record that arrays were made of: :mod:`REACTKDLib.prognosis.clinical_arrays` back."""
    values: dict[str, float | bool | str] = {}
    if arrays.clinical is not None:
        for variable, value in zip(schema.variables, arrays.clinical.tolist(), strict=True):
            if np.isnan(value):
                continue
            if variable.kind == "category":
                values[variable.name] = variable.categories[int(value)]
            else:
                values[variable.name] = bool(value) if variable.kind == "flag" else value
    return ClinicalRecord(values, arrays.text)


@lru_cache(maxsize=4096)
def encoded(spec: TextEncoderSpec, text: str, form: str) -> tuple[Tensor, Tensor]:
    """Vectors (tokens, width) in half precision and mask (tokens,) of a text; each text once.

    Raises
    ------
    EnvironmentProblem, ModelPackageError : as :func:`REACTKDLib.prognosis.model.text_encoder`.
    """
    tokens = text_encoder(spec.name, spec.digest, "cpu").encode(text)
    vectors, mask = text_inputs(tokens, form)
    return vectors[0].half(), mask[0]


@dataclass(frozen=True)
class TextReader:
    """What a network reads of patients' text; ``form`` is the network's."""

    spec: TextEncoderSpec
    schema: ClinicalSchema
    form: str

    @property
    def width(self) -> int:
        """Width of a token's vector."""
        return text_encoder(self.spec.name, self.spec.digest, "cpu").width

    def __call__(self, patients: Sequence[PatientArrays]) -> tuple[Tensor, Tensor]:
        """Vectors (N, tokens, width), half precision, and mask (N, tokens); a patient without text
        has no token.

        Raises
        ------
        EnvironmentProblem, ModelPackageError : as :func:`encoded`.
        """
        texts = [text_of(self.spec, self.schema, record_of(self.schema, p)) for p in patients]
        found = [encoded(self.spec, text, self.form) if text else None for text in texts]
        longest = max((len(one[1]) for one in found if one is not None), default=1)
        width = next((one[0].shape[1] for one in found if one is not None), 0) or self.width
        vectors = torch.zeros(len(found), longest, width, dtype=torch.float16)
        mask = torch.zeros(len(found), longest, dtype=torch.bool)
        for row, one in enumerate(found):
            if one is not None:
                vectors[row, : len(one[1])], mask[row, : len(one[1])] = one
        return vectors, mask
