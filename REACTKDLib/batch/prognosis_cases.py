"""Cases of prognosis in a batch: from a row to a result, and from a result to its summary."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ..errors import EnvironmentProblem
from ..prognosis.clinical_files import clinical_entries
from ..prognosis.clinical_input import Entry, checked_record
from ..prognosis.package import PrognosisPackage, load_prognosis_package
from ..prognosis.types import MODALITIES, ClinicalRecord, ClinicalSchema
from ..report import PROGNOSIS, PROVENANCE
from .plan import Case
from .store import CASES, Store
from .tables import Summary
from .task import Job

#: Contributions that a summary names.
_LARGEST = 3


def run_prognosis_case(job: Job, folder: Path) -> None:
    """Write the prognosis of ``job`` into the new folder ``folder``.

    Raises
    ------
    ReactKDError : as :func:`REACTKDLib.prognosis.pipeline.run_prognosis_files`.
    """
    from ..prognosis.pipeline import PrognosisFiles, PrognosisOptions, run_prognosis_files
    from ..read import StudyFiles

    case, settings = job.case, job.settings
    package = _package(job.package, settings.model_sha256)
    name = case.identifier or case.name
    study = None
    if case.ct:
        study = StudyFiles(
            ct=job.root / case.ct,
            segmentation=tuple(job.root / path for path in case.segmentation),
            roles=dict(settings.roles),
            series_uid=case.series or None,
            phase=settings.phase,
            case_id=name,
        )
    run_prognosis_files(
        PrognosisFiles(
            study,
            _record(case, job.root, package.metadata.clinical_schema),
            job.root / case.clinical if case.clinical else None,
            name,
        ),
        package,
        folder,
        PrognosisOptions(device=job.device, scheme=settings.scheme),
        pseudonyms=job.pseudonyms,
    )


def _record(case: Case, root: Path, schema: ClinicalSchema | None) -> ClinicalRecord | None:
    """File and columns together: what is given twice is refused."""
    if schema is None or not (case.clinical or case.values):
        return None
    entries: list[Entry] = []
    text = ""
    if case.clinical:
        name = case.identifier or case.name
        entries, text = clinical_entries(root / case.clinical, among=name)
    columns = [(name, value, "") for name, value in case.values.items()]
    return checked_record(schema, [*entries, *columns], text=text)


@functools.lru_cache(maxsize=2)
def _package(folder: Path, sha256: str) -> PrognosisPackage:
    """The package, loaded once a process."""
    package = load_prognosis_package(folder)
    if package.package_sha256 != sha256:
        raise EnvironmentProblem(
            f"{folder} on this machine is not the model package that the batch began with.",
            "Give every worker the same package.",
        )
    return package


def prognosis_summary() -> Summary:
    """What the summary says of prognoses."""
    return Summary(
        {
            "case": str,
            "outcome": str,
            "probability": float,
            "logit": float,
            "base_logit": float,
            "modalities": str,
            **{f"contribution_{name}": float for name in MODALITIES},
            "largest": str,
            "missing": str,
            "missing_count": int,
            "notices": str,
            "seconds": float,
            "device": str,
            "model": str,
            "model_version": str,
            "reactkd_version": str,
            "result": str,
        },
        _row,
    )


def _row(case: Case, store: Store) -> dict[str, Any]:
    folder = store.result(case.name)
    result = json.loads((folder / PROGNOSIS).read_text(encoding="utf-8"))
    made = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    added = {one["modality"]: one["logit"] for one in result["modality_contributions"]}
    parts = sorted(result["contributions"], key=lambda one: -abs(one["logit"]))
    return {
        "case": case.name,
        **{name: result[name] for name in ("outcome", "probability", "logit", "base_logit")},
        "modalities": ";".join(result["modalities"]),
        **{f"contribution_{name}": added.get(name) for name in MODALITIES},
        "largest": ";".join(one["name"] for one in parts[:_LARGEST]),
        "missing": ";".join(result["missing"]),
        "missing_count": len(result["missing"]),
        "notices": ";".join(notice["code"] for notice in result["notices"]),
        "seconds": made["seconds"],
        "device": made["device"],
        "model": made["model"]["name"],
        "model_version": made["model"]["version"],
        "reactkd_version": made["reactkd_version"],
        "result": f"{CASES}/{case.name}",
    }
