"""A case that ends its worker process, by a crash, for lack of memory or by taking too long, cannot
say so itself: its next attempt, in another process, reads here what became of the one before.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .store import Failure

#: A case that ended its worker process this often is not tried again in this run.
MOST = 2

TIMED_OUT, WORKER_DIED = "TimedOut", "WorkerDied"
_LOG, _STARTED, _TIMEOUT = "attempts.txt", "started ", "Timeout ("


def verdict(folder: Path, timeout: float | None) -> Failure | None:
    """Why the case whose attempts are logged in ``folder`` is not to be tried again, or None."""
    try:
        lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    if any(line.startswith(_TIMEOUT) for line in lines):
        return Failure(
            TIMED_OUT,
            f"The case took longer than {timeout:g} s and was ended.",
            "Give a longer --timeout, or look at its images: are they larger than the others?",
        )
    if sum(line.startswith(_STARTED) for line in lines) >= MOST:
        return Failure(
            WORKER_DIED,
            f"The worker process ended {MOST} times while it did this case.",
            "It may need more --memory. Run it alone with 'reactkd predict' to see what happens.",
        )
    return None


@contextmanager
def attempt(folder: Path, timeout: float | None) -> Iterator[Path]:
    """An empty folder to work in, beside a log of the attempts.

    After ``timeout`` seconds the process ends at once, whatever it waits for: the clock is that of
    the C library's threads, which needs neither Python nor the time of day.
    """
    stage = folder / f"stage-{os.getpid()}-{time.monotonic_ns()}"
    for old in folder.glob("stage-*"):
        shutil.rmtree(old, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        with (folder / _LOG).open("a", encoding="utf-8") as log:
            print(f"{_STARTED}{socket.gethostname()} {os.getpid()}", file=log, flush=True)
            if timeout is not None:
                faulthandler.dump_traceback_later(timeout, exit=True, file=log)
            try:
                yield stage
            finally:
                if timeout is not None:  # else the timer, if there is one, is somebody else's
                    faulthandler.cancel_dump_traceback_later()
    finally:  # not reached by a process that ends in the midst of it
        shutil.rmtree(folder, ignore_errors=True)
