"""A file that is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError


@contextlib.contextmanager
def atomic_file(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """A path beside ``path``, of the same name: what the block writes there takes its place.

    On any error nothing is left behind, and a file that was there is as it was.

    Raises
    ------
    OutputError : the file exists (without ``overwrite``), is a folder, or the file system refuses.
    """
    path = Path(path).absolute()
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", "Give the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists.", "Give another name, or --overwrite.")
    folder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder, so that the file itself gets the usual rights, and its writer the right suffix.
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        yield folder / path.name
        os.replace(folder / path.name, path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free space on the disk, or give another folder.",
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
