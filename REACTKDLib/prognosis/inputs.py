"""From a study and a clinical record to the arrays that a network of prognosis reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checks import check_ct, compare_with_training
from ..normalise import ModelInput, normalise
from ..roi import Roi, locate_roi
from ..types import Notice, Study
from .clinical_arrays import to_array
from .metadata import PrognosisMetadata
from .radiomics import Progress
from .radiomics_grid import region_of_interest
from .radiomics_settings import RadiomicsSettings
from .types import CLINICAL, CT, RADIOMICS, ClinicalRecord, PatientArrays, RadiomicsFeatures

__all__ = ["PatientInputs", "read_inputs", "record_sha256"]

#: Called with the name of a stage: its context.
Stage = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class PatientInputs:
    """What the stages before the network made. ``text`` is what a language model is to read."""

    arrays: PatientArrays
    record: ClinicalRecord
    radiomics: RadiomicsFeatures | None = None
    roi: Roi | None = None
    model_input: ModelInput | None = None
    notices: tuple[Notice, ...] = ()


def read_inputs(
    study: Study | None,
    clinical: ClinicalRecord | None,
    metadata: PrognosisMetadata,
    cache: Path | None,
    stage: Stage,
    within: Callable[[str], Progress],
) -> PatientInputs:
    """Arrays of all modalities that the model reads and the patient has.

    ``cache`` : folder that keeps radiomics, or None. ``stage`` : a context for each stage;
    ``within`` : a listener to what goes on in one.

    Raises
    ------
    InputError, OptionError, EnvironmentProblem, OutputError : as the stages.
    """
    wanted = metadata.network.modalities
    record = clinical or ClinicalRecord()
    notices = list(record.notices)
    ct = roi_array = values = None
    roi = model_input = found = None
    if study is not None and metadata.image is not None:
        spec = metadata.model_spec()
        with stage("region of interest"):
            roi = locate_roi(study, spec)
            statistics = check_ct(study, roi, spec)
        notices += [*study.notices, *roi.notices]
        if metadata.training.image is not None:
            notices += compare_with_training(statistics, metadata.training.image)
        if CT in wanted:
            with stage("normalisation"):
                model_input = normalise(study, roi, spec)
                ct, roi_array = model_input.volumes[CT], model_input.roi
        if RADIOMICS in wanted and metadata.radiomics is not None:
            with stage("radiomics"):
                found = _radiomics(study, metadata.radiomics, cache, within("radiomics"))
            notices += found.notices
    schema = metadata.clinical_schema
    if CLINICAL in wanted and schema is not None and clinical is not None:
        values = to_array(schema, record)
        values = None if np.isnan(values).all() else values
    radiomics = None
    if found is not None:
        radiomics = np.array([found.values[name] for name in metadata.radiomics_names])
    arrays = PatientArrays(values, radiomics, ct, roi_array, record.text)
    return PatientInputs(arrays, record, found, roi, model_input, tuple(notices))


def _radiomics(
    study: Study, settings: RadiomicsSettings, cache: Path | None, progress: Progress
) -> RadiomicsFeatures:
    from .radiomics import radiomics_features
    from .radiomics_cache import cached_features

    mask = region_of_interest(study.segmentation, study.ct.geometry, settings)
    if cache is None:
        return radiomics_features(study.ct, mask, settings, progress)
    return cached_features(cache, study.ct, mask, settings, progress)


def record_sha256(record: ClinicalRecord) -> str:
    """SHA-256 of a record's values and text, whatever form they were given in."""
    content = {"values": dict(record.values), "text": record.text}
    text = json.dumps(content, sort_keys=True, default=float)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
