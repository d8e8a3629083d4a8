"""One case of a batch, from its files to its finished folder: what a worker does."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..deidentify import Pseudonyms
from ..errors import EnvironmentProblem, InputError, ReactKDError
from ..model_package import ModelPackage, load_package
from ..report import DICOM, PROVENANCE
from .attempts import attempt, verdict
from .memory import check_memory
from .plan import Case
from .store import Failure, Settings, Store, cannot_write, made_from


@dataclass(frozen=True)
class Job:
    """A case to be done: plain values, so that it goes to any worker.

    ``root`` : where its paths begin. ``package`` : folder of the model package. ``memory`` bytes
    and ``timeout`` seconds that it may take. ``replace`` : an earlier result goes when the new one
    is there. ``own_process`` : the worker process does nothing else and may be ended.
    ``pseudonyms`` : de-identify what is written.
    """

    case: Case
    root: Path
    store: Store
    settings: Settings
    package: Path
    device: str = "auto"
    backend: str = "auto"
    memory: int | None = None
    timeout: float | None = None
    replace: bool = False
    own_process: bool = False
    pseudonyms: Pseudonyms | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a case: finished in ``seconds``, or a failure."""

    case: Case
    failure: Failure | None = None
    seconds: float = 0.0


#: Writes the result of a job into a new folder.
Process = Callable[[Job, Path], None]


def run_pipeline(job: Job, folder: Path) -> None:
    """Write the result of ``job`` into the new folder ``folder`` (the pipeline of one case).

    Raises
    ------
    ReactKDError : as :func:`REACTKDLib.pipeline.run_files` and
        :func:`REACTKDLib.dicom_output.write_dicom_output`.
    """
    from ..pipeline import RunOptions, run_files
    from ..read import StudyFiles

    case, settings = job.case, job.settings
    files = StudyFiles(
        ct=job.root / case.ct,
        segmentation=tuple(job.root / path for path in case.segmentation),
        pet={tracer: job.root / path for tracer, path in case.pet.items()},
        roles=dict(settings.roles),
        series_uid=case.series or None,
        phase=settings.phase,
        case_id=case.identifier or case.name,
    )
    options = RunOptions(settings.target, settings.scheme, job.device, job.backend)
    package = _package(job.package, settings.model_sha256)
    result = run_files(files, package, folder, options, pseudonyms=job.pseudonyms)
    if settings.dicom_output:
        from ..dicom_output import write_dicom_output

        write_dicom_output(
            result,
            files.ct,
            folder / DICOM,
            series_uid=files.series_uid,
            pseudonyms=job.pseudonyms,
        )


@functools.lru_cache(maxsize=2)
def _package(folder: Path, sha256: str) -> ModelPackage:
    """The package, loaded once a process."""
    package = load_package(folder)
    if package.package_sha256 != sha256:
        raise EnvironmentProblem(
            f"{folder} on this machine is not the model package that the batch began with.",
            "Give every worker the same package.",
        )
    return package


def run_job(job: Job, process: Process = run_pipeline) -> Outcome:
    """Do a case and put its folder in place. Whatever goes wrong with it is its outcome."""
    began = time.perf_counter()
    try:
        failure = _run(job, process, began)
    except ReactKDError as error:
        failure = Failure(type(error).__name__, error.message, error.advice)
    except MemoryError:
        failure = Failure("MemoryError", "There was not enough memory.", "Use fewer --workers.")
    except Exception as error:  # one case never stops the others
        text = f"Unexpected {type(error).__name__}: {error}."
        failure = Failure("Unexpected", text, "Run it alone with 'reactkd predict --debug'.")
    return Outcome(job.case, failure, time.perf_counter() - began)


def _run(job: Job, process: Process, began: float) -> Failure | None:
    name, store = job.case.name, job.store
    _check_worker(job)
    source = made_from(job.case, job.root, job.settings, job.pseudonyms)
    folder = store.work / name
    if job.own_process:
        # The worker of an earlier attempt may have died when its result was in place.
        if store.finished(name) == source:
            return None
        if (refused := verdict(folder, job.timeout)) is not None:
            return refused
    check_memory(job.case, job.root, job.memory)
    with _writing(store), attempt(folder, job.timeout if job.own_process else None) as stage:
        result = stage / "result"
        process(job, result)
        _note(result / PROVENANCE, batch=source, seconds=time.perf_counter() - began)
        try:
            store.commit(result, name, replace=job.replace)
        except FileExistsError as error:
            if store.finished(name) != source:
                raise InputError(
                    f"{store.result(name)} exists and is not of this batch.",
                    "Move it away, then go on with --resume.",
                ) from error
    return None


def _check_worker(job: Job) -> None:
    """Raises EnvironmentProblem where this process cannot take part in the batch."""
    version = job.settings.reactkd_version
    if version != __version__:
        raise EnvironmentProblem(
            f"The worker on {socket.gethostname()} has REACTKD {__version__}, the batch {version}.",
            "Install the same version everywhere.",
        )
    if not job.store.work.is_dir():
        raise EnvironmentProblem(
            f"The worker on {socket.gethostname()} does not see {job.store.work}.",
            "Workers need the output folder and all inputs under the same paths.",
        )


@contextlib.contextmanager
def _writing(store: Store) -> Iterator[None]:
    """What the file system refuses is the output folder's: readers raise errors of their own."""
    try:
        yield
    except OSError as error:
        raise cannot_write(store.folder, error) from error


def _note(provenance: Path, **fields: Any) -> None:
    document = json.loads(provenance.read_text(encoding="utf-8")) | fields
    provenance.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
