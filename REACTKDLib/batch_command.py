"""``reactkd batch``: its options, its progress bar and its log."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_dicom import add_deidentify_options, chosen_pseudonyms
from .errors import OptionError

if TYPE_CHECKING:
    from .batch.run import Counts
    from .batch.task import Outcome
    from .model_package import ModelPackage
    from .prognosis.package import PrognosisPackage

#: The batch is complete, and some cases failed.
SOME_FAILED = 7
INTERRUPTED = 130

_UNITS = {"": 2**30, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """What ``reactkd batch`` adds to the options of ``reactkd predict`` for all cases."""
    parser.add_argument(
        "manifest", type=Path, help="CSV, JSON or JSON Lines; or a folder (docs/batch.md)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for results and tables")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="local worker processes; 0: in this process; default: as the machine bears",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler of a cluster, instead"
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds that a case may take")
    parser.add_argument(
        "--memory", metavar="SIZE", help="memory of a worker, as 4G; larger images are refused"
    )
    parser.add_argument(
        "--phase", help="contrast phase of CT series: native, arterial, portal or late"
    )
    parser.add_argument(
        "--dicom-output", action="store_true", help="DICOM objects beside each result too"
    )
    add_deidentify_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an output folder")
    parser.add_argument(
        "--rerun-changed",
        action="store_true",
        help="with --resume: do finished cases again whose inputs or settings have changed",
    )


def memory_size(text: str | None) -> int | None:
    """Bytes of ``4G``, ``4GiB``, ``3500M`` or ``4`` (GiB).

    Raises
    ------
    OptionError : anything else.
    """
    if text is None:
        return None
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in ("k", "m", "g", "t") else ""
    try:
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise OptionError(f"--memory is {text!r}.", "Give a size as 4G or 3500M.")
    return size


def run_batch_command(
    options: argparse.Namespace,
    package: ModelPackage | PrognosisPackage,
    roles: Mapping[str, tuple[str, ...]],
    log: Any,
) -> int:
    """Run the command; returns its exit code.

    Raises
    ------
    ReactKDError : as :func:`REACTKDLib.batch.run.run_batch`.
    """
    from .batch.run import BatchOptions, run_batch

    if options.deidentify and options.deidentify_salt is None:
        raise OptionError(
            "--deidentify is given without --deidentify-salt.",
            "A batch needs a salt that stays, so that it finds its finished cases again.",
        )
    how = BatchOptions(
        scheme=options.scheme,
        target=options.target,
        device=options.device,
        backend=options.backend,
        phase=options.phase,
        dicom_output=options.dicom_output,
        pseudonyms=chosen_pseudonyms(options),
        roles=roles,
        workers=options.workers,
        scheduler=options.scheduler,
        timeout=options.timeout,
        memory=memory_size(options.memory),
        resume=options.resume,
        rerun_changed=options.rerun_changed,
    )
    listener = _JsonListener(log) if options.log_json else _TerminalListener(log)
    try:
        with _terminated_as_interrupted(), contextlib.closing(listener):
            counts = run_batch(options.manifest, options.output, package, how, listener)
    except KeyboardInterrupt:
        text = "Stopped on request. What is finished stays, and is in the tables."
        log.error("Interrupted", text, "Go on with --resume.", INTERRUPTED)
        return INTERRUPTED
    text = f"{counts.done} cases done, {counts.finished_before} finished before,"
    text += f" {counts.failed} failed."
    log.say(f"{text}\nTables: {options.output}", output=str(options.output), **vars(counts))
    return SOME_FAILED if counts.failed else 0


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A cluster's scheduler or a service manager ends a batch like Ctrl-C: tables are written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _TerminalListener:
    """A progress bar with rate and remaining time; failures above it."""

    def __init__(self, log: Any) -> None:
        from tqdm import tqdm

        self._log = log
        # disable=None: no bar where standard error is a file or a pipe.
        self._new_bar: Callable[..., Any] = lambda **options: tqdm(disable=None, **options)
        self._write = tqdm.write
        self._bar, self._checking = self._new_bar(unit="row", desc="checking", leave=False), True

    def close(self) -> None:
        self._bar.close()

    def message(self, text: str) -> None:
        self._write(text, file=sys.stderr)

    def checked(self, count: int) -> None:
        self._bar.update(1)

    def ended(self, outcome: Outcome | None, counts: Counts) -> None:
        if self._checking:
            self._bar.close()
            self._checking = False
            self._bar = self._new_bar(unit="case", total=counts.total, smoothing=0.05)
        if outcome is None:
            # Not work of this run: the rate must not count it.
            self._bar.total -= 1
            return
        if outcome.failure is not None:
            self.message(_sentence(outcome))
        self._bar.set_postfix(failed=counts.failed, refresh=False)
        self._bar.update(1)


class _JsonListener:
    """One object per case."""

    def __init__(self, log: Any) -> None:
        self._log, self._began = log, time.monotonic()

    def close(self) -> None:
        """Nothing to do."""

    def message(self, text: str) -> None:
        self._log.say(text)

    def checked(self, count: int) -> None:
        """The message after the check says it."""

    def ended(self, outcome: Outcome | None, counts: Counts) -> None:
        if outcome is None:
            return
        elapsed = time.monotonic() - self._began
        ended = counts.done + counts.failed
        facts = {} if outcome.failure is None else vars(outcome.failure)
        self._log.event(
            event="case",
            case=_encodable(outcome.case.name),
            row=outcome.case.row,
            outcome="done" if outcome.failure is None else "failed",
            seconds=round(outcome.seconds, 3),
            **{name: _encodable(text) for name, text in facts.items()},
            ended=counts.total - counts.remaining,
            total=counts.total,
            cases_per_second=round(ended / elapsed, 4),
            remaining_seconds=round(counts.remaining * elapsed / ended, 1),
        )


def _sentence(outcome: Outcome) -> str:
    """A failure for the terminal: what a manifest can hold may have control characters in it."""
    assert outcome.failure is not None
    name = outcome.case.name or f"row {outcome.case.row}"
    text = f"{name}: {outcome.failure.error}: {outcome.failure.reason}"
    return "".join(c if c.isprintable() else "?" for c in text)


def _encodable(text: str) -> str:
    """Text that can be written: file names, and JSON, may hold what is no character."""
    return text.encode("utf-8", "backslashreplace").decode()
