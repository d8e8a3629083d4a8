"""The worker process of ``REACTKDLib.worker``, as the panel sees it: never waited for.

Its answers and its log go to files that a timer looks at: no pipe can fill, and no Python thread is
needed, which Slicer's event loop would starve.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

import REACTKDLib
from REACTKDLib import errors
from REACTKDLib.errors import EnvironmentProblem, ReactKDError
from REACTKDLib.worker import Job, PrognosisJob, job_line

#: How often the answers are looked at, ms.
_POLL_MS = 50

#: Lines of the log that an error about a dead worker quotes.
_LAST_LINES = 3

_CODE = "import sys; sys.path.insert(0, {folder!r}); from REACTKDLib.worker import main; main()"


@dataclass(frozen=True)
class Listener:
    """Whom a job tells what becomes of it; just one of ``done`` and ``failed`` is called, once."""

    progress: Callable[[str, float], None]
    done: Callable[[], None]
    failed: Callable[[ReactKDError], None]


def python_executable() -> Path:
    """The interpreter that runs outside Slicer's window with Slicer's packages."""
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    return Path(slicer.app.slicerHome) / "bin" / name


class WorkerProcess:
    """One process, started when it is first needed and again after it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._answers: Any = None
        self._rest = b""
        self._worker_pid: int | None = None
        self._jobs = 0
        self._listener: Listener | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MS)
        self._timer.connect("timeout()", self.poll)

    @property
    def busy(self) -> bool:
        """Whether a job is being done."""
        return self._listener is not None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def run(self, job: Job | PrognosisJob, listener: Listener) -> None:
        """Do a job; returns at once. The process must not be busy.

        Raises
        ------
        EnvironmentProblem : the process cannot be started.
        """
        assert not self.busy, "one job at a time"
        if not self.alive:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._jobs += 1
        self._listener = listener
        try:
            self._process.stdin.write(job_line(self._jobs, job).encode())
            self._process.stdin.flush()
        except OSError:
            pass  # it has just died: the timer finds that out and tells the listener
        self._timer.start()

    def cancel(self) -> None:
        """Kill the process and forget its job, whose listener hears nothing more."""
        self._listener = None
        self.close()

    def close(self) -> None:
        """End the process; a later job starts another."""
        self._timer.stop()
        if self._process is not None:
            # Slicer's Python is started by a launcher, whose end does not end what it started.
            if self._worker_pid is not None:
                with contextlib.suppress(OSError):
                    os.kill(self._worker_pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            self._process.kill()
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
        if self._answers is not None:
            self._answers.close()
        if self._folder is not None:
            with contextlib.suppress(OSError):  # Windows may still hold the log
                self._folder.cleanup()
        self._process = self._answers = self._folder = self._worker_pid = None
        self._rest = b""

    def log(self) -> str:
        """What the process has printed so far."""
        if self._folder is None:
            return ""
        return (Path(self._folder.name) / "log.txt").read_text(encoding="utf-8", errors="replace")

    def poll(self) -> None:
        """Look for answers; the timer calls it."""
        if self._answers is None:
            return
        ended = not self.alive  # asked first: what it wrote before its end is still read
        lines = (self._rest + self._answers.read()).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._hear(json.loads(line))
        if ended and self.busy:
            self._end(self._death())

    def _start(self) -> None:
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="REACTKD-worker-")
        answers, log = Path(self._folder.name, "answers.txt"), Path(self._folder.name, "log.txt")
        library = Path(REACTKDLib.__file__).resolve().parents[1]
        try:
            with answers.open("wb") as out, log.open("wb") as err:
                self._process = subprocess.Popen(
                    [str(python_executable()), "-c", _CODE.format(folder=str(library))],
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=err,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
        except OSError as error:
            self.close()
            raise EnvironmentProblem(
                _("The worker process cannot be started: {problem}.").format(problem=error),
                _("Install Slicer again, or report this with the path above."),
            ) from error
        self._answers = answers.open("rb")

    def _hear(self, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "ready":
            self._worker_pid = message["pid"]
        elif self._listener is not None and message["id"] == self._jobs:
            if event == "progress":
                self._listener.progress(message["stage"], message["done"])
            else:
                self._end(_error(message) if event == "error" else None)

    def _end(self, error: ReactKDError | None) -> None:
        self._timer.stop()
        listener, self._listener = self._listener, None
        assert listener is not None
        if error is None:
            listener.done()
        else:
            listener.failed(error)

    def _death(self) -> EnvironmentProblem:
        assert self._process is not None
        last = " / ".join(self.log().strip().splitlines()[-_LAST_LINES:])
        return EnvironmentProblem(
            _("The worker process ended unexpectedly (exit code {code}). {last}").format(
                code=self._process.returncode, last=last
            ),
            _("Press Apply again. If memory was short, close other programs first."),
        )


def _error(message: dict[str, Any]) -> ReactKDError:
    """The error of the worker, of the same class."""
    kind = getattr(errors, message["error"], ReactKDError)
    error: ReactKDError = kind(message["message"], message["advice"])
    return error
