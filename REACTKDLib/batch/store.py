"""The output folder of a batch.

``cases/CASE/`` is a result folder. It takes its place by one rename when all of it is on the disk,
so what stands there is finished, and what it was made from stands in its ``provenance.json`` under
``batch``: that is all a resumed run needs to know. ``.batch/`` holds the lock, the failures so far
and ``work/``, where everything is written first; a run that begins clears it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..deidentify import Pseudonyms
from ..errors import InputError, OutputError
from ..read_image import files_of
from ..report import PROGNOSIS, PROVENANCE, RESULT
from .plan import Case

SETTINGS = "batch.json"
CASES, HIDDEN = "cases", ".batch"
_DETACHED = (".mhd", ".nhdr")


@dataclass(frozen=True)
class Settings:
    """What every case of a batch has in common and its results depend on.

    ``roles`` as pairs of role and segments. ``pseudonyms`` : what the salt of a de-identified batch
    is recognised by, None where it is not. Device and backend are none of it: where a case is
    computed may change from run to run.
    """

    reactkd_version: str
    model: str
    model_version: str
    model_sha256: str
    scheme: str
    target: str | None
    roles: tuple[tuple[str, tuple[str, ...]], ...]
    phase: str | None = None
    dicom_output: bool = False
    pseudonyms: str | None = None

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """As JSON; not to be changed."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document


@dataclass(frozen=True)
class Failure:
    """Why a case has no result: class of the error, reason, what to do next."""

    error: str
    reason: str
    next_step: str


@dataclass(frozen=True)
class Store:
    """The folders of a batch; ``run`` names this run's part of ``work``."""

    folder: Path
    run: str = ""

    @property
    def work(self) -> Path:
        """This run's own folder, on the file system of the results."""
        return self.folder / HIDDEN / "work" / self.run

    def result(self, name: str) -> Path:
        """The result folder of a case."""
        return self.folder / CASES / name

    def _failure(self, name: str) -> Path:
        return self.folder / HIDDEN / "failed" / f"{name}.json"

    def finished(self, name: str) -> dict[str, Any] | None:
        """What the finished case ``name`` was made from; None where there is no such result."""
        try:
            folder = self.result(name)
            record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))["batch"]
            name = PROGNOSIS if (folder / PROGNOSIS).exists() else RESULT
            json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if isinstance(record, dict) else None

    def commit(self, result: Path, name: str, *, replace: bool) -> None:
        """Put a complete result folder in its place; after this a power failure cannot lose it.

        Raises
        ------
        FileExistsError : there is a result already (without ``replace``).
        OSError : the file system refuses.
        """
        for path in result.rglob("*"):
            _flush(path)
        _flush(result)
        place, earlier = self.result(name), result.with_name("replaced")
        if replace and place.exists():
            os.replace(place, earlier)
        try:
            os.rename(result, place)
        except OSError as error:
            if earlier.exists():
                os.replace(earlier, place)
            elif place.exists():
                raise FileExistsError(error.errno, error.strerror, str(place)) from error
            raise
        _flush(place.parent)

    def failure(self, name: str) -> Failure | None:
        """Why the case failed when it was last tried; None if it did not."""
        try:
            return Failure(**json.loads(self._failure(name).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def record_failure(self, name: str, failure: Failure | None) -> None:
        """Remember why a case failed, or with None that it no longer does.

        Raises
        ------
        OutputError : the file system refuses.
        """
        path = self._failure(name)
        try:
            if failure is None:
                path.unlink(missing_ok=True)
                return
            partial = self.work / "failure.json"
            partial.write_text(json.dumps(asdict(failure)), encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise cannot_write(self.folder, error) from error


@contextlib.contextmanager
def open_store(
    folder: Path, settings: Settings, *, resume: bool, rerun_changed: bool
) -> Iterator[Store]:
    """The output folder, locked for this process, cleared of what a killed run left behind.

    Raises
    ------
    OutputError : the folder is not empty (without ``resume``), is no batch's, was made with other
        settings (without ``rerun_changed``), is in use by another batch, or cannot be written.
    """
    from filelock import FileLock, Timeout

    folder = folder.absolute()
    store = Store(folder, uuid.uuid4().hex[:12])
    _check_folder(folder, resume=resume)
    with contextlib.ExitStack() as held:
        try:
            for path in (folder / CASES, folder / HIDDEN / "failed"):
                path.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / HIDDEN / "lock").acquire(blocking=False))
            _check_settings(folder, settings, rerun_changed=rerun_changed)
            # Of runs that were killed: nobody else may write here while the lock is held.
            shutil.rmtree(store.work.parent, ignore_errors=True)
            store.work.mkdir(parents=True, exist_ok=True)
            held.callback(shutil.rmtree, store.work.parent, ignore_errors=True)
            _write_settings(store, settings)
        except Timeout as error:
            raise OutputError(
                f"Another batch is writing to {folder}.",
                "Wait for its end, or give another folder.",
            ) from error
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield store


def _check_folder(folder: Path, *, resume: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "Give another output folder.")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    if not resume:
        raise OutputError(
            f"{folder} exists and is not empty.", "Give a new folder, or --resume to go on with it."
        )
    # A run that was killed at its very beginning has left the two folders alone.
    if SETTINGS not in names and names - {CASES, HIDDEN}:
        raise OutputError(
            f"{folder} is no batch: {SETTINGS} is missing.", "Give the output folder of a batch."
        )


def _check_settings(folder: Path, settings: Settings, *, rerun_changed: bool) -> None:
    path = folder / SETTINGS
    if rerun_changed or not path.exists():
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        changes = [
            f"{name} {earlier.get(name)!r}, now {value!r}"
            for name, value in settings.document.items()
            if earlier.get(name) != value
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError(
            f"{path} is damaged ({error}).", "Give --rerun-changed to write it again."
        ) from error
    if changes:
        raise OutputError(
            f"{folder} was begun with other settings: {'; '.join(changes)}.",
            "Give those again, another output folder, or --rerun-changed to do all cases anew.",
        )


def _write_settings(store: Store, settings: Settings) -> None:
    partial = store.work / SETTINGS
    text = json.dumps(settings.document, indent=1, ensure_ascii=False)
    partial.write_text(text + "\n", encoding="utf-8")
    put(partial, store.folder / SETTINGS)


def put(partial: Path, path: Path) -> None:
    """Put a complete file in the place of ``path``, on the disk."""
    _flush(partial)
    os.replace(partial, path)
    _flush(path.parent)


def cannot_write(folder: Path, error: OSError) -> OutputError:
    """The error for an output folder that the file system refuses."""
    return OutputError(
        f"{folder} cannot be written: {error.strerror or error}.",
        "Free space on the disk (or check the rights), then go on with --resume.",
    )


def made_from(
    case: Case, root: Path, settings: Settings, pseudonyms: Pseudonyms | None = None
) -> dict[str, Any]:
    """What a result depends on, cheaply: settings, series, and of each input the path as the
    manifest has it, the number and size of its files, and a digest of their names, sizes and times
    of last change; of clinical values a digest. With ``pseudonyms`` these stand for series, paths
    and digests.

    Raises
    ------
    InputError : an input is missing or cannot be looked at.
    """
    inputs: list[dict[str, Any]] = []
    for role, path in case.inputs:
        try:
            files = _stamps(root / path, role)
        except OSError as error:
            raise InputError(
                f"The {role} {root / path} cannot be read: {error.strerror or error}.",
                "Check the path and its rights.",
            ) from error
        digest = hashlib.sha256(repr(files).encode()).hexdigest()
        size = sum(size for _, size, _ in files)
        inputs.append(
            {"role": role, "path": path, "files": len(files), "bytes": size, "digest": digest}
        )
    series = case.series
    if pseudonyms is not None:
        for entry in inputs:
            entry |= {name: pseudonyms.name(name, entry[name]) for name in ("path", "digest")}
        series = series and pseudonyms.uid(series)
    made = {"settings": settings.document, "series": series, "inputs": inputs}
    if case.values:
        text = json.dumps(dict(case.values), sort_keys=True)
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
        made["values"] = pseudonyms.name("values", digest) if pseudonyms is not None else digest
    return made


def _stamps(path: Path, role: str) -> list[tuple[str, int, int]]:
    """Name, size and time of last change (ns) of the files of one input."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        names = [p.relative_to(path).as_posix() for p in files]
    else:
        files = list(files_of(path, role)) if path.suffix.lower() in _DETACHED else [path]
        names = [p.name for p in files]
    facts = (p.stat() for p in files)
    return [(name, s.st_size, s.st_mtime_ns) for name, s in zip(names, facts, strict=True)]


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot, and keeps its own journal of names
    number = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)
