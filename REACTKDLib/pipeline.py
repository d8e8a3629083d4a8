"""One case from study to result: the pipeline that panel, batch and demo call."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .backends import check_backend, check_device, library_versions
from .checks import (
    check_ct,
    check_modalities,
    check_prediction,
    compare_with_training,
    prediction_set,
)
from .deidentify import Pseudonyms, deidentified_case
from .explain import check_target, choose_target, explain
from .infer import Classifier, Prediction, load_classifier, predict
from .model_package import ModelPackage
from .normalise import normalise
from .read import StudyFiles, read_study
from .regions import Regions, check_scheme, make_regions, same_regions
from .report import check_output, write_result
from .roi import Roi, locate_roi
from .types import CaseResult, Study, Volume, frozen_mapping

#: Called with the stage's name and the part of the run that is done, 0..1.
Progress = Callable[[str, float], None]

#: Stages in order, with the part of the run done when each begins (measured on a CPU). "regions" is
#: the time that is still waited for them.
STAGES = {
    "region of interest": 0.0,
    "normalisation": 0.15,
    "model": 0.3,
    "network": 0.35,
    "regions": 0.5,
    "explanation": 0.6,
}

_LIBRARIES = ("numpy", "scipy", "SimpleITK", "safetensors")


@dataclass(frozen=True)
class RunOptions:
    """``target`` class to explain (None: the most probable), region ``scheme``, ``device`` and
    ``backend`` (see :mod:`REACTKDLib.backends`)."""

    target: str | None = None
    scheme: str = "anatomical"
    device: str = "auto"
    backend: str = "auto"


def check_options(options: RunOptions, package: ModelPackage) -> None:
    """Refuse options that name something that does not exist.

    Raises
    ------
    OptionError : a class that the package does not have, an unknown scheme, device or backend.
    EnvironmentProblem : CUDA was asked for and torch has none; a backend that is not installed.
    """
    check_target(options.target, package)
    check_scheme(options.scheme)
    check_backend(options.backend, options.device)
    check_device(options.device)


def no_progress(stage: str, done: float) -> None:
    """A listener that hears nothing."""


def run_case(
    study: Study,
    package: ModelPackage,
    options: RunOptions = RunOptions(),
    progress: Progress = no_progress,
    like: CaseResult | None = None,
) -> CaseResult:
    """Classify and explain one study.

    ``like`` : a result on the same CT grid whose regions are taken instead of new ones.

    Raises
    ------
    InputError : the study cannot be used (see the stages).
    ModelPackageError : the package's weights are not usable.
    OptionError, EnvironmentProblem : as :func:`check_options`; found before any work is done.
    """
    check_options(options, package)
    return _run(
        study,
        package,
        options,
        progress,
        lambda: load_classifier(package, options.device, options.backend),
        like,
    )


def _run(
    study: Study,
    package: ModelPackage,
    options: RunOptions,
    progress: Progress,
    classifier: Callable[[], Classifier],
    like: CaseResult | None = None,
) -> CaseResult:
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        progress(name, STAGES[name])
        began = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - began

    with ThreadPoolExecutor(1) as beside:
        with stage("region of interest"):
            roi = locate_roi(study, package)
            statistics = check_ct(study, roi, package)
        # The network does not need the regions: they are made while it works.
        if like is None:
            making_regions = beside.submit(make_regions, roi, study.ct, package, options.scheme)
        else:
            making_regions = beside.submit(same_regions, roi, study.ct, like)
        with stage("normalisation"):
            model_input = normalise(study, roi, package)
        with stage("model"):
            loaded = classifier()
        with stage("network"):
            prediction = predict(loaded, model_input)
            target = choose_target(prediction, package, options.target)
        with stage("regions"):
            regions = making_regions.result()
    with stage("explanation"):
        explanation = explain(
            prediction, model_input, regions, roi, study.ct.geometry, package, target
        )
        labels = _on_ct(regions, roi, study)
    progress("finished", 1.0)

    def by_class(values: np.ndarray) -> dict[str, float]:
        return dict(zip(package.class_names, map(float, values), strict=True))

    return CaseResult(
        case_id=study.case_id,
        task_title=package.title,
        classes=package.classes,
        probabilities=frozen_mapping(by_class(prediction.probabilities)),
        logits=frozen_mapping(by_class(prediction.logits)),
        bias=frozen_mapping(by_class(prediction.head_bias)),
        target=target,
        scheme=options.scheme if like is None else like.scheme,
        regions=regions.regions,
        shares=explanation.shares,
        outside_share=explanation.outside_share,
        outside_logit_shares=frozen_mapping(explanation.outside_logit_shares),
        contrast=explanation.contrast,
        reference_contrast=explanation.reference_contrast,
        graph=explanation.graph,
        attention=explanation.attention,
        region_labels=labels,
        modalities=prediction.modalities,
        simulated_model=package.simulated,
        notices=(
            study.notices
            + roi.notices
            + compare_with_training(statistics, package.training_ranges)
            + regions.notices
            + check_modalities(study, package)
            + prediction.notices
            + check_prediction(prediction, package)
        ),
        provenance=frozen_mapping(_provenance(study, package, options, prediction, seconds)),
        prediction_set=prediction_set(prediction, package),
    )


def run_files(
    files: StudyFiles,
    package: ModelPackage,
    output: Path,
    options: RunOptions = RunOptions(),
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
    pseudonyms: Pseudonyms | None = None,
) -> CaseResult:
    """Read a study, run the case, write the result folder ``output``.

    ``pseudonyms`` : de-identifies the result, see :func:`~.deidentify.deidentified_case`.

    Raises
    ------
    OutputError : the folder exists or cannot be written; found before any work is done.
    OptionError, EnvironmentProblem : as :func:`check_options`; found before anything is read.
    ReactKDError : as :func:`read_study` and :func:`run_case`.
    """
    check_output(output, overwrite=overwrite)
    check_options(options, package)
    progress("reading", 0.0)
    with ThreadPoolExecutor(1) as background:
        # Importing torch takes longer than reading a CT, compiling a graph not much less; the stage
        # "model" waits for it.
        classifier = background.submit(_ready_classifier, package, options, ("ct", *files.pet))
        study = read_study(files, package.role_rules)
        case = _run(study, package, options, progress, classifier.result)
    if pseudonyms is not None:
        case = deidentified_case(case, pseudonyms)
    write_result(case, output, overwrite=overwrite)
    return case


def _ready_classifier(
    package: ModelPackage, options: RunOptions, modalities: tuple[str, ...]
) -> Classifier:
    classifier = load_classifier(package, options.device, options.backend)
    classifier.network.prepare(modalities)
    return classifier


def _on_ct(regions: Regions, roi: Roi, study: Study) -> Volume:
    """Region labels on the whole grid of the CT."""
    labels = np.zeros(study.ct.geometry.array_shape, dtype=np.uint8)
    labels[roi.slices] = regions.labels
    return Volume(labels, study.ct.geometry, "regions")


def _provenance(
    study: Study,
    package: ModelPackage,
    options: RunOptions,
    prediction: Prediction,
    seconds: dict[str, float],
) -> dict[str, Any]:
    return {
        "reactkd_version": __version__,
        "time_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "model": {
            "name": package.name,
            "version": package.version,
            "weights_sha256": package.weights_sha256,
            "simulated": package.simulated,
        },
        "inputs": [{"role": s.role, "path": s.path, "sha256": s.sha256} for s in study.sources],
        "series": {
            name: {**vars(choice), "others": list(choice.others)}
            for name, choice in study.series.items()
        },
        "segments": [
            {"label": s.label, "name": s.name, "role": s.role} for s in study.segmentation.segments
        ],
        "modalities": list(prediction.modalities),
        "options": {
            "scheme": options.scheme,
            "target": options.target,
            "device": options.device,
            "backend": options.backend,
        },
        "device": prediction.device,
        "backend": prediction.backend,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": library_versions((*_LIBRARIES, prediction.backend)),
        "stage_seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
