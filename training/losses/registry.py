"""Distillation losses by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from REACTKDLib.errors import OptionError

from .at import AT
from .cirkd import CIRKD
from .distillation import Distillation
from .kd import AWMTKD, KD, NoDistillation
from .mskd import MSKD
from .mtcm_kd import MTCMKD
from .react_kd import ReactKD

DISTILLATIONS: dict[str, Any] = {
    "none": NoDistillation,
    "kd": KD,
    "at": AT,
    "cirkd": CIRKD,
    "mskd": MSKD,
    "mtcm_kd": MTCMKD,
    "awmtkd": AWMTKD,
    "react_kd": ReactKD,
}


def make_distillation(
    name: str,
    settings: Mapping[str, Any],
    student_channels: int,
    teacher_channels: Sequence[int],
    classes: int,
) -> Distillation:
    """A distillation loss, with new random projections and empty memory banks.

    Parameters
    ----------
    name : one of :data:`DISTILLATIONS`.
    settings : as in a configuration file; what is missing takes the default of the class's
        ``Settings``.
    student_channels, teacher_channels : widths of the feature maps, one a teacher.
    classes : number of classes.

    Raises
    ------
    OptionError : an unknown name or setting, or settings that the loss cannot work with.
    """
    if name not in DISTILLATIONS:
        raise OptionError(
            f"There is no distillation {name!r}.", f"Choose one of {sorted(DISTILLATIONS)}."
        )
    kind = DISTILLATIONS[name]
    known = {field.name for field in fields(kind.Settings)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise OptionError(
            f"{name} has no settings {unknown}.",
            f"It has {sorted(known)}." if known else "It has none.",
        )
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()}
    return kind(kind.Settings(**values), student_channels, tuple(teacher_channels), classes)
