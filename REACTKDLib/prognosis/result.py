"""The folder of a prognosis: written whole or not at all, read back to the same value.

Files: ``prognosis.json`` (schema in ``Resources/Schemas/prognosis-1.json``), ``contributions.csv``,
``provenance.json``; with a CT also ``regions.csv``, ``graph.json``, ``attention.nrrd`` and
``regions.seg.nrrd`` as in a result of REACT-KD (docs/result.md).
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..deidentify import Pseudonyms, deidentified_case, deidentified_provenance
from ..errors import InputError
from ..region_csv import spreadsheet_text
from ..report import (
    CONTRIBUTIONS,
    PROGNOSIS,
    PROVENANCE,
    atomic_folder,
    check_output,
    read_regions,
    result_document,
    write_json,
    write_regions,
)
from ..result_records import check_provenance
from ..typed_json import FieldError, build
from ..types import RESEARCH_USE, CaseResult, ClassInfo, Notice
from .types import MODALITIES, Contribution, PrognosisResult

__all__ = [
    "case_to_draw",
    "check_prognosis_output",
    "deidentified_prognosis",
    "is_prognosis",
    "prognosis_document",
    "prognosis_from_documents",
    "read_prognosis",
    "write_contributions",
    "write_prognosis",
]

SCHEMA_VERSION = 1
#: Years beyond which an age alone may tell who someone is (45 CFR 164.514(b)(2)(i)(C)).
_OLDEST = 89
AGE = "age"
#: How far sums may be from their parts, of a folder that is read.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class _Record:
    """``prognosis.json`` without what other files repeat."""

    case_id: str
    task: str
    classes: tuple[ClassInfo, ...]
    outcome: str
    outcome_title: str
    horizon: str
    probability: float
    logit: float
    base_logit: float
    modalities: tuple[str, ...]
    modality_contributions: tuple[Contribution, ...]
    contributions: tuple[Contribution, ...]
    missing: Mapping[str, str]
    simulated_model: bool
    notices: tuple[Notice, ...]


def is_prognosis(folder: Path | str) -> bool:
    """Whether a folder is the result of a prognosis."""
    return (Path(folder) / PROGNOSIS).is_file()


def check_prognosis_output(folder: Path | str, *, overwrite: bool) -> None:
    """Refuse an output folder before any work is done for it.

    Raises
    ------
    OutputError : as :func:`REACTKDLib.report.check_output`.
    """
    check_output(Path(folder), overwrite=overwrite)


def prognosis_document(result: PrognosisResult) -> dict[str, Any]:
    """The content of ``prognosis.json``, but for ``ct``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "statement": RESEARCH_USE,
        "simulated_model": result.simulated_model,
        "case_id": result.case_id,
        "task": result.task_title,
        "classes": [vars(one) for one in result.classes],
        "outcome": result.outcome,
        "outcome_title": result.outcome_title,
        "horizon": result.horizon,
        "probability": result.probability,
        "logit": result.logit,
        "base_logit": result.base_logit,
        "modalities": list(result.modalities),
        "modality_contributions": [vars(one) for one in result.modality_contributions],
        "contributions": [vars(one) for one in result.contributions],
        "missing": dict(result.missing),
        "notices": [vars(notice) for notice in result.notices],
    }


def prognosis_from_documents(
    document: Any, provenance: Any, ct_case: CaseResult | None
) -> PrognosisResult:
    """The result of :func:`prognosis_document`, its provenance and the CT's case.

    Raises
    ------
    ValueError : not one of these, or numbers that contradict each other.
    """
    if not isinstance(document, dict):
        raise FieldError("the prognosis is no table.")
    names = {f.name for f in dataclasses.fields(_Record)}
    known = {name: value for name, value in document.items() if name in names}
    record: _Record = build(_Record, known, "prognosis")
    check_provenance(provenance)
    _check(record)
    fields = {f.name: getattr(record, f.name) for f in dataclasses.fields(_Record)}
    task = fields.pop("task")
    return PrognosisResult(**fields, task_title=task, provenance=provenance, ct_case=ct_case)


def _check(record: _Record) -> None:
    if record.outcome not in {c.name for c in record.classes} or not 0 <= record.probability <= 1:
        raise FieldError(f"the outcome {record.outcome!r} has no class, or no probability.")
    parts = (*record.modality_contributions, *record.contributions)
    used = [one.modality for one in record.modality_contributions]
    if any(one.modality not in used for one in parts) or not set(used) <= set(MODALITIES):
        raise FieldError("a contribution is that of no modality.")
    if len(set(used)) < len(used) or list(record.modalities) != used:
        raise FieldError("the contributions are not those of the modalities.")
    total = record.base_logit + math.fsum(one.logit for one in record.modality_contributions)
    if not math.isclose(total, record.logit, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
        raise FieldError("the contributions do not sum to the answer.")


def write_prognosis(
    result: PrognosisResult, folder: Path | str, *, overwrite: bool = False
) -> Path:
    """Write a result into a new folder and return it.

    Raises
    ------
    OutputError : as :func:`REACTKDLib.report.write_result`.
    """
    folder = Path(folder).absolute()
    check_prognosis_output(folder, overwrite=overwrite)
    case = result.ct_case
    document = prognosis_document(result) | {"ct": None if case is None else result_document(case)}
    with atomic_folder(folder) as partial:
        write_json(partial / PROGNOSIS, document)
        write_json(partial / PROVENANCE, dict(result.provenance))
        write_contributions(partial / CONTRIBUTIONS, result)
        if case is not None:
            write_regions(case, partial)
    return folder


def read_prognosis(folder: Path | str) -> PrognosisResult:
    """Read the folder of a prognosis.

    Raises
    ------
    InputError : not such a folder, a file missing or damaged, another schema version.
    """
    folder = Path(folder)
    if not is_prognosis(folder):
        raise InputError(
            f"{folder} is not a prognosis: {PROGNOSIS} is missing.", "Run 'reactkd prognosis'."
        )
    try:
        document = json.loads((folder / PROGNOSIS).read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{folder}: prognosis schema {document['schema_version']}, this REACTKD reads"
                f" {SCHEMA_VERSION}.",
                "Run 'reactkd prognosis' again.",
            )
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        case = document["ct"]
        if case is not None:
            case = read_regions(folder, case, provenance)
        return prognosis_from_documents(document, provenance, case)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder}: the prognosis is damaged: {type(error).__name__} {error}.",
            "Run 'reactkd prognosis' again.",
        ) from error


def case_to_draw(result: PrognosisResult) -> CaseResult:
    """What the CT's branch saw, for pictures and scenes.

    Raises
    ------
    InputError : there is no map of a CT.
    """
    if result.ct_case is None:
        raise InputError(
            f"The prognosis of {result.case_id} has no map of a CT: there is nothing to draw.",
            "Read its numbers with 'reactkd report'.",
        )
    return result.ct_case


def deidentified_prognosis(result: PrognosisResult, pseudonyms: Pseudonyms) -> PrognosisResult:
    """The result without what :func:`REACTKDLib.deidentify.deidentified_case` takes out, and
    without an age above 89 years. Other clinical values stay: they are the result."""

    def shown(one: Contribution) -> Contribution:
        number = one.value.split(" ", 1)[0]
        if one.name != AGE or not number.replace(".", "", 1).isdigit() or float(number) <= _OLDEST:
            return one
        return replace(one, value=f"more than {_OLDEST} years")

    case = result.ct_case
    return replace(
        result,
        case_id=pseudonyms.name("case", result.case_id),
        provenance=deidentified_provenance(result.provenance, pseudonyms),
        contributions=tuple(shown(one) for one in result.contributions),
        ct_case=None if case is None else deidentified_case(case, pseudonyms),
    )


def write_contributions(path: Path, result: PrognosisResult) -> None:
    """``contributions.csv``: modalities, then variables and families, the largest first."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow(["level", "modality", "name", "title", "value", "logit", "standard_error"])
        rows = [("modality", one) for one in result.modality_contributions]
        rows += [("part", one) for one in result.ranked]
        for level, one in rows:
            texts = [spreadsheet_text(t) for t in (one.modality, one.name, one.title, one.value)]
            error = "" if one.error is None else f"{one.error:.6g}"
            writer.writerow([level, *texts, f"{one.logit:.6g}", error])
        for name, title in result.missing.items():
            texts = [spreadsheet_text(t) for t in ("clinical", name, title)]
            writer.writerow(["missing", *texts, "missing", "", ""])
