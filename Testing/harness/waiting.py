"""Waiting for what Qt's timers and other processes bring about."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Let Qt's timers run until something has happened; an AssertionError when it does not."""
    import slicer

    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        slicer.app.processEvents()
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that its parent has not asked about yet has."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return state.rsplit(")", 1)[1].split()[0] == "Z"
