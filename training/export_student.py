"""A student of a study as a model package: network, calibration, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from REACTKDLib import __version__
from REACTKDLib.errors import OptionError, OutputError
from REACTKDLib.model_package import ModelPackage, modality_set_key
from REACTKDLib.networks.student import Student

from .evaluation.bootstrap import Estimate
from .evaluation.calibration import FEW_CASES, cautious_temperature
from .evaluation.conformal import COVERAGE
from .evaluation.discrimination import macro_auc_interval
from .export import TrainedModalitySet, write_package
from .package_statistics import calibrate, data_format, training_ranges
from .study import EXTERNAL, INTERNAL, SELECTION, Study, Unit
from .study_results import study_results
from .study_tables import readme_table

INTENDED_USE = (
    "Research use only, not for diagnosis. Shows how REACTKD works; its probabilities have no"
    " clinical meaning for a patient."
)

#: A package is shipped with the extension: it must stay small.
LARGEST_MB = 15.0


@dataclass(frozen=True)
class Chosen:
    """A unit whose student is exported, and its cross entropy on the selection cases."""

    unit: Unit
    selection_loss: float


def export_student(study: Study, method: str, package: Path, attribution: str) -> ModelPackage:
    """Write the student of ``method`` that does best on its own selection cases as a package.

    One network, not an ensemble of folds: an ensemble's region shares would be sums over networks,
    and its time and size a multiple. The choice never looks at a test case; the figures on the card
    are those of the one network, on the fold that it was not trained on.

    Parameters
    ----------
    attribution : source and licence of the training data, for the card.

    Raises
    ------
    OptionError : no such method, no finished unit with weights in the work folder, a student that
        model packages cannot describe.
    OutputError : the weights are larger than :data:`LARGEST_MB`, or cannot be written.
    """
    kind = "SIMULATED images" if study.simulated else "images of real patients"
    description = f"CBAM3D student, distilled by {method} on {kind}."
    chosen = choose(study, method)
    student = study.trained(chosen.unit)
    if not isinstance(student, Student):
        raise OptionError(
            f"The student of {method} is no SegResNet student.", "Export another method."
        )
    size = sum(t.numel() * t.element_size() for t in student.state_dict().values()) / 1e6
    if size > LARGEST_MB:
        raise OutputError(f"The student has {size:.1f} MB.", f"Stay below {LARGEST_MB:g} MB.")
    part = study.part(chosen.unit.fold)
    sets = {
        modality_set_key(names): calibrate(
            student, part.train, part.selection, study.spec, names, study.device
        )
        for names in (tuple(key.split("+")) for key in study.settings.evaluate)
        if "ct" in names  # the CT is required wherever the package is used
    }
    return write_package(
        package,
        study.configuration.document["spec"],
        student,
        sets,
        training_ranges(part.train),
        card(study, chosen, sets, description, attribution),
        {
            "version": __version__,
            "changelog": {__version__: f"student of the study {study.settings.name}, {method}"},
            "task": study.spec.title,
            "description": description,
            "intended_use": INTENDED_USE,
            "authors": "REACTKD contributors",
            "copyright": "Apache-2.0",
            "data_source": attribution,
            "network_data_format": data_format(study.spec),
        },
    )


def choose(study: Study, method: str) -> Chosen:
    """The finished unit of a method with the least cross entropy on its selection cases, at the
    temperature fitted there.

    Raises
    ------
    OptionError : no such method, or no unit whose weights are in the work folder.
    """
    if method not in study.settings.methods:
        raise OptionError(f"No method {method!r}.", f"Choose from {list(study.settings.methods)}.")
    labels = {case.patient: case.label for case in study.internal}
    found = []
    for unit in study.units([method]):
        document = study.result_of(unit)
        if document is None or study.trained(unit) is None:
            continue
        table = document["logits"][SELECTION]
        truth = np.array([labels[patient] for patient in table])
        logits = np.array(list(table.values()))
        scaled = log_softmax(logits / cautious_temperature(truth, logits), axis=1)
        found.append(Chosen(unit, float(-scaled[np.arange(len(truth)), truth].mean())))
    if not found:
        raise OptionError(
            f"No finished student of {method} has its weights in {study.work}.",
            "Train it with the same work folder: python -m training distil.",
        )
    return min(found, key=lambda one: one.selection_loss)


def figures(study: Study, unit: Unit) -> dict[str, Estimate]:
    """Macro AUC of one student on every test that its unit holds."""
    document = study.result_of(unit)
    assert document is not None  # it was chosen among the finished ones
    labels = {case.patient: case.label for case in (*study.internal, *study.external)}
    found = {}
    for key, table in document["logits"].items():
        if key != SELECTION and table:
            truth = np.array([labels[patient] for patient in table])
            logits = np.array(list(table.values()))
            found[_title(key)] = macro_auc_interval(truth, logits, study.settings.seed)
    return found


def _title(key: str) -> str:
    which, _, rest = key.partition(" ")
    if which == INTERNAL:
        return f"internal, {rest.replace('+', ' + ')}"
    return f"{EXTERNAL}, ct" + (f" at {float(rest):g} photons" if rest else "")


def card(
    study: Study,
    chosen: Chosen,
    sets: Mapping[str, TrainedModalitySet],
    description: str,
    attribution: str,
) -> str:
    """The model card: use, data, training, figures with n and intervals, limits."""
    spec, settings, unit = study.spec, study.settings, chosen.unit
    method = settings.methods[unit.method]
    part = study.part(unit.fold)
    kind = "SIMULATED images only" if study.simulated else "images of real patients"
    rows = "\n".join(
        f"| {name} | {e.value:.3f} | {e.low:.3f} to {e.high:.3f} | {e.n} |"
        for name, e in figures(study, unit).items()
    )
    calibration = "\n".join(
        f"| {key} | {one.calibration.temperature:.2f} | {one.calibration.distance_limit:.2f} | "
        f"{one.calibration.prediction_set_limit:.3f} |"
        for key, one in sets.items()
    )
    inputs = ", ".join(
        m.title + (" (required)" if m.required else " (optional)") for m in spec.modalities
    )
    roles = ", ".join(r.name + (" (required)" if r.required else "") for r in spec.role_rules)
    measured = "simulated test cases" if study.simulated else "patients of the fold held out"
    return f"""# {spec.name}

**Trained on {kind}. {INTENDED_USE}**

## What it does

{description}

{spec.title}: {", ".join(c.title for c in spec.classes)}.
Inputs: {inputs}, and a segmentation with the roles {roles}.

## Training data

{attribution} {len(part.train)} cases trained this network, {len(part.selection)} selected and
calibrated it, {len(part.test)} tested it; no patient is on two sides.

## Training

Study `{settings.name}`, method {unit.method}, fold {unit.fold + 1}, seed {unit.seed}: of the
finished students of this method the one with the least cross entropy on its selection cases
({chosen.selection_loss:.3f}); test cases had no part in the choice.
Distillation `{method.distillation}` with the settings {json.dumps(dict(method.settings))} from the
teachers {", ".join(method.teachers) or "none"}; {settings.student.optimisation.epochs} epochs of
crops of {settings.crop.size} voxels (k, j, i). Configuration, environment, every other method and
its figures: `training/results/{settings.name}`.

## Figures ({measured})

Macro AUC (mean of the one-against-rest AUCs) of this network, 95 % interval by bootstrap over
patients.

| test | macro AUC | 95 % interval | n |
|---|---|---|---|
{rows}

| modalities | temperature | feature distance limit | prediction set limit |
|---|---|---|---|
{calibration}

A class is in the prediction set when one minus its probability is at most the limit; sets were
calibrated on {len(part.selection)} cases to hold the true class of {COVERAGE:.0%} of patients like
them. A limit of 1, which very few cases lead to, puts every class into every set. With
fewer than {FEW_CASES} cases a temperature below 1 is not believed: 1 is taken.

## The study

All methods under the same data, budget and student, not all tuned alike
(training/EXPERIMENTS.md); means over folds and seeds that are finished, 95 % intervals by
bootstrap over patients.

{readme_table(study_results(study))}
## Limits

{limits(study)}"""


def limits(study: Study) -> str:
    """What a reader must know before reading an answer of the package."""
    spec = study.spec
    lines = [
        f"The training set is small (the cohort has {len(study.internal)} cases): read the"
        " intervals, not the values.",
        f"What lies outside the region of interest (structures and {spec.grid.margin_mm:g} mm"
        " around them) cannot vote.",
        f"Lesions and {spec.pooling.lesion_margin_mm:g} mm around them have"
        f" {spec.pooling.lesion_weight:.0%} of the average pooling's weight, so the answer depends"
        " on what the segmentation calls a lesion.",
    ]
    if study.simulated:
        lines.insert(
            0,
            "Simulated anatomy, lesions and noise are far simpler than a patient's. Nothing here"
            " says how the network behaves on real CT.",
        )
    return "".join(f"- {line}\n" for line in lines)
