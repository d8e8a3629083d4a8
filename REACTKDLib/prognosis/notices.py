"""What a reader must know about a patient's input: what is missing, unusual, or not read."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import InputError
from ..types import Notice, Study
from .metadata import PrognosisMetadata
from .schema import NUMBER
from .titles import TITLES
from .types import CLINICAL, CT, RADIOMICS, ClinicalRecord

__all__ = ["SIMULATED_MODEL", "check_given", "given_modalities", "input_notices"]

#: Code of the notice of a model trained on simulated patients.
SIMULATED_MODEL = "simulated_model"
#: Names that a notice lists.
_LISTED = 12


def check_given(metadata: PrognosisMetadata, images: bool, record: ClinicalRecord | None) -> None:
    """Refuse a patient of whom nothing is given that the model reads, or not what it requires.

    ``images`` : whether CT and segmentation are given; they need not have been read.

    Raises
    ------
    InputError : so it is.
    """
    there = given_modalities(metadata, images, record)
    reads = ", ".join(TITLES[name] for name in metadata.network.modalities)
    if not there:
        raise InputError(
            f"Nothing is given that the model {metadata.name} reads: {reads}.",
            "Give a CT with its segmentation, clinical values, or both.",
        )
    absent = [TITLES[name] for name in metadata.required if name not in there]
    if absent:
        raise InputError(
            f"The model {metadata.name} requires what is not given: {', '.join(absent)}.",
            "Give it, or use another model.",
        )


def given_modalities(
    metadata: PrognosisMetadata, images: bool, record: ClinicalRecord | None
) -> tuple[str, ...]:
    """The modalities that the model reads and the patient has; arguments as :func:`check_given`."""
    clinical = record is not None and (
        (bool(record.values) and _reads_values(metadata))
        or (bool(record.text) and metadata.text is not None)
    )
    has = {CT: images, CLINICAL: clinical, RADIOMICS: images}
    return tuple(name for name in metadata.network.modalities if has[name])


def _reads_values(metadata: PrognosisMetadata) -> bool:
    """Whether clinical values reach the network, as numbers or as text."""
    as_text = metadata.text is not None and metadata.text.reads == "record"
    return CLINICAL in metadata.network.modalities and (bool(metadata.network.variables) or as_text)


def input_notices(
    metadata: PrognosisMetadata,
    record: ClinicalRecord,
    study: Study | None,
    modalities: tuple[str, ...],
) -> tuple[Notice, ...]:
    """Notices without any clinical value in them: they may stand in a log."""
    found = [
        *_missing(metadata, record, modalities),
        *_unused(metadata, record, study),
        *_unusual(metadata, record),
    ]
    if metadata.simulated:
        found.append(
            Notice(
                SIMULATED_MODEL,
                "warning",
                "This model was trained on simulated patients only. Of a real patient its"
                " probability has no clinical meaning.",
            )
        )
    return tuple(found)


def _missing(
    metadata: PrognosisMetadata, record: ClinicalRecord, modalities: tuple[str, ...]
) -> Iterator[Notice]:
    absent = [TITLES[m] for m in metadata.network.modalities if m not in modalities]
    if absent:
        yield Notice(
            "missing_modality",
            "info",
            f"Not given: {', '.join(absent)}. The answer rests on the rest, which the model"
            " allows.",
        )
    schema = metadata.clinical_schema
    if CLINICAL in modalities and schema is not None and metadata.network.variables:
        missing = [name for name in schema.names if name not in record.values]
        if missing:
            yield Notice(
                "missing_variables",
                "info",
                f"{len(missing)} of {len(schema.names)} clinical variables are missing.",
            )


def _unused(
    metadata: PrognosisMetadata, record: ClinicalRecord, study: Study | None
) -> Iterator[Notice]:
    unused = []
    if study is not None:
        unused += [name for name in study.volumes if name != CT or metadata.image is None]
    if record.values and not _reads_values(metadata):
        unused.append("clinical values")
    if record.text and metadata.text is None:
        unused.append("free text")
    if unused:
        yield Notice(
            "unused_modality",
            "warning",
            f"Given but not used: {', '.join(unused)}. This model does not read them.",
        )


def _unusual(metadata: PrognosisMetadata, record: ClinicalRecord) -> Iterator[Notice]:
    schema, ranges = metadata.clinical_schema, metadata.training.clinical
    if schema is None or not metadata.network.variables:
        return
    outside = []
    for variable in schema.variables:
        value = record.values.get(variable.name)
        if variable.kind != NUMBER or value is None or variable.name not in ranges:
            continue
        low, high = ranges[variable.name]
        if not low <= float(value) <= high:
            outside.append(variable.name)
    if outside:
        more = f" and {len(outside) - _LISTED} more" if len(outside) > _LISTED else ""
        names = ", ".join(outside[:_LISTED])
        yield Notice(
            "unusual_variables",
            "warning",
            f"Outside of the middle 98 % of the training's patients: {names}{more}.",
        )
