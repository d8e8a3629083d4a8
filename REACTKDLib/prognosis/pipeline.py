"""One patient from CT, segmentation and clinical record to a prognosis: what command line, batch
and panel call."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..backends import check_device
from ..deidentify import Pseudonyms
from ..infer import cuda_failed
from ..normalise import ModelInput
from ..pipeline import Progress, no_progress
from ..read import StudyFiles, file_sha256, read_study
from ..regions import check_scheme, make_regions
from ..types import CaseResult, Notice, SourceFile, Study
from .clinical_input import check_against_image
from .inputs import PatientInputs, read_inputs
from .metadata import PrognosisMetadata
from .notices import check_given, input_notices
from .package import PrognosisPackage
from .provenance import provenance_of, with_source
from .result import check_prognosis_output, deidentified_prognosis, write_prognosis
from .titles import named_contributions
from .types import CLINICAL, ClinicalRecord, PrognosisResult

__all__ = [
    "STAGES",
    "PrognosisFiles",
    "PrognosisOptions",
    "check_options",
    "run_prognosis",
    "run_prognosis_files",
]

#: Stages in order, with the part of the run done when each begins. Radiomics take longest, unless
#: they are kept from before.
STAGES = {
    "region of interest": 0.02,
    "normalisation": 0.06,
    "radiomics": 0.1,
    "model": 0.7,
    "network": 0.74,
    "contributions": 0.78,
    "regions": 0.93,
}


@dataclass(frozen=True)
class PrognosisOptions:
    """``device`` as in :class:`REACTKDLib.pipeline.RunOptions`, region ``scheme``.

    ``pairs``, ``exact_up_to``, ``seed`` and ``tolerance`` (log odds) : as
    :func:`.explain.owen_values`, of the contributions. ``cache`` : folder that keeps radiomics;
    None computes them anew. ``text_model`` : folder of the language model, where it is not where
    the package says.
    """

    device: str = "auto"
    scheme: str = "anatomical"
    pairs: int = 32
    exact_up_to: int = 10
    seed: int = 0
    tolerance: float = 0.005
    cache: Path | None = None
    text_model: str | None = None


@dataclass(frozen=True)
class PrognosisFiles:
    """What is known of a patient, as files.

    ``study`` : CT and segmentation, None without. ``record`` : the clinical record, checked, None
    without; ``clinical`` : the file that it came from, None where it came from none.
    """

    study: StudyFiles | None = None
    record: ClinicalRecord | None = None
    clinical: Path | None = None
    case_id: str | None = None


def check_options(options: PrognosisOptions) -> None:
    """Refuse options that name something that does not exist.

    Raises
    ------
    OptionError, EnvironmentProblem : an unknown scheme or device; CUDA that torch does not have.
    """
    check_scheme(options.scheme)
    check_device(options.device)


@dataclass
class _Clock:
    """Tells the stages, and how long each took."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.progress(name, STAGES[name])
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 4)

    def within(self, name: str) -> Progress:
        """A listener of the stage ``name`` alone."""
        begin = STAGES[name]
        end = min((b for b in STAGES.values() if b > begin), default=1.0)
        return lambda stage, done: self.progress(name, begin + done * (end - begin))


def run_prognosis(
    study: Study | None,
    clinical: ClinicalRecord | None,
    package: PrognosisPackage,
    options: PrognosisOptions = PrognosisOptions(),
    progress: Progress = no_progress,
    case_id: str | None = None,
) -> PrognosisResult:
    """The prognosis of one patient. Any modality may be missing, unless the model requires it.

    Parameters
    ----------
    study : CT and segmentation. clinical : a record checked with the package's schema.
    progress : called with a stage and the part that is done; what it raises ends the run.
    case_id : name of the case; by default the study's.

    Raises
    ------
    InputError : nothing given that the model reads, or a required modality is missing, before any
        work; a study or record that cannot be used (see the stages).
    ModelPackageError : the package's weights are not usable.
    OptionError, EnvironmentProblem : as :func:`check_options`, before any work; a language model
        or a library for radiomics is not there.
    """
    check_options(options)
    metadata, clock = package.metadata, _Clock(progress)
    check_given(metadata, study is not None, clinical)
    inputs = read_inputs(study, clinical, metadata, options.cache, clock.stage, clock.within)
    return _answer(study, inputs, package, options, clock, case_id)


def run_prognosis_files(
    files: PrognosisFiles,
    package: PrognosisPackage,
    output: Path,
    options: PrognosisOptions = PrognosisOptions(),
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
    pseudonyms: Pseudonyms | None = None,
) -> PrognosisResult:
    """Read a patient's files, run the case, write the result folder ``output``.

    Raises
    ------
    OutputError : the folder exists or cannot be written; found before any work is done.
    InputError : as :func:`run_prognosis`, before any file is read.
    ClinicalValueError : age or sex contradict the header of a DICOM CT; found before its voxels are
        read.
    ReactKDError : as :func:`REACTKDLib.read.read_study` and :func:`run_prognosis`.
    """
    check_prognosis_output(output, overwrite=overwrite)
    check_options(options)
    schema, record = package.metadata.clinical_schema, files.record
    check_given(package.metadata, files.study is not None, record)

    def check_patient(header: Mapping[str, str]) -> None:
        if schema is not None and record is not None:
            check_against_image(schema, record, header)

    progress("reading", 0.0)
    study = None
    if files.study is not None:
        study = read_study(files.study, package.metadata.model_spec().role_rules, check_patient)
    result = run_prognosis(
        study, record, package, options, progress, files.case_id or _case_id(study)
    )
    if files.clinical is not None:
        source = SourceFile(CLINICAL, str(files.clinical), file_sha256(files.clinical))
        result = with_source(result, source)
    if pseudonyms is not None:
        result = deidentified_prognosis(result, pseudonyms)
    write_prognosis(result, output, overwrite=overwrite)
    return result


def _case_id(study: Study | None) -> str:
    return "case" if study is None else study.case_id


# From arrays to an answer -------------------------------------------------------------------------


def _answer(
    study: Study | None,
    inputs: PatientInputs,
    package: PrognosisPackage,
    options: PrognosisOptions,
    clock: _Clock,
    case_id: str | None,
) -> PrognosisResult:
    metadata = package.metadata
    from .answer import answer, patient_batch  # late: torch

    with clock.stage("model"):
        from .model import load_network

        loaded = load_network(package, options.device)
        batch, notices = patient_batch(inputs.arrays, inputs.record, metadata, options.text_model)
    try:
        found = answer(loaded, batch, metadata, options, clock.stage)
    except RuntimeError as error:
        if loaded.device == "cpu":
            raise
        loaded = replace(load_network(package, "cpu"), notices=(cuda_failed(error),))
        found = answer(loaded, batch, metadata, options, clock.stage)
    missing_regions: tuple[Notice, ...] = ()
    regions = None
    if study is not None and inputs.roi is not None and found.branch is not None:
        with clock.stage("regions"):
            spec = metadata.model_spec()
            regions = make_regions(inputs.roi, study.ct, spec, options.scheme)
            missing_regions = regions.notices
    all_notices = (
        *inputs.notices,
        *missing_regions,
        *input_notices(metadata, inputs.record, study, found.modalities),
        *notices,
        *loaded.notices,
        *found.notices,
    )
    provenance = provenance_of(study, inputs, package, options, loaded.device, clock.seconds)
    name = case_id or _case_id(study)
    case: CaseResult | None = None
    if regions is not None and study is not None:
        from .ct_branch import ct_case

        assert inputs.roi is not None and inputs.model_input is not None
        assert found.branch is not None
        case = ct_case(
            found.branch,
            _seen(inputs.model_input, metadata),
            regions,
            inputs.roi,
            study,
            replace(metadata.model_spec(), title=metadata.task),
            metadata.outcome,
            found.probability,
            options.scheme,
            {
                "case_id": name,
                "modalities": found.modalities,
                "notices": all_notices,
                "provenance": provenance,
            },
        )
    schema = metadata.clinical_schema
    missing = {}
    if CLINICAL in metadata.network.modalities and schema is not None:
        known = inputs.record.values if inputs.arrays.clinical is not None else {}
        missing = {v.name: v.title for v in schema.variables if v.name not in known}
        if not metadata.network.variables:
            missing = {}  # the model reads text alone
    clock.progress("finished", 1.0)
    return PrognosisResult(
        case_id=name,
        task_title=metadata.task,
        classes=metadata.classes,
        outcome=metadata.outcome,
        probability=found.probability,
        logit=found.logit,
        base_logit=found.base_logit,
        modalities=found.modalities,
        modality_contributions=found.modality_contributions,
        contributions=named_contributions(found.contributions, metadata, inputs.record),
        simulated_model=metadata.simulated,
        notices=all_notices,
        provenance=provenance,
        outcome_title=metadata.outcome_title,
        horizon=metadata.horizon,
        missing=missing,
        ct_case=case,
    )


def _seen(model_input: ModelInput, metadata: PrognosisMetadata) -> ModelInput:
    """The input with the part of it that the network reads: the region, or the whole volume."""
    if metadata.network.ct.region == "roi":
        return model_input
    return replace(model_input, roi=np.ones_like(model_input.roi))
