"""Low-rank adaptation: frozen linear layers that learn a small update.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022. REACT-KD's variant
of the student freezes its Swin encoders and learns updates of rank 4 with alpha 16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from REACTKDLib.errors import OptionError

#: The attention's and the MLP's linear layers in MONAI's Swin blocks.
SWIN_LAYERS = ("attn.qkv", "attn.proj", "mlp.linear1", "mlp.linear2")


@dataclass(frozen=True)
class LoraSpec:
    """Which linear layers learn an update, and of which size.

    ``rank`` of the update, whose scale is ``alpha / rank``; ``layers`` : the last parts of the
    layers' dotted names, "attn.qkv" for every layer ``qkv`` of a module ``attn``.

    Raises
    ------
    OptionError : a rank that is no positive integer, an alpha that is not positive, no layers.
    """

    rank: int = 4
    alpha: float = 16.0
    layers: tuple[str, ...] = SWIN_LAYERS

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or self.rank < 1:
            raise OptionError(f"LoRA rank {self.rank!r}.", "Give an integer of at least 1.")
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise OptionError(f"LoRA alpha {self.alpha!r}.", "Give a positive number.")
        if not self.layers:
            raise OptionError("LoRA without layers.", f"Name some, such as {SWIN_LAYERS}.")


class LoraLinear(nn.Module):
    """``x W' + b + alpha / rank * x A' B'`` in place of a linear layer; ' transposes.

    ``weight`` (out, in) and ``bias`` (out,) are the layer's own parameters, under their own names,
    frozen. ``lora_a`` (rank, in) starts as a linear layer of torch does and ``lora_b`` (out, rank)
    at zero, so that training starts from the frozen layer.

    Raises
    ------
    OptionError : rank or alpha as in :class:`LoraSpec`; a rank above that of the weight.
    """

    def __init__(self, linear: nn.Linear, rank: int = 4, alpha: float = 16.0) -> None:
        super().__init__()
        _check_rank(linear, LoraSpec(rank, alpha).rank)
        self.scale = alpha / rank
        self.weight = linear.weight.requires_grad_(False)
        self.bias = linear.bias if linear.bias is None else linear.bias.requires_grad_(False)
        self.lora_a = nn.Parameter(self.weight.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(self.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        update = functional.linear(functional.linear(inputs, self.lora_a), self.lora_b)
        return functional.linear(inputs, self.weight, self.bias) + self.scale * update

    def merge(self) -> nn.Linear:
        """A plain layer, still frozen, whose weight has the update in it; this one stays as is."""
        outputs, inputs = self.weight.shape
        # On the meta device no weights are drawn, which would move the global random state.
        linear = nn.Linear(inputs, outputs, bias=False, device="meta")
        merged = self.weight + self.scale * (self.lora_b.detach() @ self.lora_a.detach())
        linear.weight = nn.Parameter(merged, requires_grad=False)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.clone(), requires_grad=False)
        return linear.train(self.training)


def add_lora(
    module: nn.Module,
    rank: int = 4,
    alpha: float = 16.0,
    layers: tuple[str, ...] = SWIN_LAYERS,
) -> tuple[str, ...]:
    """Replace the linear layers of ``module`` that ``layers`` names, and freeze all else in it.

    Returns the dotted names of the replaced layers. After an error the module is as before.

    Raises
    ------
    OptionError : as :class:`LoraSpec`; a name that no linear layer has; a rank above that of a
        weight; a module that has LoRA layers already.
    """
    spec = LoraSpec(rank, alpha, layers)
    if has_lora(module):
        raise OptionError("The network has LoRA layers already.", "Merge them first.")
    linears = {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear)}
    for suffix in spec.layers:
        if not any(_ends_with(name, suffix) for name in linears):
            raise OptionError(
                f"No linear layer is called {suffix!r}.",
                f"Linear layers are {', '.join(linears) or 'missing'}.",
            )
    chosen = {n: m for n, m in linears.items() if any(_ends_with(n, s) for s in spec.layers)}
    for linear in chosen.values():
        _check_rank(linear, spec.rank)
    module.requires_grad_(False)
    for name, linear in chosen.items():
        _replace(module, name, LoraLinear(linear, spec.rank, spec.alpha))
    return tuple(chosen)


def has_lora(module: nn.Module) -> bool:
    """Whether a layer of ``module`` is a :class:`LoraLinear`."""
    return any(isinstance(layer, LoraLinear) for layer in module.modules())


@torch.no_grad()
def merge_lora(module: nn.Module) -> nn.Module:
    """Replace every LoRA layer inside ``module`` by its merged one, in place; returns ``module``.

    What was frozen stays so; ``module.requires_grad_(True)`` begins full training from here.
    """
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLinear):
            _replace(module, name, layer.merge())
    return module


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, layer)


def _ends_with(name: str, suffix: str) -> bool:
    return f".{name}".endswith(f".{suffix}")


def _check_rank(linear: nn.Linear, rank: int) -> None:
    most = min(linear.in_features, linear.out_features)
    if rank > most:
        raise OptionError(
            f"LoRA rank {rank} for a layer of {linear.in_features} inputs and "
            f"{linear.out_features} outputs.",
            f"Give at most {most}, the rank that its weight can have.",
        )
