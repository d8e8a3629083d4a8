"""Attention over token sequences of which some tokens are missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention, the computation of ``torch.nn.MultiheadAttention``.

    Keys have no bias: adding one vector to every key changes no softmax, so it could never learn.
    A query that finds no valid key has the context zero.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Context (N, Q, W) of ``queries`` (N, Q, W) in ``tokens`` (N, L, W); ``mask`` (N, L)."""
        found = mask.any(dim=1)[:, None, None]
        # Where no key is valid all are, for the softmax's sake; the answer is set to zero below.
        usable = (mask[:, None] | ~found)[:, None]
        context = functional.scaled_dot_product_attention(
            self._split(self.query(queries)),
            self._split(self.key(tokens)),
            self._split(self.value(tokens)),
            attn_mask=usable,
            dropout_p=self.dropout if self.training else 0.0,
        )
        joined = self.out(context.transpose(1, 2).flatten(2))
        return torch.where(found, joined, 0.0)

    def _split(self, tokens: Tensor) -> Tensor:
        """(N, L, W) to (N, heads, L, W / heads)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class SelfAttention(nn.Module):
    """One layer of the intra-modality aggregation: attention among a modality's own tokens,
    residual, LayerNorm; no feed-forward part, as published."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (N, L, W) to the same; those masked come out as zeros."""
        context = self.attention(tokens, tokens, mask)
        return zeroed(self.norm(tokens + self.dropout(context)), mask)


class GatedPooling(nn.Module):
    """Weights of tokens, from the tokens: Ilse et al., Attention-based deep multiple instance
    learning, ICML 2018, the gated form."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(1, width // 2)
        self.what, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would change no softmax

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Weights (N, L), 0 where masked; they sum to 1, or to 0 where every token is masked."""
        scores = self.score(torch.tanh(self.what(tokens)) * torch.sigmoid(self.gate(tokens)))
        return masked_softmax(scores[..., 0], mask)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax (N, L) over the entries of ``mask``; zeros in a row that has none."""
    lowest = torch.finfo(scores.dtype).min
    return torch.where(mask, scores.masked_fill(~mask, lowest).softmax(dim=1), 0.0)


def zeroed(tokens: Tensor, mask: Tensor) -> Tensor:
    """Tokens (N, L, W), zeros where not in ``mask`` (N, L), whatever stood there (NaN too)."""
    return torch.where(mask[..., None], tokens, 0.0)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean (N, W) of the tokens (N, L, W) of ``mask``; zeros in a row that has none."""
    return zeroed(tokens, mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)[:, None]
