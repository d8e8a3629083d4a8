"""TMI-CLNet as published, degeneracies and all, so that it can be compared with the corrected form.

Source: arXiv 2502.00695 and the authors' code. Each step makes one vector of each modality. What is
degenerate about it, with the test that shows it in ``Testing/unit/test_prognosis_faithful.py``:

1. Intra-modality aggregation attends within a sequence of one. A softmax over one key is 1, so
   queries and keys have no influence and no gradient: it is a linear layer with LayerNorm.
2. Cross-attention takes the channels of a vector for tokens of width 1. What a channel finds does
   not depend on which of the other modality's channels holds which value, only on the set of them.
3. A sigmoid stands before the cross-entropy, which keeps the loss of two classes within
   0.313..1.313 however sure and wrong an answer is. The network returns what the sigmoid takes;
   the loss and :func:`.build.log_probabilities` apply it.
4. Batch norm, at a batch size of 2. In training one patient's answer depends on the other's.
5. The 1-D DenseNet slides over channels, whose neighbourhood means nothing, and pools them.

The published form knows no missing values. Here a missing value is 0, the mean after
standardisation, and a missing modality is a vector of zeros after the aggregation; the others'
channels attend to these zeros all the same.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..types import CLINICAL, CT, MODALITIES, RADIOMICS
from .attention import zeroed
from .batch import PrognosisBatch, PrognosisOutput, check_batch
from .resnet import ResNet
from .spec import PrognosisNetworkSpec
from .tokens import TokenSet


class SingleTokenAttention(nn.Module):
    """Self-attention, residual, LayerNorm on a sequence of length 1 (dropout as published)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_dropout, self.dropout = nn.Dropout(0.5), nn.Dropout(0.2)
        self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, 1, W) to the same."""
        q, k, v = (
            layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        context = (self.attention_dropout(weights) @ v).transpose(1, 2).flatten(2)
        return self.norm(tokens + self.dropout(self.out(context)))


class ChannelCrossAttention(nn.Module):
    """A vector's channels attend to another's; all are tokens of width 1."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(1, 1) for _ in range(3))
        self.out, self.dropout = nn.Linear(2, 1), nn.Dropout(0.1)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """(N, W, 1) and (N, W, 1) to (N, W, 1)."""
        weights = (self.query(own) @ self.key(other).transpose(1, 2)).softmax(dim=-1)
        context = self.dropout(weights) @ self.value(other)
        return self.out(torch.cat([own, context], dim=2))


class DenseLayer(nn.Module):
    """Norm, ReLU, convolution of kernel 1, the same of kernel 3, beside the input."""

    def __init__(self, channels: int, growth: int, middle: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Conv1d(channels, middle, 1),
            nn.BatchNorm1d(middle),
            nn.ReLU(),
            nn.Conv1d(middle, growth, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, L) to (N, C + growth, L)."""
        return torch.cat([features, self.layers(features)], dim=1)


class DenseNet1d(nn.Module):
    """1-D DenseNet of one channel: dense blocks, between them half the channels and half the
    length; mean; two linear layers."""

    def __init__(self, spec: PrognosisNetworkSpec) -> None:
        super().__init__()
        sizes, channels = spec.faithful, spec.faithful.dense_features
        layers: list[nn.Module] = [
            nn.Conv1d(1, channels, 7, stride=2, padding=3),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.MaxPool1d(3, 2, 1),
        ]
        for block, depth in enumerate(sizes.dense_layers):
            if block:
                half = nn.Conv1d(channels, channels // 2, 3, padding=1)
                layers += [nn.BatchNorm1d(channels), nn.ReLU(), half, nn.AvgPool1d(2)]
                channels //= 2
            for _ in range(depth):
                layers.append(DenseLayer(channels, sizes.dense_growth))
                channels += sizes.dense_growth
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(channels // 2, spec.classes),
        )

    def forward(self, signal: Tensor) -> Tensor:
        """(N, 1, L) to logits (N, classes)."""
        return self.classifier(self.features(signal).mean(dim=2))


class FaithfulNetwork(nn.Module):
    """The published form, with the interface of :class:`.tmi.TmiNetwork`.

    Clinical variables are one vector (categories by their index), text is the first token's vector:
    what a pooled BERT reads. Sizes of ``spec.faithful``; ``spec.layers``, ``directions`` and
    ``dropout`` are not read. ``intra_modality_aggregation`` and ``cross_attention`` are.
    """

    def __init__(self, spec: PrognosisNetworkSpec) -> None:
        super().__init__()
        self.spec, sizes, width = spec, spec.faithful, spec.width
        used = spec.modalities
        if CT in used:
            self.resnet = ResNet(spec.ct, sizes.ct_features)
            self.ct = nn.Linear(sizes.ct_features, width)
        if CLINICAL in used:
            self.clinical = nn.Linear(len(spec.variables) + spec.text_hidden, width)
        if RADIOMICS in used:
            first, second = sizes.radiomics_hidden
            self.radiomics = nn.Sequential(
                nn.Linear(spec.radiomics_features, first),
                nn.BatchNorm1d(first),
                nn.ReLU(),
                nn.Linear(first, second),
                nn.Linear(second, width),
            )
        self.aggregation = nn.ModuleDict()
        if spec.intra_modality_aggregation:
            self.aggregation.update({n: SingleTokenAttention(width, spec.heads) for n in used})
        self.cross = nn.ModuleDict({q: ChannelCrossAttention() for q, _ in self._directions()})
        self.head = DenseNet1d(spec)

    def _directions(self) -> tuple[tuple[str, str], ...]:
        return replace(self.spec, directions="cyclic").cross_directions

    def ct_tokens(self, batch: PrognosisBatch) -> TokenSet | None:
        """The CT as one token (N, 1, W) before the aggregation; :meth:`forward` takes it back."""
        if CT not in self.spec.modalities or batch.ct is None:
            return None
        shown = batch.shown(CT)
        there = shown[:, None, None, None, None]
        roi = batch.roi if self.spec.ct.region == "roi" else None
        ct = torch.where(there, batch.ct, 0.0)
        if roi is not None:
            roi = torch.where(there, roi, 0.0).to(ct.dtype)
        vector = self.ct(self.resnet.pooled(ct, roi))
        return TokenSet(zeroed(vector[:, None], shown[:, None]), shown[:, None])

    def encode(self, batch: PrognosisBatch, ct: TokenSet | None = None) -> dict[str, TokenSet]:
        """One token (N, 1, W) of every modality that the batch has."""
        found = {}
        image = self.ct_tokens(batch) if ct is None else ct
        if image is not None:
            found[CT] = image
        clinical = self._clinical(batch) if CLINICAL in self.spec.modalities else None
        if clinical is not None:
            found[CLINICAL] = clinical
        if RADIOMICS in self.spec.modalities and batch.radiomics is not None:
            found[RADIOMICS] = self._vector(self.radiomics, batch.radiomics)
        return {name: tokens.shown(batch.shown(name)) for name, tokens in found.items()}

    def _vector(self, layers: nn.Module, values: Tensor) -> TokenSet:
        """One token of ``values`` (N, n); nobody who has no finite value has one."""
        values = values.to(next(self.parameters()).dtype)
        known = values.isfinite()
        return TokenSet(layers(torch.where(known, values, 0.0))[:, None], known.any(1)[:, None])

    def _clinical(self, batch: PrognosisBatch) -> TokenSet | None:
        if batch.clinical is None and batch.text is None:
            return None
        spec, like = self.spec, next(self.parameters())
        missing = like.new_full((len(batch), 1), torch.nan)
        parts = [missing.expand(-1, len(spec.variables))]
        if batch.clinical is not None and spec.variables:
            parts = [batch.clinical]
        text = missing.expand(-1, spec.text_hidden)
        if batch.text is not None and batch.text_mask is not None and spec.text_hidden:
            text = torch.where(batch.text_mask[:, :1], batch.text[:, 0], torch.nan)
        return self._vector(self.clinical, torch.cat([*parts, text], dim=1))

    def forward(self, batch: PrognosisBatch, ct: TokenSet | None = None) -> PrognosisOutput:
        """Logits before the published sigmoid; there is no attention over the CT.

        Raises
        ------
        InputError : the batch does not fit the network.
        ValueError : one patient alone in training (batch norm).
        """
        check_batch(batch, self.spec)
        tokens, vectors, presence = self.encode(batch, ct), {}, []
        nobody = torch.zeros(len(batch), 1, dtype=torch.bool, device=next(self.parameters()).device)
        zero = next(self.parameters()).new_zeros(len(batch), self.spec.width)
        for name in MODALITIES:
            own = tokens.get(name)
            vectors[name] = zero
            presence.append(nobody if own is None else own.mask)
            if own is not None:
                layer = self.aggregation[name] if name in self.aggregation else nn.Identity()
                vectors[name] = zeroed(layer(own.tokens), own.mask)[:, 0]
        columns = {name: vectors[name][..., None] for name in self.spec.modalities}
        fused = dict(columns)
        for query, source in self._directions():
            fused[query] = self.cross[query](columns[query], columns[source])
        logits = self.head(torch.cat(list(fused.values()), dim=1).transpose(1, 2))
        stacked = torch.stack([vectors[name] for name in MODALITIES], dim=1)
        return PrognosisOutput(logits, stacked, torch.cat(presence, dim=1))
