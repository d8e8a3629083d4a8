"""A small prognosis network and generated patients for it."""

from __future__ import annotations

from dataclasses import replace

import torch

from REACTKDLib.prognosis.networks.batch import PrognosisBatch
from REACTKDLib.prognosis.networks.spec import (
    FaithfulSpec,
    FamilySpec,
    PrognosisNetworkSpec,
    ResNetSpec,
    VariableSpec,
)

CT = ResNetSpec(layers=(1, 1, 1), widths=(8, 8, 16), conv1_kernel=3, groups=4)
#: Variables of every kind, text and three families.
SPEC = PrognosisNetworkSpec(
    variables=(
        VariableSpec("age"),
        VariableSpec("albumin"),
        VariableSpec("hbv", "flag"),
        VariableSpec("stage", "category", 3),
    ),
    text_hidden=12,
    families=(FamilySpec("original_glcm", 4), FamilySpec("log_glcm", 3), FamilySpec("shape", 5)),
    ct=CT,
    dropout=0.0,
)
FAITHFUL = replace(
    SPEC,
    form="faithful",
    ct=replace(CT, norm="batch", region="volume"),
    faithful=FaithfulSpec(10, (16, 12), (2, 2), 4, 8),
)


def patients(count: int = 5, seed: int = 3) -> PrognosisBatch:
    """Complete patients with an odd region of interest that differs among them."""
    draw = torch.Generator().manual_seed(seed)
    size = (9, 17, 17)
    roi = torch.zeros(count, 1, *size)
    for row in range(count):
        roi[row, :, 1 + row % 3 : 8, 2:15, 1 + row % 2 : 11] = 1
        roi[row, :, 4:, 6:9] *= 0.5
    numbers = torch.randn(count, 2, generator=draw)
    flag = torch.randint(2, (count, 1), generator=draw)
    stage = torch.randint(3, (count, 1), generator=draw)
    return PrognosisBatch(
        ct=torch.randn(count, 1, *size, generator=draw),
        roi=roi,
        clinical=torch.cat([numbers, flag, stage], dim=1),
        text=torch.randn(count, 6, 12, generator=draw),
        text_mask=torch.arange(6)[None] < torch.arange(count)[:, None] % 5 + 2,
        radiomics=torch.randn(count, 12, generator=draw),
        present=torch.ones(count, 3, dtype=torch.bool),
    )


def rows(batch: PrognosisBatch, index: list[int]) -> PrognosisBatch:
    """Some patients of a batch."""
    given = {name: value for name, value in vars(batch).items() if value is not None}
    return replace(batch, **{name: value[index] for name, value in given.items()})
