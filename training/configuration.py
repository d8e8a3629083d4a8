"""The configuration of a training run, read from JSON; an unknown key is an error."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from REACTKDLib.errors import OptionError
from REACTKDLib.model_package import ModelSpec, spec_from_section


@dataclass(frozen=True)
class CohortSizes:
    """Numbers of simulated cases. ``profile`` is the cohort of training, selection and test;
    ``external_test`` cases come from the external profile."""

    profile: str
    train: int
    selection: int
    test: int
    external_test: int


@dataclass(frozen=True)
class SupervisedOptimisation:
    """How the student is trained.

    First ``crop_steps`` steps of ``batch_size`` crops of ``crop_size`` (k, j, i) at
    ``learning_rate``, then ``epochs`` over whole cases at ``fine_learning_rate``.
    ``dense_weight`` weighs the loss of grading every lesion cell of the feature map.
    ``modality_sets`` maps a set of modalities (``ct+pet_fdg``) to the probability with which a
    training case shows just these: modality dropout.
    """

    epochs: int
    batch_size: int
    crop_steps: int
    crop_size: list[int]
    learning_rate: float
    fine_learning_rate: float
    weight_decay: float
    label_smoothing: float
    dense_weight: float
    modality_sets: dict[str, float]


@dataclass(frozen=True)
class TrainingConfiguration:
    """``seed`` drives cohort, initialisation, order, augmentation and modality dropout."""

    seed: int
    cohort: CohortSizes
    optimisation: SupervisedOptimisation
    spec: ModelSpec
    document: dict[str, Any]


def read_configuration(path: Path | str) -> TrainingConfiguration:
    """Read a configuration file.

    Raises
    ------
    OptionError : not JSON, or an unknown or missing key.
    ModelPackageError : the model specification is not valid.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{path} cannot be read: {error}.", "Give a JSON configuration."
        ) from error
    names = {"seed", "cohort", "optimisation", "spec"}
    _check_keys(document, names, "the configuration")
    _check_keys(document["cohort"], {f.name for f in fields(CohortSizes)}, "cohort")
    _check_keys(
        document["optimisation"], {f.name for f in fields(SupervisedOptimisation)}, "optimisation"
    )
    spec = spec_from_section(document["spec"])
    optimisation = SupervisedOptimisation(**document["optimisation"])
    for key in optimisation.modality_sets:
        unknown = set(key.split("+")) - set(spec.modality_names)
        if unknown:
            raise OptionError(
                f"modality_sets: unknown modalities {sorted(unknown)} in {key!r}.", "Correct it."
            )
    return TrainingConfiguration(
        seed=document["seed"],
        cohort=CohortSizes(**document["cohort"]),
        optimisation=optimisation,
        spec=spec,
        document=document,
    )


def _check_keys(table: Any, names: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise OptionError(f"{where} is {table!r}, not a table.", "Correct the configuration.")
    unknown, missing = sorted(set(table) - names), sorted(names - set(table))
    if unknown or missing:
        raise OptionError(
            f"In {where}: unknown keys {unknown}, missing keys {missing}.",
            "Correct the configuration.",
        )
