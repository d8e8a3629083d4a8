"""A table of results in its place in a README."""

from __future__ import annotations

from pathlib import Path

from REACTKDLib.errors import InputError

from .evaluation.results import write_atomically


def update_readme(path: Path | str, name: str, table: str) -> None:
    """Put a table between the lines ``<!-- results:NAME -->`` and ``<!-- /results:NAME -->`` of a
    Markdown file; the file is written whole or not at all.

    Raises
    ------
    InputError : no such file, or not exactly one of each line, in this order.
    OutputError : the file cannot be written.
    """
    path = Path(path)
    begin, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", "Give a Markdown file.") from error
    if (text.count(begin), text.count(end)) != (1, 1) or text.index(begin) > text.index(end):
        raise InputError(
            f"{path.name} has no one place for the results {name!r}.",
            f"Write {begin} and {end} on two lines, once.",
        )
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    written = f"{before}{begin}\n{table.strip()}\n{end}{after}"
    write_atomically(path, written.encode("utf-8"))
