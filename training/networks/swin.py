"""MONAI's Swin transformer as an encoder whose deepest stage keeps its resolution."""

from __future__ import annotations

from dataclasses import dataclass

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
