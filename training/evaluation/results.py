"""``results.json``: the figures of a run as rows, each with its interval and its n."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from REACTKDLib.atomic_file import atomic_file
from REACTKDLib.errors import InputError

from .bootstrap import Estimate

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One figure.

    Parameters
    ----------
    method : what was measured ("student, graph distillation").
    cohort : on whom ("external").
    dose : photons per ray of the simulated dose; None is the dose as acquired.
    metric : what the value is ("macro AUC").
    value, low, high : the figure and its 95 % interval.
    n : patients.
    seeds : seeds of the trainings whose mean the value is.

    Raises
    ------
    InputError : an empty text, a number that is not finite, an interval upside down, no patient,
        a dose that is not positive, no seed or one twice.
    """

    method: str
    cohort: str
    dose: float | None
    metric: str
    value: float
    low: float
    high: float
    n: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        texts = (self.method, self.cohort, self.metric)
        numbers = (self.value, self.low, self.high, *([] if self.dose is None else [self.dose]))
        whole = (self.n, *self.seeds)
        sound = (
            all(isinstance(t, str) and t.strip() for t in texts)
            and all(_is_number(v) and math.isfinite(v) for v in numbers)
            and all(isinstance(v, int) and not isinstance(v, bool) for v in whole)
            and self.low <= self.high
            and self.n > 0
            and (self.dose is None or self.dose > 0)
            and 0 < len(self.seeds) == len(set(self.seeds))
        )
        if not sound:
            raise InputError(
                f"{self} is no result.",
                "Give texts, finite numbers with low <= high, n above 0, a dose above 0 or None,"
                " and the seeds.",
            )

    @property
    def key(self) -> tuple[str, str, float | None, str]:
        """What names a row: method, cohort, dose, metric."""
        return (self.method, self.cohort, self.dose, self.metric)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def row_of(
    method: str,
    cohort: str,
    metric: str,
    estimate: Estimate,
    seeds: Sequence[int],
    dose: float | None = None,
) -> Row:
    """A row from an estimate; raises as :class:`Row`."""
    e = estimate
    whole = tuple(operator.index(seed) for seed in seeds)  # numpy's integers too
    return Row(method, cohort, dose, metric, e.value, e.low, e.high, e.n, whole)


@dataclass(frozen=True)
class Results:
    """The rows of a run, and whether its images are simulated.

    Raises
    ------
    InputError : two rows of the same method, cohort, dose and metric.
    """

    rows: tuple[Row, ...]
    simulated: bool

    def __post_init__(self) -> None:
        seen: set[tuple[str, str, float | None, str]] = set()
        for row in self.rows:
            if row.key in seen:
                raise InputError(f"Two results for {row.key}.", "Keep one of them.")
            seen.add(row.key)


def write_json(path: Path | str, document: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write a JSON object, whole or not at all; numbers that are not finite are refused.

    Raises
    ------
    OutputError : the file cannot be written. ValueError : a number is not finite.
    """
    separators = None if indent else (",", ":")
    text = json.dumps(
        document, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False
    )
    write_atomically(Path(path), f"{text}\n".encode())


def write_results(path: Path | str, results: Results) -> None:
    """Write the rows as JSON, whole or not at all.

    Raises
    ------
    OutputError : the file cannot be written.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "simulated": results.simulated,
        "rows": [dataclasses.asdict(row) for row in results.rows],
    }
    write_json(path, document)


def read_results(path: Path | str) -> Results:
    """Read rows that :func:`write_results` wrote.

    Raises
    ------
    InputError : no such file, not this form, another schema version, or a row that is none.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        version, simulated = document["schema_version"], document["simulated"]
        if version != SCHEMA_VERSION or not isinstance(simulated, bool):
            raise InputError(
                f"{path} has the schema version {version!r} and simulated {simulated!r}; this code"
                f" reads version {SCHEMA_VERSION} with true or false.",
                "Write it anew.",
            )
        rows = tuple(Row(**{**row, "seeds": tuple(row["seeds"])}) for row in document["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no results file: {type(error).__name__} {error}.", "Write it anew."
        ) from error
    return Results(rows, simulated)


def write_atomically(path: Path, content: bytes) -> None:
    """Put a file in place whole, or leave what was there.

    Raises
    ------
    OutputError : the file system refuses.
    """
    with atomic_file(path, overwrite=True) as partial:
        partial.write_bytes(content)


TABLE_HEADER = (
    "method",
    "cohort",
    "dose (photons)",
    "metric",
    "value",
    "95 % interval",
    "n",
    "seeds",
)


def table_cells(row: Row) -> tuple[str, ...]:
    """The row's texts under ``TABLE_HEADER``."""
    return (
        row.method,
        row.cohort,
        "as acquired" if row.dose is None else f"{row.dose:g}",
        row.metric,
        f"{row.value:.3f}",
        f"{row.low:.3f} to {row.high:.3f}",
        str(row.n),
        str(len(row.seeds)),
    )


def markdown_table(results: Results) -> str:
    """The rows as a Markdown table in their order, under a line that says simulated if they are."""
    lines = ["Simulated data.", ""] if results.simulated else []
    lines.append("| " + " | ".join(TABLE_HEADER) + " |")
    lines.append("|" + "---|" * len(TABLE_HEADER))
    for row in results.rows:
        cells = (_markdown_text(cell) for cell in table_cells(row))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _markdown_text(text: str) -> str:
    """Text that stays in its cell and is no HTML."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").split())
