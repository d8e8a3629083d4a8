"""From the modalities to token sequences, with a mask of the tokens that are there.

The published form makes one vector of each modality, and attention within a sequence of one is no
attention. Here every token is a thing with a name: a position of the CT, a clinical variable, a
word, a radiomics family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...errors import InputError
from .attention import zeroed
from .resnet import ResNet
from .spec import FamilySpec, ResNetSpec, VariableSpec

_OCTAVES = 4


@dataclass(frozen=True, eq=False)
class TokenSet:
    """``tokens`` (N, L, W), zeros where not in ``mask`` bool (N, L). ``grid`` : (k, j, i) of a CT's
    feature map, k * j * i = L, else None. ``aggregated`` : they have read each other already."""

    tokens: Tensor
    mask: Tensor
    grid: tuple[int, int, int] | None = None
    aggregated: bool = False

    def shown(self, present: Tensor) -> TokenSet:
        """Those of the patients ``present`` bool (N,); the others have no token."""
        mask = self.mask & present[:, None]
        return replace(self, tokens=zeroed(self.tokens, mask), mask=mask)

    def packed(self) -> tuple[TokenSet, Tensor]:
        """The tokens that are there, moved together, without a grid; and the index (N, M) of each
        among those of before. Of a box around a liver most positions lie outside it, and attention
        costs the square of their number."""
        most = max(1, int(self.mask.sum(dim=1).max()))
        index = (~self.mask).byte().argsort(dim=1, stable=True)[:, :most]
        tokens = self.tokens.gather(1, index[..., None].expand(-1, -1, self.tokens.shape[2]))
        mask = self.mask.gather(1, index)
        return replace(self, tokens=tokens, mask=mask, grid=None), index

    def repeated(self, rows: int) -> TokenSet:
        """One patient's tokens for ``rows`` rows."""
        tokens = self.tokens.expand(rows, -1, -1)
        return replace(self, tokens=tokens, mask=self.mask.expand(rows, -1))


def no_tokens(rows: int, width: int, like: Tensor) -> TokenSet:
    """The tokens of a modality that nobody has: one each, masked."""
    mask = torch.zeros(rows, 1, dtype=torch.bool, device=like.device)
    return TokenSet(like.new_zeros(rows, 1, width), mask)


class CtEncoder(nn.Module):
    """Positions of a ResNet's feature map, each with its place in the region of interest."""

    def __init__(self, spec: ResNetSpec, width: int) -> None:
        super().__init__()
        self.network = ResNet(spec)
        self.project = nn.Linear(spec.channels, width)
        self.place = nn.Linear(3 + 6 * _OCTAVES, width, bias=False)
        self.restricted = spec.region == "roi"

    def forward(self, ct: Tensor, roi: Tensor | None, present: Tensor) -> TokenSet:
        """``ct``, ``roi`` (N, 1, k, j, i); ``present`` bool (N,), whose CT is there."""
        there = present[:, None, None, None, None]
        ct = torch.where(there, ct, 0.0)
        inside = None
        if self.restricted and roi is not None:
            inside = torch.where(there, roi, 0.0).to(ct.dtype)
        features = self.network(ct, inside)
        k, j, i = features.shape[2:]
        cells = self.network.regions(inside)[-1]
        within = features.new_ones(len(ct), 1, k, j, i) if cells is None else cells
        occupied = within[:, 0] > 0
        tokens = self.project(features.flatten(2).transpose(1, 2)) + self.place(places(occupied))
        mask = occupied.flatten(1) & present[:, None]
        return TokenSet(zeroed(tokens, mask), mask, (k, j, i))


def places(occupied: Tensor) -> Tensor:
    """Fourier features (N, L, 3 + 6 octaves) of the places (k, j, i) of a region's cells.

    Coordinates run from -1 to 1 along the sides of the smallest box around the region ``occupied``
    bool (N, k, j, i), so that the box of the volume has no influence; 0 where a side is one cell.
    """
    coordinates = []
    for axis in (1, 2, 3):
        others = tuple(a for a in (1, 2, 3) if a != axis)
        along = occupied.any(dim=others[1]).any(dim=others[0]).int()
        count = along.shape[1]
        low = along.argmax(dim=1, keepdim=True)
        high = count - 1 - along.flip(1).argmax(dim=1, keepdim=True)
        index = torch.arange(count, device=occupied.device)[None]
        line = (2 * index - low - high) / (high - low).clamp_min(1)
        shape = [len(occupied), 1, 1, 1]
        shape[axis] = count
        coordinates.append(line.view(shape).expand(occupied.shape))
    place = torch.stack(coordinates, dim=-1).flatten(1, 3)
    steps = 2.0 ** torch.arange(_OCTAVES, device=place.device) * math.pi / 2
    angles = (place[..., None] * steps).flatten(2)
    return torch.cat([place, angles.sin(), angles.cos()], dim=2)


class VariableEncoder(nn.Module):
    """One token per clinical variable: what it is plus what it says.

    A number goes through a linear layer of its own and ReLU (Gorishniy et al., On embeddings for
    numerical features, NeurIPS 2022), a flag or category has a vector for each of its values.
    """

    def __init__(self, variables: Sequence[VariableSpec], width: int) -> None:
        super().__init__()
        self.names = [v.name for v in variables]
        numbers = [n for n, v in enumerate(variables) if v.kind == "number"]
        chosen = [n for n, v in enumerate(variables) if v.kind != "number"]
        sizes = [2 if variables[n].kind == "flag" else variables[n].categories for n in chosen]
        self._keep("numbers", numbers)
        self._keep("chosen", chosen)
        self._keep("sizes", sizes)
        self._keep("first", [sum(sizes[:n]) for n in range(len(sizes))])
        bound = 1 / math.sqrt(width)
        self.variable = _uniform(bound, len(variables), width)
        # Values must outweigh names: two patients differ in nothing else.
        if numbers:
            self.slope, self.offset = (
                _uniform(1.0, len(numbers), width),
                _uniform(bound, len(numbers), width),
            )
        if chosen:
            self.value = _uniform(1.0, sum(sizes), width)

    def _keep(self, name: str, numbers: list[int]) -> None:
        self.register_buffer(name, torch.tensor(numbers, dtype=torch.long), persistent=False)

    def forward(self, clinical: Tensor) -> TokenSet:
        """``clinical`` (N, variables), NaN where missing.

        Raises
        ------
        InputError : a flag or category has an index that it does not have.
        """
        clinical = clinical.to(self.variable.dtype)
        mask = clinical.isfinite()
        values = torch.where(mask, clinical, 0.0)
        tokens = self.variable.expand(len(clinical), -1, -1)
        numbers, chosen = self.get_buffer("numbers"), self.get_buffer("chosen")
        if len(numbers):
            said = (values[:, numbers, None] * self.slope + self.offset).relu()
            tokens = tokens.index_add(1, numbers, said.to(tokens.dtype))
        if len(chosen):
            index = values[:, chosen]
            wrong = (index != index.round()) | (index < 0) | (index >= self.get_buffer("sizes"))
            if wrong.any():
                row, column = (int(n) for n in wrong.nonzero()[0])
                name = self.names[int(chosen[column])]
                raise InputError(
                    f"The index {float(index[row, column]):g} of {name} does not exist.",
                    "Give the index of one of its categories, NaN where it is missing.",
                )
            said = self.value[index.long() + self.get_buffer("first")]
            tokens = tokens.index_add(1, chosen, said.to(tokens.dtype))
        return TokenSet(zeroed(tokens, mask), mask)


class ClinicalEncoder(nn.Module):
    """Tokens of the variables, then those of the text, where the network has them."""

    def __init__(self, variables: Sequence[VariableSpec], text_hidden: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.variables = VariableEncoder(variables, width) if variables else None
        self.text = nn.Linear(text_hidden, width) if text_hidden else None

    def forward(
        self, clinical: Tensor | None, text: Tensor | None, text_mask: Tensor | None
    ) -> TokenSet | None:
        """None where neither is given; shapes as in :class:`.batch.PrognosisBatch`."""
        parts = []
        if self.variables is not None and clinical is not None:
            parts.append(self.variables(clinical))
        if self.text is not None and text is not None and text_mask is not None:
            words = zeroed(text.to(self.text.weight.dtype), text_mask)
            parts.append(TokenSet(zeroed(self.text(words), text_mask), text_mask))
        if not parts:
            return None
        tokens = torch.cat([part.tokens for part in parts], dim=1)
        return TokenSet(tokens, torch.cat([part.mask for part in parts], dim=1))


class RadiomicsEncoder(nn.Module):
    """One token per family: a linear layer of its own features and of which of them are missing."""

    def __init__(self, families: Sequence[FamilySpec], width: int) -> None:
        super().__init__()
        counts = [f.features for f in families]
        # Features by family, padded with the index of an added column of zeros.
        index = torch.full((len(counts), max(counts)), sum(counts), dtype=torch.long)
        bounds = torch.empty(sum(counts), 1)
        for row, count in enumerate(counts):
            start = sum(counts[:row])
            index[row, :count] = torch.arange(start, start + count)
            bounds[start : start + count] = math.sqrt(3 / count)
        self.register_buffer("index", index, persistent=False)
        self.family = _uniform(1 / math.sqrt(width), len(counts), width)
        self.weight = nn.Parameter(_uniform(1.0, sum(counts), width).data * bounds)
        self.missing = nn.Parameter(torch.zeros(sum(counts), width))

    def forward(self, radiomics: Tensor) -> TokenSet:
        """``radiomics`` (N, features), NaN where missing. A family with no feature has no token."""
        radiomics = radiomics.to(self.weight.dtype)
        index, there = self.get_buffer("index"), radiomics.isfinite()
        weights = torch.cat([self.weight, self.missing.new_zeros(1, self.weight.shape[1])])[index]
        absent = torch.cat([self.missing, self.missing.new_zeros(1, self.weight.shape[1])])[index]
        values = _padded(torch.where(there, radiomics, 0.0))[:, index]
        known = _padded(there.to(radiomics.dtype))[:, index]
        tokens = torch.einsum("nfm,fmw->nfw", values, weights) + self.family
        tokens = tokens + torch.einsum("nfm,fmw->nfw", 1 - known, absent)
        mask = known.sum(dim=2) > 0
        return TokenSet(zeroed(tokens, mask), mask)


def _padded(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_zeros(len(values), 1)], dim=1)


def _uniform(bound: float, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
