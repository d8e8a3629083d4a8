"""MONAI's Swin transformer as an encoder whose deepest stage keeps its resolution."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from REACTKDLib.errors import OptionError


@dataclass(frozen=True)
class SwinSpec:
    """Shape of a Swin encoder.

    ``patch`` and ``window`` (k, j, i): voxels per token, tokens per window. ``depths`` blocks and
    ``heads`` of each stage, four at most; every stage but the last halves the grid and doubles the
    ``embedding`` channels. Choose the window so that it divides the token grid: what is left is
    padded, at full cost.
    """

    patch: tuple[int, int, int]
    window: tuple[int, int, int]
    embedding: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Channels of the deepest stage."""
        return self.embedding * 2 ** (len(self.depths) - 1)

    @property
    def stride(self) -> tuple[int, int, int]:
        """Voxels per cell of the deepest stage, (k, j, i)."""
        k, j, i = (p * 2 ** (len(self.depths) - 1) for p in self.patch)
        return (k, j, i)


class SwinEncoder(nn.Module):
    """Volumes (N, C, k, j, i) to the normalised features of the deepest stage.

    Source: MONAI's ``SwinTransformer``, the encoder of SwinUNETR (Hatamizadeh et al., 2022). Its
    last stage would merge tokens after its blocks; it does not here, so that a cell of the feature
    map is as small as the tokens that attended to each other.

    Raises
    ------
    OptionError : stages that MONAI's transformer cannot have.
    """

    def __init__(self, spec: SwinSpec, in_channels: int) -> None:
        super().__init__()
        stages = len(spec.depths)
        if not 1 <= stages <= 4 or len(spec.heads) != stages:
            raise OptionError(
                f"Swin depths {spec.depths} with heads {spec.heads}.",
                "Give one to four stages, and the heads of each.",
            )
        transformer = SwinTransformer(
            in_chans=in_channels,
            embed_dim=spec.embedding,
            window_size=spec.window,
            patch_size=spec.patch,
            depths=spec.depths,
            num_heads=spec.heads,
        )
        self.patch_embed = transformer.patch_embed
        layers = [getattr(transformer, f"layers{n + 1}")[0] for n in range(stages)]
        layers[-1].downsample = None
        self.stages = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(spec.channels)

    def forward(self, volume: Tensor) -> Tensor:
        """Features (N, channels, k', j', i')."""
        tokens = self.patch_embed(volume)
        for stage in self.stages:
            tokens = stage(tokens.contiguous())
        return self.norm(tokens.movedim(1, -1)).movedim(-1, 1)


def load_swin(encoder: nn.Module, state: Mapping[str, Tensor], title: str = "encoder") -> None:
    """Copy weights into a :class:`SwinEncoder`.

    ``state`` : of a :class:`SwinEncoder`, or of MONAI's ``SwinTransformer``, alone or within
    ``SwinUNETR``, whose last merge of tokens and whatever lies beyond the transformer are left out.
    ``title`` : what to call the encoder in an error.

    Raises
    ------
    OptionError : other input channels, layers or shapes than the encoder has, all left unchanged.
    """
    own = encoder.state_dict()
    of_monai = any("layers1.0." in name for name in state)
    given = _from_monai(state, own) if of_monai else dict(state)
    patches = "patch_embed.proj.weight"
    if patches in given and given[patches].shape[1] != (channels := own[patches].shape[1]):
        raise OptionError(
            f"The {title} reads {channels} channel(s), these weights {given[patches].shape[1]}, as "
            "do those of a teacher's branch that reads CT and PET together.",
            f"Take an encoder of {channels} channel(s), such as that of a branch that reads the CT "
            "alone.",
        )
    wrong = [f"{name} is missing" for name in own if name not in given]
    wrong += [f"{name} is unknown" for name in given if name not in own]
    wrong += [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise OptionError(
            f"Weights do not fit the {title}: {'; '.join(wrong[:3])}{more}.",
            "Give both the same patch, window, embedding, depths and heads.",
        )
    encoder.load_state_dict(given)


_MONAI_PART = re.compile(r"(?:module\.)?(?:swinViT\.)?(?=patch_embed\.|layers\d)")
_MONAI_STAGE = re.compile(r"layers(\d)\.0\.")


def _from_monai(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of a :class:`SwinEncoder` with the state ``own``."""
    found = {}
    for name, value in state.items():
        if part := _MONAI_PART.match(name):
            renamed = name[part.end() :]
            if stage := _MONAI_STAGE.match(renamed):
                renamed = f"stages.{int(stage[1]) - 1}.{renamed[stage.end() :]}"
            # Weights published before MONAI renamed these two layers have fc1 and fc2.
            found[renamed.replace("mlp.fc", "mlp.linear")] = value
    last = max(int(name.split(".")[1]) for name in found if name.startswith("stages."))
    found = {n: v for n, v in found.items() if not n.startswith(f"stages.{last}.downsample.")}
    # MONAI normalises without weights, which is what these say.
    return found | {
        "norm.weight": torch.ones_like(own["norm.weight"]),
        "norm.bias": torch.zeros_like(own["norm.bias"]),
    }
