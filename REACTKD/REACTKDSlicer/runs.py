"""Runs in the worker process: from a request to a result, while the user keeps working."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from REACTKDLib.errors import ReactKDError
from REACTKDLib.exchange import receive_case, receive_prognosis, send_case
from REACTKDLib.prognosis.types import PrognosisResult
from REACTKDLib.types import CaseResult, WhatIf
from REACTKDLib.worker import Job, PrognosisJob

from .logic import Request
from .prognosis_logic import PrognosisRequest
from .run_jobs import files_of, job_of, prognosis_job_of
from .worker_process import Listener, WorkerProcess


class Worker(Protocol):
    """What runs need of :class:`~.worker_process.WorkerProcess`; tests give another."""

    @property
    def busy(self) -> bool:
        """Whether a job is being done."""

    def run(self, job: Job | PrognosisJob, listener: Listener) -> None:
        """Do a job; returns at once."""

    def cancel(self) -> None:
        """Stop the job; its listener hears nothing more."""

    def close(self) -> None:
        """End the process."""

    def log(self) -> str:
        """What the process has printed."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A result with the request that it answers.

    ``files`` keeps both as files for what-ifs, as long as anyone holds it; the result is in
    ``result_folder``.
    """

    request: Request
    result: CaseResult
    files: tempfile.TemporaryDirectory[str]
    result_folder: Path


@dataclass(frozen=True, eq=False)
class FinishedPrognosis:
    """A prognosis with the request that it answers; ``files`` holds its arrays."""

    request: PrognosisRequest
    result: PrognosisResult
    files: tempfile.TemporaryDirectory[str]


@dataclass(frozen=True)
class Callbacks:
    """Whom a run tells what becomes of it.

    ``progress`` gets the stage and the part done, 0..1. Just one of ``done``, which gets a
    :class:`FinishedRun` or :class:`FinishedPrognosis`, and ``failed`` is called, once; neither
    after the run was cancelled.
    """

    progress: Callable[[str, float], None]
    done: Callable[[Any], None]
    failed: Callable[[ReactKDError], None]


@dataclass(frozen=True)
class _Question:
    """What is asked beside a run; ``begin`` starts it with the callbacks that it gets."""

    number: int
    begin: Callable[[Callbacks], None]
    callbacks: Callbacks


class Runs:
    """Runs, and questions about their results, one at a time, in one worker.

    Questions of several kinds may be asked while the worker is busy: the latest of each kind is
    begun when its turn comes, and only the answer to the latest is told.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self.worker: Worker = worker or WorkerProcess()
        self._waiting: dict[str, _Question] = {}
        self._latest: dict[str, int] = {}
        self._asked = ""
        self._radiomics: tempfile.TemporaryDirectory[str] | None = None

    @property
    def busy(self) -> bool:
        """Whether a run or a question is under way."""
        return self.worker.busy

    def ask(self, kind: str, begin: Callable[[Callbacks], None], callbacks: Callbacks) -> None:
        """Ask a question as soon as the worker is free; it takes the place of an earlier one.

        ``begin`` gets the callbacks to begin with (:meth:`start`, :meth:`what_if`,
        :meth:`explain`, :meth:`prognose`); a ReactKDError that it raises is told like one of the
        worker.
        """
        self.forget(kind)
        self._waiting[kind] = _Question(self._latest[kind], begin, callbacks)
        self._next()

    def forget(self, kind: str) -> None:
        """Nobody wants the answer to the latest question of a kind any more."""
        self._latest[kind] = self._latest.get(kind, 0) + 1
        self._waiting.pop(kind, None)

    def stop(self, kind: str) -> None:
        """Stop the latest question of a kind, begun or waiting; nobody hears of it again, and
        others go on."""
        begun = kind not in self._waiting and self._asked == kind and self.busy
        self.forget(kind)
        if begun:
            self.worker.cancel()
            self._next()

    def _next(self) -> None:
        """Begin the question that has waited longest, if the worker is free."""
        while self._waiting and not self.busy:
            kind = next(iter(self._waiting))
            self._begin(kind, self._waiting.pop(kind))

    def _begin(self, kind: str, question: _Question) -> None:
        def wanted() -> bool:
            return self._latest[kind] == question.number

        def done(run: FinishedRun) -> None:
            if wanted():
                question.callbacks.done(run)

        def failed(error: ReactKDError) -> None:
            if wanted():
                question.callbacks.failed(error)

        self._asked = kind
        try:
            question.begin(Callbacks(question.callbacks.progress, done, failed))
        except ReactKDError as error:
            question.callbacks.failed(error)

    def start(self, request: Request, callbacks: Callbacks) -> None:
        """Run a request; returns as soon as its images are written for the worker.

        Raises
        ------
        ReactKDError : the worker cannot be started.
        """
        files = files_of(request.study)
        self._run(job_of(request, files), request, files, callbacks)

    def what_if(self, run: FinishedRun, changes: WhatIf, callbacks: Callbacks) -> None:
        """What the network would have said of a finished run's study with some changes.

        Raises
        ------
        ReactKDError : the worker cannot be started.
        """
        job = dataclasses.replace(
            job_of(run.request, run.files),
            original=str(run.result_folder),
            hidden=changes.hidden,
            photons=changes.photons or 0.0,
            seed=changes.seed,
        )
        self._run(job, run.request, run.files, callbacks)

    def explain(self, run: FinishedRun, target: str, callbacks: Callbacks) -> None:
        """The same run for another class.

        Raises
        ------
        ReactKDError : the worker cannot be started.
        """
        request = dataclasses.replace(run.request, target=target)
        self._run(job_of(request, run.files), request, run.files, callbacks)

    def prognose(self, request: PrognosisRequest, callbacks: Callbacks) -> None:
        """Compute a prognosis; returns as soon as what it needs is written for the worker.

        Raises
        ------
        ReactKDError : the worker cannot be started.
        """
        files = files_of(request.study)
        if self._radiomics is None:
            # While the panel is there: other clinical values of a patient need no new radiomics.
            self._radiomics = tempfile.TemporaryDirectory(prefix="REACTKD-radiomics-")

        def finish(output: Path) -> FinishedPrognosis:
            return FinishedPrognosis(request, receive_prognosis(output), files)

        job = prognosis_job_of(request, files, self._radiomics.name)
        self._work(job, files, finish, callbacks)

    def adopt(self, request: Request, result: CaseResult) -> FinishedRun:
        """A run that another session finished, as if this one had."""
        files = files_of(request.study)
        output = Path(tempfile.mkdtemp(prefix="result-", dir=files.name))
        send_case(result, output)
        return FinishedRun(request, result, files, output)

    def cancel(self) -> None:
        """Stop what is under way and what waits; nobody hears of it again."""
        for kind in list(self._latest):
            self.forget(kind)
        self.worker.cancel()

    def close(self) -> None:
        """End the worker."""
        self.worker.close()

    def _run(
        self,
        job: Job,
        request: Request,
        files: tempfile.TemporaryDirectory[str],
        callbacks: Callbacks,
    ) -> None:
        def finish(output: Path) -> FinishedRun:
            return FinishedRun(request, receive_case(output), files, output)

        self._work(job, files, finish, callbacks)

    def _work(
        self,
        job: Job | PrognosisJob,
        files: tempfile.TemporaryDirectory[str],
        finish: Callable[[Path], Any],
        callbacks: Callbacks,
    ) -> None:
        """Do a job; ``finish`` makes what the callbacks get from the folder of its result."""
        output = Path(tempfile.mkdtemp(prefix="result-", dir=files.name))

        def done() -> None:
            try:
                callbacks.done(finish(output))
            finally:
                self._next()

        def failed(error: ReactKDError) -> None:
            try:
                callbacks.failed(error)
            finally:
                self._next()

        listener = Listener(callbacks.progress, done, failed)
        self.worker.run(dataclasses.replace(job, output=str(output)), listener)
