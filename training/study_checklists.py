"""What a study can say to the items of CLAIM (2024) and TRIPOD+AI: only what the run itself knows.

Whom the patients are, who labelled them, what the model is for: its author adds that.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from .aggregate import CT, THRESHOLDS
from .evaluation.bootstrap import REPEATS
from .evaluation.conformal import COVERAGE
from .prepare import PreparedCase
from .study import EXTERNAL, INTERNAL, Study
from .study_runs import Documents


def checklist_answers(study: Study, runs: Mapping[str, Documents]) -> dict[str, str]:
    """Item id -> what the run says to it."""
    answers = _data(study) | _model(study) | _evaluation(study)
    return answers | (_results(study, runs) if runs else {})


def _data(study: Study) -> dict[str, str]:
    settings, spec = study.settings, study.spec
    partitions = (
        f"{settings.folds} folds, stratified by class"
        + (f", {settings.repeats} times" if settings.repeats > 1 else "")
        + f"; of the other folds' cases one in {settings.inner_parts} calibrates (and selects,"
        " where more than one epoch is compared), the rest train. The external cohort only tests."
    )
    level = "Patients (groups, where a manifest has them): none is on two sides of a split."
    grid = spec.grid
    windows = ", ".join(
        f"{m.title} {m.window[0]:g} to {m.window[1]:g}{' HU' if m.name == 'ct' else ''}"
        if m.window
        else f"{m.title} by its percentiles"
        for m in spec.modalities
    )
    preprocessing = (
        f"Structures and a margin of {grid.margin_mm:g} mm are cut out and resampled (linear, the"
        f" mean of {grid.supersampling} samples per axis) to"
        f" {' x '.join(f'{v:g}' for v in grid.spacing_mm)} mm (x, y, z); intensities are cut off at"
        f" {windows}, and standardised. The model package has every setting."
    )
    found = {
        "claim-9": preprocessing,
        "claim-10": "The region of interest follows from the segmentation alone (roles "
        + ", ".join(rule.name for rule in spec.role_rules)
        + "), nothing is picked by hand.",
        "claim-12": "PET may be absent: students are trained with modalities left out"
        f" ({_shares(study)}) and tested with every set of modalities that a patient has.",
        "claim-19": partitions,
        "claim-20": level,
        "tripod-7": preprocessing + " The same for all patients.",
        "tripod-11": "No value is imputed; a missing modality is left out of the network's sum.",
        "tripod-12a": f"{partitions} {level}",
        "tripod-12b": f"Images as float16 on the model's grid; {windows}.",
    }
    if study.simulated:
        source = (
            f"Simulated images (training/cohort.py, seed {settings.seed}); no patient. They do not"
            " stand for any population."
        )
        truth = "The grade that the simulation drew, with its simulated disagreement of readers."
        found |= {
            "claim-7": source,
            "claim-11": "Simulated images: there is no identifying information.",
            "claim-14": truth,
            "claim-16": f"The simulation itself. {truth}",
            "claim-17": "By the simulation, as the training set.",
            "tripod-5a": source,
            "tripod-8a": truth,
            "tripod-17": "Simulated images: no approval is needed.",
            "tripod-18e": "The data are made by code of this repository from the seed.",
        }
    return found


def _shares(study: Study) -> str:
    sets = study.settings.student.modality_sets.items()
    return ", ".join(f"{name} {share:.0%}" for name, share in sets)


def _model(study: Study) -> dict[str, str]:
    settings = study.settings
    student, how = study.spec.network, settings.student.optimisation
    model = (
        f"Student: one SegResNet encoder (MONAI's design, {student.init_filters} filters) a"
        f" modality, 1x1x1 projections to {student.fused_channels} channels, CBAM3D"
        " (REACTKDLib/networks/student.py), sum and sigmoid gate, weighted average over the region"
        " of interest, linear head. Teachers: Swin encoders (training/networks/teacher.py). The"
        " configuration beside this report has every size."
    )
    training = (
        f"Random crops of {' x '.join(map(str, settings.crop.size))} voxels, flipped at random,"
        f" {settings.crop.dosed:.0%} of them at a simulated lower dose; focal loss (gamma"
        f" {settings.loss.gamma:g}) and each method's distillation; {how.epochs} epochs of batches"
        f" of {how.batch_size}, learning rate {how.learning_rate:g}, weight decay"
        f" {how.weight_decay:g}. training/EXPERIMENTS.md logs what was tried."
    )
    last = how.select_every >= how.epochs
    choice = (
        "The last epoch of every training."
        if last
        else f"The epoch of every {how.select_every} with the highest macro AUC by CT on the"
        " selection cases."
    )
    start = (
        "CT encoders: pretrained to segment organ and lesions on this study's own training cases"
        f"{'' if settings.pretraining.manifest is None else ' or an unlabelled manifest'};"
        " all else random."
        if settings.pretraining
        else "Random weights, from the seed of the unit."
    )
    outputs = (
        f"A probability for each of {len(study.spec.classes)} classes, calibrated by a temperature,"
        f" and the set of classes that cannot be excluded at {COVERAGE:.0%} coverage; no threshold."
    )
    return {
        "claim-22": model,
        "claim-23": f"Python {platform.python_version()}, torch {torch.__version__}; device"
        f" {study.device}; environment.json beside this report.",
        "claim-24": start,
        "claim-25": training,
        "claim-26": choice,
        "claim-27": "Teachers are combined in the loss: "
        + "; ".join(
            f"{name}: {', '.join(method.teachers)}"
            + (f", by {method.settings['weighting']}" if "weighting" in method.settings else "")
            for name, method in settings.methods.items()
            if len(method.teachers) > 1
        )
        + ". Students are not combined, except where a row says so."
        if any(len(method.teachers) > 1 for method in settings.methods.values())
        else "None is combined, except where a row says so.",
        "tripod-12c": f"{model} {training} {choice}",
        "tripod-12g": "By the whole case, one pass of the network.",
        "tripod-13": "No class is weighted or drawn more often; the focal loss alone.",
        "tripod-15": outputs,
        "tripod-18f": "The code is that of this repository; environment.json names the commit.",
        "claim-43": "Software: this repository (Apache-2.0).",
        "tripod-22": "`python -m training export` writes the weights of a student as a package.",
    }


def _evaluation(study: Study) -> dict[str, str]:
    doses = study.settings.doses.photons
    measures = (
        "Macro and per-class AUC, micro AUC, balanced accuracy, Brier score, calibration error,"
        f" net benefit over thresholds {THRESHOLDS[0]:g} to {THRESHOLDS[-1]:g}, coverage of"
        " prediction sets."
    )
    uncertainty = (
        f"95 % intervals by percentile bootstrap over patients ({REPEATS} draws, stratified by"
        " class); methods are compared on the same draws, per class also by DeLong's test with"
        " Holm's correction. They do not cover other trainings; seeds are averaged. Own code in"
        " training/evaluation, tested against scikit-learn, MLstatkit, dcurves, MAPIE."
    )
    robustness = f"Missing modalities: {', '.join(study.settings.evaluate)}." + (
        f" Simulated doses of {', '.join(f'{d:g}' for d in doses)} photons in the external test."
        if doses and study.external
        else ""
    )
    answers = {
        "claim-28": f"{measures} Other methods of distillation are trained on the same data.",
        "claim-29": uncertainty,
        "claim-30": f"{robustness} Parts of the method left out, where the study has that.",
        "claim-31": "Exact contributions of feature cells to the contrast of classes; "
        + (
            "their mass in the simulated responsible region beside that of the pooling weights"
            " alone, pointing game, "
            if study.simulated
            else ""
        )
        + "deletion and insertion of regions, randomised parameters.",
        "claim-32": "Cross-validation, each patient tested by students that did not see it.",
        "claim-33": f"{len(study.external)} cases of the external cohort, by every student."
        if study.external
        else "There was none.",
        "tripod-12e": f"{measures} {uncertainty}",
        "tripod-16": "The external cohort: see the configuration of the cohort and the flow."
        if study.external
        else "There is no other data set.",
    }
    return answers


def _results(study: Study, runs: Mapping[str, Documents]) -> dict[str, str]:
    tested = {p for own in runs.values() for d in own for p in d["probabilities"].get(CT, ())}
    internal = [case for case in study.internal if case.patient in tested]
    numbers = f"{INTERNAL}: {_classes(study, internal)}"
    if study.external:
        numbers += f"; {EXTERNAL}: {_classes(study, study.external)}"
    return {
        "claim-35": f"{numbers}. See the flow.",
        "claim-37": "See the tables; subgroups were not looked at.",
        "claim-38": "See the tables, ROC, decision and reliability figures.",
        "tripod-20a": numbers,
        "tripod-21": f"Each fold: {_fold_sizes(study)}; {numbers}.",
        "tripod-23a": "See the tables and figures; subgroups were not looked at.",
    }


def _classes(study: Study, cases: Sequence[PreparedCase]) -> str:
    counts = Counter(case.label for case in cases)
    parts = (f"{counts[n]} {c.title}" for n, c in enumerate(study.spec.classes))
    return f"{len(cases)} ({', '.join(parts)})"


def _fold_sizes(study: Study) -> str:
    part = study.part(0)
    return f"about {len(part.train)} train, {len(part.selection)} calibrate, {len(part.test)} test"
