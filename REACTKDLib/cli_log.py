"""What commands tell: sentences for a person, or JSON for a program."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any


class TerminalLog:
    """Progress bar and sentences for a person."""

    def __init__(self) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        self._bar: Any = None

    def progress(self, stage: str, done: float) -> None:
        """A stage has begun or gone on; ``done`` of the whole, 0..1."""
        from tqdm import tqdm

        if self._bar is None:
            # disable=None: no bar where standard error is a file or a pipe.
            self._bar = tqdm(
                total=100, leave=False, disable=None, bar_format="{l_bar}{bar}| {elapsed}"
            )
        self._bar.set_description(stage)
        self._bar.update(round(100 * done) - self._bar.n)
        if done >= 1.0:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def say(self, text: str, **fields: Any) -> None:
        """Tell something; ``fields`` are for programs."""
        print(text, flush=True)

    def error(self, kind: str, message: str, advice: str, exit_code: int, **fields: Any) -> None:
        """Tell what stopped the command; ``fields`` are for programs."""
        self._close()
        print(f"reactkd: {message}\n{advice}".rstrip(), file=sys.stderr)


class JsonLog:
    """One JSON object per line on standard output, for programs."""

    def progress(self, stage: str, done: float) -> None:
        """As :class:`TerminalLog`."""
        self._print(event="progress", stage=stage, done=done)

    def say(self, text: str, **fields: Any) -> None:
        """As :class:`TerminalLog`."""
        self._print(event="message", text=text, **fields)

    def error(self, kind: str, message: str, advice: str, exit_code: int, **fields: Any) -> None:
        """As :class:`TerminalLog`."""
        self._print(
            event="error",
            error=kind,
            message=message,
            advice=advice,
            exit_code=exit_code,
            **fields,
        )

    def event(self, **fields: Any) -> None:
        """Something else, for programs."""
        self._print(**fields)

    @staticmethod
    def _print(**fields: Any) -> None:
        print(json.dumps(fields, ensure_ascii=False), flush=True)


Log = TerminalLog | JsonLog
