"""REACT-KD's student with Swin encoders, which can be frozen but for low-rank updates.

Source: REACT-KD (arXiv 2508.02104), stage 2, the LoRA variant of the student.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from REACTKDLib.errors import OptionError
from REACTKDLib.networks.cbam3d import NoAttention

from .lora import LoraSpec, add_lora, has_lora
from .swin import SwinSpec, load_swin
from .teacher import Teacher, TeacherSpec


@dataclass(frozen=True)
class SwinStudentSpec:
    """``swin`` of every encoder; the rest as in the SegResNet student's ``NetworkSpec``."""

    swin: SwinSpec
    fused_channels: int
    attention_ratio: int = 8
    attention_kernel: int = 7
    dropout: float = 0.0
    cbam: bool = True


class SwinStudent(Teacher):
    """The student with a Swin encoder per modality where ``Student`` has a SegResNet.

    It is used, trained and measured as ``Student`` is. Its layers are those of a teacher whose
    branches read one modality each, hence the base class: any non-empty subset of the modalities
    gives an answer. Call :meth:`load_encoder`, then :meth:`freeze_with_lora`, then train.

    Parameters
    ----------
    modalities : names, in a fixed order.
    classes : number of classes.
    spec : widths, blocks and windows.
    """

    def __init__(self, modalities: tuple[str, ...], classes: int, spec: SwinStudentSpec) -> None:
        branches = {name: (name,) for name in modalities}
        shape = TeacherSpec(
            branches,
            spec.swin,
            spec.fused_channels,
            spec.attention_ratio,
            spec.attention_kernel,
            spec.dropout,
        )
        super().__init__(shape, classes)
        self.modalities = modalities
        self.total_stride = spec.swin.stride
        if not spec.cbam:
            self.cbam = NoAttention()

    def fuse(
        self, volumes: Mapping[str, Tensor], roi: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fused feature map (N, C, k', j', i') and mean spatial attention (N, 1, k', j', i').

        ``volumes`` : modality -> (N, 1, k, j, i), all on one grid.
        ``roi`` : (N, 1, k, j, i) on the same grid; encoders read zeros outside. None is the whole
            grid. Unlike in ``Student``, biases and attention let cells outside reach those inside.

        Raises
        ------
        ValueError : no volume, or a modality that the network does not have.
        """
        if not volumes or not set(volumes) <= set(self.modalities):
            raise ValueError(
                f"Modalities {sorted(volumes)} given; the network has {self.modalities}."
            )
        return super().fuse(volumes, roi)

    def load_encoder(self, modality: str, state: Mapping[str, Tensor]) -> None:
        """Copy the weights of a trained encoder, those of ``load_swin``, into a modality's own.

        A teacher's is ``teacher.encoders[branch].state_dict()``.

        Raises
        ------
        OptionError : no such modality; an encoder that has LoRA layers already; weights that do
            not fit, such as those of a branch that reads CT and PET together.
        """
        self._check_known([modality])
        encoder = self.encoders[modality]
        if has_lora(encoder):
            raise OptionError(
                f"The encoder of {modality!r} has LoRA layers, made for its present weights.",
                "Load encoders before freezing them.",
            )
        load_swin(encoder, state, f"encoder of {modality!r}")

    def freeze_with_lora(
        self, spec: LoraSpec, modalities: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """Freeze encoders, those of ``modalities`` or all, but for low-rank updates.

        Projections, attention and head stay trainable, as do encoders that are not named: one that
        had no weights to load is better trained whole than frozen at random. Returns the dotted
        names of the adapted layers.

        Raises
        ------
        OptionError : no such modality; as :func:`training.networks.lora.add_lora`.
        """
        chosen = self.modalities if modalities is None else modalities
        self._check_known(chosen)
        return tuple(
            f"encoders.{name}.{layer}"
            for name in chosen
            for layer in add_lora(self.encoders[name], spec.rank, spec.alpha, spec.layers)
        )

    def _check_known(self, modalities: Collection[str]) -> None:
        if unknown := sorted(set(modalities) - set(self.modalities)):
            raise OptionError(f"No modality {unknown}.", f"The student has {self.modalities}.")
