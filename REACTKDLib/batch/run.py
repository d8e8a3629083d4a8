"""A whole batch: check everything, do what is not finished, write the tables."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from .. import __version__, errors
from ..deidentify import LEFT_OUT, Pseudonyms
from ..errors import InputError, OptionError, OutputError
from ..model_package import ModelPackage
from ..prognosis.package import PrognosisPackage
from .kinds import Kind, kind_of
from .memory import BASE_BYTES
from .on_dask import (
    dask_is_installed,
    default_workers,
    existing_cluster,
    local_cluster,
    need_dask,
    run_on_dask,
)
from .plan import Case, Plan, write_plan
from .store import Failure, Settings, Store, cannot_write, made_from, open_store
from .tables import unusable, write_tables
from .task import Job, Outcome, Process, run_job

#: Failures that no other case would escape: the batch ends, and can be resumed.
_END_ALL = ("OutputError", "EnvironmentProblem")
CHANGED = "ChangedInput"
_READ_ALONE = "Run this row of the manifest with 'reactkd predict' to read it."
#: Seconds of a timeout that all systems can count: a month.
_LONGEST = 2_678_400.0

_Work = Callable[[Iterable[Job]], Iterator[Outcome]]


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is done.

    ``workers`` : local processes; 0 is this process, None as many as the machine bears.
    ``scheduler`` : address of a Dask scheduler, instead. ``timeout`` : seconds for a case.
    ``memory`` : bytes for a worker. ``resume`` : go on in an output folder. ``rerun_changed`` : do
    finished cases again whose inputs or settings have changed. ``dicom_output`` : write DICOM
    objects into each case's folder too. ``pseudonyms`` : de-identify everything that is written or
    said. The rest as in ``RunOptions`` and ``StudyFiles``, for all
    cases.
    """

    scheme: str = "anatomical"
    target: str | None = None
    device: str = "auto"
    backend: str = "auto"
    phase: str | None = None
    dicom_output: bool = False
    pseudonyms: Pseudonyms | None = None
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    workers: int | None = None
    scheduler: str | None = None
    timeout: float | None = None
    memory: int | None = None
    resume: bool = False
    rerun_changed: bool = False


@dataclass
class Counts:
    """Cases so far: all, done in this run, finished in an earlier one, failed."""

    total: int = 0
    done: int = 0
    finished_before: int = 0
    failed: int = 0

    @property
    def remaining(self) -> int:
        """Cases that have not ended."""
        return self.total - self.done - self.finished_before - self.failed


class Listener(Protocol):
    """Who hears how a batch goes."""

    def message(self, text: str) -> None:
        """Something to know."""

    def checked(self, count: int) -> None:
        """So many rows have been read and checked."""

    def ended(self, outcome: Outcome | None, counts: Counts) -> None:
        """A case has ended; None: it was finished in an earlier run."""


def run_batch(
    manifest: Path,
    output: Path,
    package: ModelPackage | PrognosisPackage,
    options: BatchOptions,
    listener: Listener,
    process: Process | None = None,
) -> Counts:
    """Do all cases of a manifest or folder; what goes wrong with one is in the failures table.

    ``process`` writes the result of one case; by default as the kind of the package wants it.

    Raises
    ------
    OptionError : numbers that make no sense, a class or scheme that does not exist.
    InputError : the manifest cannot be used; nothing was done.
    OutputError : as :func:`~.store.open_store`; or the folder can no longer be written. What is
        finished stays, and the batch can be resumed.
    EnvironmentProblem : Dask is missing, or no worker can do cases.
    """
    kind = kind_of(package)
    _check(options, kind)
    settings = Settings(
        reactkd_version=__version__,
        model=package.name,
        model_version=package.version,
        model_sha256=package.package_sha256,
        scheme=options.scheme,
        target=options.target,
        roles=tuple(sorted(options.roles.items())),
        phase=options.phase,
        dicom_output=options.dicom_output,
        pseudonyms=None if options.pseudonyms is None else options.pseudonyms.name("salt", ""),
    )
    with (
        open_store(
            output, settings, resume=options.resume, rerun_changed=options.rerun_changed
        ) as store,
        _plan_folder(store, options) as folder,
    ):
        try:
            plan = write_plan(
                manifest, folder / "plan.jsonl", listener.checked, options.pseudonyms, kind.form
            )
        except OSError as error:
            raise cannot_write(folder, error) from error
        listener.message(f"{plan.count} cases, {plan.unusable} of them cannot be used as they are.")
        batch = _Batch(plan, store, settings, package, options, listener, kind)
        try:
            batch.run(process or kind.process)
        except BaseException:
            with contextlib.suppress(OutputError):  # the first error is the one to tell
                batch.write_tables()
            raise
        batch.write_tables()
    return batch.counts


@contextlib.contextmanager
def _plan_folder(store: Store, options: BatchOptions) -> Iterator[Path]:
    """Where the plan is written: a plan names the patients, so that of a de-identified batch never
    lies in the output folder, not even after a kill."""
    if options.pseudonyms is None:
        yield store.work
        return
    with tempfile.TemporaryDirectory(prefix="reactkd-") as folder:
        yield Path(folder)


def _check(options: BatchOptions, kind: Kind) -> None:
    """Everything that can be refused before the output folder is touched."""
    from ..dicom_input.choose_series import check_phase
    from ..pipeline import RunOptions

    if options.workers is not None and options.workers < 0:
        raise OptionError(f"--workers is {options.workers}.", "Give 0 or more.")
    if options.timeout is not None and not 0 < options.timeout < _LONGEST:
        raise OptionError(f"--timeout is {options.timeout}.", "Give a positive number of seconds.")
    if options.memory is not None and options.memory < BASE_BYTES:
        raise OptionError(
            f"--memory is {options.memory / 2**30:.2f} GiB; the libraries alone need"
            f" {BASE_BYTES / 2**30:.2f} GiB.",
            "Give more.",
        )
    if options.scheduler is not None and options.workers is not None:
        raise OptionError("--workers and --scheduler exclude each other.", "Give one of them.")
    if options.timeout is not None and options.workers == 0:
        raise OptionError(
            "--timeout ends a worker process, and with --workers 0 there is none.",
            "Give --workers 1 or more.",
        )
    if options.scheduler is not None or options.timeout is not None or (options.workers or 0) > 1:
        need_dask()
    # What the workers of a cluster have need not be in this machine.
    device = "auto" if options.scheduler and options.device == "cuda" else options.device
    backend = "auto" if options.scheduler else options.backend
    kind.check(RunOptions(options.target, options.scheme, device, backend))
    check_phase(options.phase)
    if options.dicom_output and not kind.dicom:
        raise OptionError(
            "--dicom-output is not for prognosis.", "Leave it out: DICOM objects are of REACT-KD."
        )
    if options.dicom_output and not options.scheduler:
        from ..dicom_output import check_libraries

        check_libraries()


@contextlib.contextmanager
def _workers(options: BatchOptions, listener: Listener, process: Process) -> Iterator[_Work]:
    """What does jobs, as the options want it."""
    if options.scheduler is None and (options.workers == 0 or not dask_is_installed()):
        if options.workers != 0:
            listener.message(
                "Dask is not installed: one case after another, in this process. For workers:"
                " pip install 'reactkd[batch]' (in Slicer's Python console:"
                " slicer.util.pip_install('dask[distributed] pyarrow'))."
            )
        yield lambda jobs: (run_job(job, process) for job in jobs)
        return
    if options.scheduler is not None:
        cluster = existing_cluster(options.scheduler, options.memory)
    else:
        workers = default_workers() if options.workers is None else options.workers
        cluster = local_cluster(workers, options.memory)
    with cluster as ready:
        listener.message(f"On {ready.text}.")
        yield lambda jobs: run_on_dask(jobs, process, ready)


class _Batch:
    """The cases of a plan on their way."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        settings: Settings,
        package: ModelPackage | PrognosisPackage,
        options: BatchOptions,
        listener: Listener,
        kind: Kind,
    ) -> None:
        self.counts = Counts(total=plan.count)
        self._plan, self._store, self._summary = plan, store, kind.summary
        self._options, self._listener = options, listener
        self._any = Job(
            case=Case(0, ""),
            root=plan.root,
            store=store,
            settings=settings,
            package=package.path.absolute(),
            device=options.device,
            backend=options.backend,
            memory=options.memory,
            timeout=options.timeout,
            pseudonyms=options.pseudonyms,
        )

    def run(self, process: Process) -> None:
        """Do every case that is not finished."""
        with contextlib.closing(self._jobs()) as jobs:
            first = next(jobs, None)
            if first is None:
                return  # nothing to do: no worker is started
            with _workers(self._options, self._listener, process) as work:
                for outcome in work(itertools.chain([first], jobs)):
                    self._end(outcome)

    def write_tables(self) -> None:
        """Summary and failures of all that has ended."""
        if not write_tables(self._plan, self._store, self._summary):
            self._listener.message("There is no summary.parquet, because pyarrow is not installed.")

    def _jobs(self) -> Generator[Job, None, None]:
        for case in self._plan.cases():
            if case.problems:
                self._tell(Outcome(case, unusable(case)))
            elif not self._store.result(case.name).exists():
                yield replace(self._any, case=case)
            else:
                yield from self._again(case)

    def _again(self, case: Case) -> Iterator[Job]:
        """The job of a case that has a folder, if it is to be done again."""
        earlier = self._store.finished(case.name)
        if earlier is None:
            folder = self._store.result(case.name)
            reason = f"{folder} exists and is no finished result of a batch."
            advice = "Move it away, then go on with --resume."
            self._end(Outcome(case, Failure("DamagedResult", reason, advice)))
            return
        try:
            source = made_from(case, self._plan.root, self._any.settings, self._options.pseudonyms)
        except InputError as error:
            self._end(Outcome(case, Failure("InputError", error.message, error.advice)))
            return
        if earlier == source:
            self._store.record_failure(case.name, None)
            self.counts.finished_before += 1
            self._listener.ended(None, self.counts)
        elif self._options.rerun_changed:
            yield replace(self._any, case=case, replace=True)
        else:
            self._end(Outcome(case, _changed(earlier, source)))

    def _end(self, outcome: Outcome) -> None:
        failure = outcome.failure
        if failure is not None and failure.error in _END_ALL:
            raise getattr(errors, failure.error)(failure.reason, failure.next_step)
        if failure is not None and self._options.pseudonyms is not None:
            failure = Failure(failure.error, f"{LEFT_OUT}.", _READ_ALONE)
            outcome = replace(outcome, failure=failure)
        self._store.record_failure(outcome.case.name, failure)
        self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if outcome.failure is None:
            self.counts.done += 1
        else:
            self.counts.failed += 1
        self._listener.ended(outcome, self.counts)


def _changed(earlier: dict[str, Any], now: dict[str, Any]) -> Failure:
    inputs = earlier.get("inputs", [])
    changed = sorted({entry["role"] for entry in now["inputs"] if entry not in inputs})
    if earlier.get("values") != now.get("values"):
        changed.append("clinical values")
    if earlier.get("settings") != now["settings"]:
        changed.append("the settings")
    return Failure(
        CHANGED,
        f"It was finished, but {', '.join(changed) or 'its inputs'} changed since then.",
        "Give --rerun-changed to do it again, or put the inputs back.",
    )
