"""TMI-CLNet, corrected: tokens, intra-modality aggregation, cross-attention, logits.

Source: arXiv 2502.00695. What differs from the published form, and why: :mod:`.faithful`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..types import CLINICAL, CT, MODALITIES, RADIOMICS
from .attention import SelfAttention, masked_mean
from .batch import PrognosisBatch, PrognosisOutput, check_batch
from .fusion import Fused, make_fusion
from .spec import PrognosisNetworkSpec
from .tokens import ClinicalEncoder, CtEncoder, RadiomicsEncoder, TokenSet, no_tokens


class TmiNetwork(nn.Module):
    """The corrected network, its ablations and the comparators on the same trunk.

    Any modality of any patient may be missing: its tokens are masked everywhere, so what its
    tensors hold there has no influence. No layer mixes patients.
    """

    def __init__(self, spec: PrognosisNetworkSpec) -> None:
        super().__init__()
        self.spec, width = spec, spec.width
        self.encoders = nn.ModuleDict()
        if CT in spec.modalities:
            self.encoders[CT] = CtEncoder(spec.ct, width)
        if CLINICAL in spec.modalities:
            self.encoders[CLINICAL] = ClinicalEncoder(spec.variables, spec.text_hidden, width)
        if RADIOMICS in spec.modalities:
            self.encoders[RADIOMICS] = RadiomicsEncoder(spec.families, width)
        layers = spec.layers if spec.intra_modality_aggregation else 0
        self.aggregation = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    SelfAttention(width, spec.heads, spec.dropout) for _ in range(layers)
                )
                for name in spec.modalities
            }
        )
        self.fusion = make_fusion(spec)

    def ct_tokens(self, batch: PrognosisBatch) -> TokenSet | None:
        """The CT's tokens alone, the expensive part: :meth:`forward` takes them back."""
        if CT not in self.spec.modalities or batch.ct is None:
            return None
        return self.encoders[CT](batch.ct, batch.roi, batch.shown(CT))

    def encode(self, batch: PrognosisBatch, ct: TokenSet | None = None) -> dict[str, TokenSet]:
        """The tokens of every modality of the network, none where a patient lacks it.

        ``ct`` : :meth:`ct_tokens` of the same patients, in the place of ``batch.ct``.
        """
        found: dict[str, TokenSet | None] = {CT: self.ct_tokens(batch) if ct is None else ct}
        if CLINICAL in self.spec.modalities:
            found[CLINICAL] = self.encoders[CLINICAL](batch.clinical, batch.text, batch.text_mask)
        if RADIOMICS in self.spec.modalities and batch.radiomics is not None:
            found[RADIOMICS] = self.encoders[RADIOMICS](batch.radiomics)
        like = next(self.parameters())
        sets = {}
        for name in self.spec.modalities:
            tokens = found.get(name)
            if tokens is None:
                sets[name] = no_tokens(len(batch), self.spec.width, like)
            else:
                sets[name] = tokens.shown(batch.shown(name))
        return sets

    def aggregate(self, streams: dict[str, TokenSet]) -> dict[str, TokenSet]:
        """IMA, the intra-modality aggregation: every modality's tokens read each other, once."""
        found = {}
        for name, stream in streams.items():
            tokens = stream.tokens
            layers = self.aggregation[name]
            assert isinstance(layers, nn.ModuleList)
            if not stream.aggregated:
                for layer in layers:
                    tokens = layer(tokens, stream.mask)
            found[name] = replace(stream, tokens=tokens, aggregated=True)
        return found

    def forward(self, batch: PrognosisBatch, ct: TokenSet | None = None) -> PrognosisOutput:
        """Logits and what explains them; ``ct`` as in :meth:`encode`.

        Raises
        ------
        InputError : the batch does not fit the network, or a category does not exist.
        """
        check_batch(batch, self.spec)
        encoded = self.encode(batch, ct)
        grid = encoded[CT].grid if CT in encoded else None
        index = None
        if grid is not None:
            encoded[CT], index = encoded[CT].packed()
        streams = self.aggregate(encoded)
        vectors, presence = summaries(streams, self.spec.width)
        fused: Fused = self.fusion(streams, vectors, presence)
        attention = ct_logits = None
        if index is not None and grid is not None and fused.attention is not None:
            assert fused.ct_logits is not None
            attention = on_grid(fused.attention[..., None], index, grid)[:, 0]
            ct_logits = on_grid(fused.ct_logits, index, grid)
        return PrognosisOutput(fused.logits, vectors, presence, attention, ct_logits)


def on_grid(values: Tensor, index: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Values (N, M, C) of packed tokens at their positions (N, C, k, j, i), zeros elsewhere."""
    found = values.new_zeros(len(values), math.prod(grid), values.shape[2])
    found = found.scatter(1, index[..., None].expand(-1, -1, values.shape[2]), values)
    return found.transpose(1, 2).unflatten(2, grid)


def summaries(streams: dict[str, TokenSet], width: int) -> tuple[Tensor, Tensor]:
    """Means (N, 3, W) of the streams' tokens, and bool (N, 3) who has any."""
    first = next(iter(streams.values()))
    zero = first.tokens.new_zeros(len(first.mask), width)
    vectors, presence = [], []
    for name in MODALITIES:
        stream = streams.get(name)
        vectors.append(zero if stream is None else masked_mean(stream.tokens, stream.mask))
        presence.append(first.mask.new_zeros(len(zero)) if stream is None else stream.mask.any(1))
    return torch.stack(vectors, dim=1), torch.stack(presence, dim=1)
