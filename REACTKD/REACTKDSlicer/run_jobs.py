"""From a request to the job of the worker process, and the files that it needs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from REACTKDLib.exchange import send_study
from REACTKDLib.types import Study
from REACTKDLib.worker import Job, PrognosisJob

from .logic import Request
from .prognosis_logic import PrognosisRequest


def files_of(study: Study | None) -> tempfile.TemporaryDirectory[str]:
    """A new folder with a study, if there is one; it is gone when nobody holds it any more."""
    files = tempfile.TemporaryDirectory(prefix="REACTKD-run-")
    if study is not None:
        _study_folder(files).mkdir()
        send_study(study, _study_folder(files))
    return files


def job_of(request: Request, files: tempfile.TemporaryDirectory[str]) -> Job:
    """The job of a request; where its result goes is still open."""
    return Job(
        study=str(_study_folder(files)),
        package=str(request.package.path),
        output="",
        target=request.target or "",
        scheme=request.scheme,
        device=request.device,
    )


def prognosis_job_of(
    request: PrognosisRequest, files: tempfile.TemporaryDirectory[str], cache: str
) -> PrognosisJob:
    """The job of a prognosis; where its result goes is still open. ``cache`` keeps radiomics."""
    record = request.record
    return PrognosisJob(
        package=str(request.package.path),
        output="",
        study=str(_study_folder(files)) if request.study is not None else "",
        clinical=record is not None,
        values=dict(record.values) if record is not None else {},
        text=record.text if record is not None else "",
        case_id=request.run,
        device=request.device,
        scheme=request.scheme,
        cache=cache,
    )


def _study_folder(files: tempfile.TemporaryDirectory[str]) -> Path:
    return Path(files.name, "study")
