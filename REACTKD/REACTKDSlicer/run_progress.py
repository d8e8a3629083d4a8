"""How far a run is: its stage and seconds in a line of text, the part done in a progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

#: How often the elapsed time is shown anew, ms.
_CLOCK_MS = 500


class RunProgress:
    """Tells of one run at a time.

    Parameters
    ----------
    bar : the progress bar, hidden until a run makes it visible.
    say : shows the line.
    ticked : called at every tick of the clock while a run is under way.
    """

    def __init__(self, bar: Any, say: Callable[[str], None], ticked: Callable[[], None]) -> None:
        self._bar, self._say, self._ticked = bar, say, ticked
        self._stage, self._began = "", 0.0
        self._clock = qt.QTimer()
        self._clock.setInterval(_CLOCK_MS)
        self._clock.connect("timeout()", self._on_clock)
        bar.visible = False

    def begin(self) -> None:
        """A run begins."""
        self._stage, self._began = _("starting"), time.monotonic()
        self._bar.value = 0
        self._clock.start()

    def advance(self, stage: str, done: float) -> None:
        """The run is in a stage; ``done`` : the part done, 0..1."""
        self._stage = stage
        self._bar.value = round(100 * done)
        self.show()

    def show(self) -> None:
        """Say which stage it is, and how long the run has taken."""
        elapsed = int(time.monotonic() - self._began)
        self._say(_("Running: {stage}, {seconds} s").format(stage=self._stage, seconds=elapsed))

    def end(self) -> None:
        """The run has ended."""
        self._clock.stop()

    def _on_clock(self) -> None:
        self.show()
        self._ticked()
