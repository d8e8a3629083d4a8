"""From token streams of the modalities to logits: cross-attention, and two comparators.

Every fusion reads the same: the streams after the intra-modality aggregation, their means (N, 3, W)
and bool (N, 3), which of them are there, both in the order of ``MODALITIES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..types import CT, MODALITIES
from .attention import Attention, GatedPooling, masked_softmax, zeroed
from .spec import PrognosisNetworkSpec
from .tokens import TokenSet


@dataclass(frozen=True, eq=False)
class Fused:
    """``logits`` (N, classes); ``attention`` (N, L) and ``ct_logits`` (N, L, classes) over the
    CT's tokens, as in :class:`.batch.PrognosisOutput`, None where there is no such thing."""

    logits: Tensor
    attention: Tensor | None = None
    ct_logits: Tensor | None = None


class CrossAttentionLayer(nn.Module):
    """What one modality makes of its own tokens and of their contexts in others: a projection of
    [own ; contexts], residual, LayerNorm."""

    def __init__(self, spec: PrognosisNetworkSpec, sources: tuple[str, ...]) -> None:
        super().__init__()
        self.sources, width = sources, spec.width
        self.attentions = nn.ModuleDict(
            {name: Attention(width, spec.heads, spec.dropout) for name in sources}
        )
        self.project = nn.Sequential(
            nn.Linear(width * (1 + len(sources)), width),
            nn.GELU(),
            nn.Dropout(spec.dropout),
            nn.Linear(width, width),
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, own: TokenSet, streams: Mapping[str, TokenSet]) -> TokenSet:
        """The tokens of ``own``, changed; a source that is missing is the context zero."""
        contexts = [
            self.attentions[name](own.tokens, streams[name].tokens, streams[name].mask)
            for name in self.sources
        ]
        changed = self.project(torch.cat([own.tokens, *contexts], dim=2))
        return TokenSet(zeroed(self.norm(own.tokens + changed), own.mask), own.mask, own.grid)


class TriModalCrossAttention(nn.Module):
    """TCAF, the triple-modal cross-attention fusion, over real tokens of width 64 or more.

    Text asks radiomics, radiomics the image and the image text, or all ask all. The published form
    ends in a 1-D DenseNet over channels, whose order means nothing; here every stream is averaged
    with gated weights and the head is linear in the three means, so that each CT position's part of
    the logits is exact. A missing modality is a learned vector in the place of its mean.
    """

    def __init__(self, spec: PrognosisNetworkSpec) -> None:
        super().__init__()
        sources: dict[str, tuple[str, ...]] = {}
        for query, source in spec.cross_directions:
            sources[query] = (*sources.get(query, ()), source)
        self.modalities = spec.modalities
        self.cross = nn.ModuleDict(
            {query: CrossAttentionLayer(spec, found) for query, found in sources.items()}
        )
        self.pools = nn.ModuleDict({name: GatedPooling(spec.width) for name in spec.modalities})
        self.absent = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(spec.width) * 0.02) for name in spec.modalities}
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.heads = nn.ModuleDict(
            {n: nn.Linear(spec.width, spec.classes, bias=False) for n in spec.modalities}
        )
        self.bias = nn.Parameter(torch.zeros(spec.classes))

    def streams(self, streams: Mapping[str, TokenSet]) -> dict[str, TokenSet]:
        """Every stream after the cross-attention; all read the streams as they came."""
        return {
            name: self.cross[name](own, streams) if name in self.cross else own
            for name, own in streams.items()
        }

    def forward(self, streams: Mapping[str, TokenSet], vectors: Tensor, presence: Tensor) -> Fused:
        """Fuse; ``vectors`` is not read."""
        logits = self.bias.expand(len(presence), -1)
        attention = ct_logits = None
        for name, stream in self.streams(streams).items():
            weights = self.pools[name](stream.tokens, stream.mask)
            absent, head = self.absent[name], self.heads[name]
            there = presence[:, MODALITIES.index(name), None]
            # Dropout belongs to the mean alone: the value for "missing" is no feature.
            mean = self.dropout(torch.einsum("nl,nlw->nw", weights, stream.tokens))
            logits = logits + head(torch.where(there, mean, absent))
            if name == CT:
                attention = weights
                ct_logits = weights[..., None] * head(stream.tokens - absent)
        return Fused(logits, attention, ct_logits)


class Concatenation(nn.Module):
    """Comparator: the three means side by side, two linear layers; no modality sees another."""

    def __init__(self, spec: PrognosisNetworkSpec) -> None:
        super().__init__()
        self.modalities = spec.modalities
        self.absent = nn.Parameter(torch.randn(len(spec.modalities), spec.width) * 0.02)
        self.head = nn.Sequential(
            nn.Linear(len(spec.modalities) * spec.width, spec.width),
            nn.ReLU(),
            nn.Dropout(spec.dropout),
            nn.Linear(spec.width, spec.classes),
        )

    def forward(self, streams: Mapping[str, TokenSet], vectors: Tensor, presence: Tensor) -> Fused:
        """Fuse; of ``streams`` nothing is read."""
        index = [MODALITIES.index(name) for name in self.modalities]
        known = torch.where(presence[:, index, None], vectors[:, index], self.absent)
        return Fused(self.head(known.flatten(1)))


class FactorisedBilinear(nn.Module):
    """Products of two vectors at low rank: project both, multiply, sum over the rank, signed square
    root, unit length."""

    def __init__(self, first: int, second: int | None, outputs: int, rank: int, dropout: float):
        super().__init__()
        self.first = nn.Linear(first, outputs * rank)
        # One projection for a vector with itself, as in HFBSurv.
        self.second = None if second is None else nn.Linear(second, outputs * rank)
        self.dropout, self.rank = nn.Dropout(dropout), rank

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """(N, first), (N, second) to (N, outputs)."""
        projected = self.first(one)
        product = self.dropout(
            projected * (projected if self.second is None else self.second(other))
        )
        summed = product.unflatten(1, (-1, self.rank)).sum(dim=2)
        # The small number keeps the slope at zero finite.
        return functional.normalize(summed.sign() * (summed.abs() + 1e-8).sqrt(), dim=1)


class HierarchicalBilinear(nn.Module):
    """Comparator after HFBSurv (Li et al., Bioinformatics 2022): each modality with itself, then
    each pair, weighted by attention; sizes as published.

    Ours: LayerNorm in place of batch norm, logits in place of a risk, a projection per pair, and a
    missing modality takes part in nothing.
    """

    hidden, outputs, rank, coded = 50, 20, 20, (256, 64)

    def __init__(self, spec: PrognosisNetworkSpec) -> None:
        super().__init__()
        self.modalities = spec.modalities
        self.pairs = list(combinations(spec.modalities, 2))
        joint = self.hidden + self.outputs
        self.encoders, self.own, self.joined = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for name in spec.modalities:
            self.encoders[name] = nn.Sequential(
                nn.Linear(spec.width, self.hidden),
                nn.Tanh(),
                nn.Linear(self.hidden, self.hidden),
                nn.Tanh(),
            )
            self.own[name] = FactorisedBilinear(
                self.hidden, None, self.outputs, self.rank, spec.dropout
            )
        for one, other in self.pairs:
            self.joined[f"{one}_{other}"] = FactorisedBilinear(
                joint, joint, self.outputs, self.rank, spec.dropout
            )
        self.attention = nn.Linear(joint, 1)
        wide = joint + (self.outputs if self.pairs else 0)
        first, second = self.coded
        self.head = nn.Sequential(
            nn.LayerNorm(wide),
            nn.Linear(wide, first),
            nn.Tanh(),
            nn.Dropout(spec.dropout),
            nn.Linear(first, second),
            nn.Tanh(),
            nn.Dropout(spec.dropout),
            nn.Linear(second, spec.classes),
        )

    def forward(self, streams: Mapping[str, TokenSet], vectors: Tensor, presence: Tensor) -> Fused:
        """Fuse; of ``streams`` nothing is read."""
        weighted, weight, there = {}, {}, {}
        for name in self.modalities:
            index = MODALITIES.index(name)
            coded = self.encoders[name](vectors[:, index])
            joint = torch.cat([coded, self.own[name](coded, coded)], dim=1)
            there[name] = presence[:, index, None]
            weight[name] = torch.sigmoid(self.attention(joint)) * there[name]
            weighted[name] = joint * weight[name]
        parts = [torch.stack(list(weighted.values())).sum(dim=0)]
        if self.pairs:
            parts.append(self._pairs(weighted, weight, there))
        return Fused(self.head(torch.cat(parts, dim=1)))

    def _pairs(
        self, weighted: dict[str, Tensor], weight: dict[str, Tensor], there: dict[str, Tensor]
    ) -> Tensor:
        """Sum of the pairs' products (N, outputs): pairs that are alike count less."""
        scores, products, both = [], [], []
        for one, other in self.pairs:
            alike = weighted[one].softmax(dim=1) * weighted[other].softmax(dim=1)
            similarity = alike.sum(dim=1, keepdim=True)
            scores.append((weight[one] + weight[other]) / (similarity + 0.5))
            products.append(self.joined[f"{one}_{other}"](weighted[one], weighted[other]))
            both.append(there[one] & there[other])
        weights = masked_softmax(torch.cat(scores, dim=1), torch.cat(both, dim=1))
        return torch.einsum("np,npw->nw", weights, torch.stack(products, dim=1))


def make_fusion(spec: PrognosisNetworkSpec) -> nn.Module:
    """The fusion that a specification asks for."""
    kinds = {
        "tmi": TriModalCrossAttention,
        "concatenation": Concatenation,
        "hfb": HierarchicalBilinear,
    }
    return kinds[spec.fusion](spec)
