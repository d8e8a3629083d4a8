"""Optional first stage: the student's CT encoder learns to segment organ and lesion (LiTS).

Needs no class label, so public cohorts of liver CT can be used that have none. What is learnt, and
why it is learnt inside the region of interest: :mod:`training.segmentation_task`.

Patients of a later test must not be among the cases: an encoder that has seen them is no fair
start. The result lists whom it was trained on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from REACTKDLib.errors import OptionError
from REACTKDLib.model_package import ModelSpec
from REACTKDLib.networks.segresnet import SegResEncoder

from .engine import Optimisation, fit
from .evaluation.bootstrap import Estimate, case_interval
from .folds import split_units
from .prepare import PreparedCase
from .pretrained_encoder import input_of, load_encoder, write_encoder
from .segmentation_task import (
    LESION,
    CaseDice,
    Crops,
    Example,
    SegmentationNetwork,
    SegmentationObjective,
    crop_batches,
    example_of,
    measure,
)

__all__ = [
    "SegmentationResult",
    "SegmentationSettings",
    "load_encoder",
    "pretrain_encoder",
]

#: One collection under two names (see :mod:`training.public_cohorts.liver_nifti`).
_TWINS = ("LiTS17-", "MSD03-")


@dataclass(frozen=True)
class SegmentationSettings:
    """How the encoder is pretrained.

    ``crops`` what is drawn in an epoch; one of ``folds`` parts of the patients tests, and one of
    ``inner_parts`` parts of the others selects the epoch.
    """

    optimisation: Optimisation
    crops: Crops = field(default_factory=Crops)
    folds: int = 5
    inner_parts: int = 5

    def __post_init__(self) -> None:
        crops = self.crops
        if min(*crops.size, crops.per_case) < 1 or not 0 <= crops.lesion_share <= 1:
            raise OptionError(
                f"The crops {crops} cannot be drawn.",
                "Give sizes and numbers from 1 on, and a share of 0 to 1.",
            )


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """A pretrained encoder and what it can do.

    ``organ`` (with its lesions) and ``lesion`` : mean Dice of the test cases, for lesions of those
    that have one; ``organ_chance`` and ``lesion_chance`` as in :class:`CaseDice`. ``cases`` : the
    test cases one by one. ``train``, ``selection``, ``test`` : patients. ``selected`` and
    ``history`` as in :class:`training.engine.Fitted`. ``simulated`` : whether any image was.
    """

    encoder: SegResEncoder
    spec: ModelSpec
    settings: SegmentationSettings
    seed: int
    simulated: bool
    organ: Estimate
    lesion: Estimate
    organ_chance: Estimate
    lesion_chance: Estimate
    cases: tuple[CaseDice, ...]
    train: tuple[str, ...]
    selection: tuple[str, ...]
    test: tuple[str, ...]
    selected: int
    history: tuple[dict[str, float], ...]

    def figures(self) -> dict[str, Any]:
        """Figures with n and interval, for JSON; no patient is named."""
        names = ("organ", "lesion", "organ_chance", "lesion_chance")
        return {
            "simulated": self.simulated,
            "dice": {name: dataclasses.asdict(getattr(self, name)) for name in names},
            "patients": {
                name: len(set(getattr(self, name))) for name in ("train", "selection", "test")
            },
            "selected_epoch": self.selected,
            "seed": self.seed,
        }

    def save_encoder(self, path: Path) -> None:
        """Write the encoder's weights as safetensors, without the decoder.

        Its metadata say which network they fit, what its input must be like (grid and window of the
        CT), how they were trained and with which figures.
        """
        notes = {"settings": dataclasses.asdict(self.settings), "figures": self.figures()}
        write_encoder(self.encoder, self.spec, path, notes)


def pretrain_encoder(
    cases: Sequence[PreparedCase],
    settings: SegmentationSettings,
    spec: ModelSpec,
    seed: int,
    work: Path,
    device: torch.device,
) -> SegmentationResult:
    """Pretrain the CT encoder of the student of ``spec``; labels of the cases are not read.

    The epoch with the best mean Dice (of organ and lesion) on the selection cases is kept, and
    measured on the test cases. No patient is in two of the three parts. Checkpoints lie in a folder
    of ``work`` that belongs to these settings, spec, seed and cases; a run that finds one goes on
    from there to the same weights.

    Raises
    ------
    OptionError : a model without organ; too few patients; no lesion to train, select or test on;
        LiTS17 and MSD Task03, which are the same patients, in one.
    InputError : as :func:`training.segmentation_task.example_of`.
    """
    if spec.regions.organ_role is None:
        raise OptionError(
            f"The model {spec.name} has no organ to segment.", "Pretrain a model with an organ."
        )
    examples = [example_of(case) for case in cases]
    train, selection, test = _parts(examples, settings, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SegmentationNetwork(spec.network).to(device)
    how, crops = settings.optimisation, settings.crops
    count = len(train) * crops.per_case
    size = min(how.batch_size, count)

    def select() -> float:
        return _mean_dice([measure(network, example, device) for example in selection])

    fitted = fit(
        SegmentationObjective(network),
        lambda rng: crop_batches(train, crops, size, rng, device),
        select,
        how,
        count // size,
        seed,
        work / f"segmentation_{_digest(examples, settings, spec, seed)}",
        "segmentation",
    )
    measured = tuple(measure(network, example, device) for example in test)
    return SegmentationResult(
        network.encoder.eval(),
        spec,
        settings,
        seed,
        spec.simulated or any(case.responsible is not None for case in cases),
        organ=_estimate(measured, "organ", seed),
        lesion=_estimate(measured, "lesion", seed),
        organ_chance=_estimate(measured, "organ_chance", seed),
        lesion_chance=_estimate(measured, "lesion_chance", seed),
        cases=measured,
        train=tuple(example.patient for example in train),
        selection=tuple(example.patient for example in selection),
        test=tuple(example.patient for example in test),
        selected=fitted.selected,
        history=fitted.history,
    )


def _parts(
    examples: Sequence[Example], settings: SegmentationSettings, seed: int
) -> list[list[Example]]:
    """Training, selection and test examples."""
    patients = [example.patient for example in examples]
    twins = [name for name in _TWINS if any(p.startswith(name) for p in patients)]
    if len(twins) > 1:
        raise OptionError(
            "LiTS17 and MSD Task03 are both among the cases; they are the same patients.",
            "Take one of the two.",
        )
    units = [example.unit for example in examples]
    outer = split_units(units, [0] * len(units), settings.folds, seed)[0]
    others = [units[n] for n in outer.train]
    inner = split_units(others, [0] * len(others), settings.inner_parts, seed)[0]
    numbers = {
        "train": [outer.train[n] for n in inner.train],
        "select": [outer.train[n] for n in inner.held_out],
        "test": list(outer.held_out),
    }
    for purpose, chosen in numbers.items():
        if not any((examples[n].truth == LESION).any() for n in chosen):
            raise OptionError(
                f"None of the {len(chosen)} cases to {purpose} on has a lesion.",
                "Give more cases with lesions, fewer folds, or another seed.",
            )
    return [[examples[n] for n in chosen] for chosen in numbers.values()]


def _mean_dice(measured: Sequence[CaseDice]) -> float:
    """Mean of organ and lesion, each averaged over the cases that have it."""
    table = np.array([[case.organ, case.lesion] for case in measured])
    return float(np.nanmean(table, axis=0).mean())


def _estimate(measured: Sequence[CaseDice], name: str, seed: int) -> Estimate:
    rows = [(case.patient, getattr(case, name)) for case in measured]
    known = [(patient, value) for patient, value in rows if not np.isnan(value)]
    scores, patients = (
        np.array(column) for column in ([v for _, v in known], [p for p, _ in known])
    )
    return case_interval(scores, seed, patients=patients)


def _digest(
    examples: Sequence[Example], settings: SegmentationSettings, spec: ModelSpec, seed: int
) -> str:
    """Digest of everything that determines the weights but the code."""
    digest = hashlib.sha256(repr((settings, spec.network, input_of(spec), seed)).encode())
    for example in examples:
        digest.update(repr((example.patient, example.unit, example.roi.shape)).encode())
        for array in (example.ct, example.roi, example.truth):
            digest.update(array.tobytes())
    return digest.hexdigest()[:12]
