"""The tables of a batch, made from the result folders: the same however often it was stopped.

Written row by row, Parquet by groups of rows, and each table put in place whole.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..region_csv import spreadsheet_text
from ..report import PROVENANCE, RESULT
from .plan import Case, Plan
from .store import CASES, Failure, Store, cannot_write, put

SUMMARY, PARQUET, FAILURES = "summary.csv", "summary.parquet", "failures.csv"
FAILURE_COLUMNS = ("row", "case", "error", "reason", "next_step")
#: Of a row that the manifest check refused.
UNUSABLE_ROW = "UnusableRow"

_KINDS = ("lesion", "rim", "parenchyma", "organ")
_ROWS_PER_GROUP = 4096


@dataclass(frozen=True)
class Summary:
    """What the summary of a kind of results says: ``columns`` in order, with the type of their
    values (any may be empty but case), and ``row``, the values of a finished case, which raises
    OSError, ValueError, KeyError or TypeError where its files are damaged."""

    columns: Mapping[str, type]
    row: Callable[[Case, Store], dict[str, Any]]


def classification_summary(classes: Sequence[str]) -> Summary:
    """Of results of REACT-KD."""
    return Summary(summary_columns(classes), lambda case, store: summary_row(case, store, classes))


def summary_columns(classes: Sequence[str]) -> dict[str, type]:
    """Columns of the summary in order, with the type of their values; any may be empty but case."""
    return {
        "case": str,
        "predicted": str,
        **{f"p_{name}": float for name in classes},
        "prediction_set": str,
        "coverage": float,
        "abstains": bool,
        "target": str,
        "modalities": str,
        "notices": str,
        "lesions": int,
        "largest_lesion_mm": float,
        **{f"volume_{kind}_ml": float for kind in _KINDS},
        **{f"share_{kind}": float for kind in _KINDS},
        "share_outside": float,
        "seconds": float,
        "device": str,
        "model": str,
        "model_version": str,
        "reactkd_version": str,
        "result": str,
    }


def summary_row(case: Case, store: Store, classes: Sequence[str]) -> dict[str, Any]:
    """What the summary says about a finished case.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError : its files are damaged.
    """
    folder = store.result(case.name)
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    made = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    regions, possible = result["regions"], result["prediction_set"]
    of_kind = {kind: [r for r in regions if r["kind"] == kind] for kind in _KINDS}
    diameters = [r["longest_diameter_mm"] for r in of_kind["lesion"]]
    size = None if possible is None else len(possible["classes"])
    return {
        "case": case.name,
        "predicted": result["predicted"],
        **{f"p_{name}": result["probabilities"][name] for name in classes},
        "prediction_set": None if possible is None else ";".join(possible["classes"]),
        "coverage": None if possible is None else possible["coverage"],
        "abstains": None if size is None else size in (0, len(classes)),
        "target": result["target"],
        "modalities": ";".join(result["modalities"]),
        "notices": ";".join(notice["code"] for notice in result["notices"]),
        "lesions": len(of_kind["lesion"]),
        "largest_lesion_mm": max(diameters, default=None),
        **{f"volume_{k}_ml": _total(of_kind[k], "volume_ml") for k in _KINDS},
        **{f"share_{k}": _total(of_kind[k], "share") for k in _KINDS},
        "share_outside": result["outside_share"],
        "seconds": made["seconds"],
        "device": made["device"],
        "model": made["model"]["name"],
        "model_version": made["model"]["version"],
        "reactkd_version": made["reactkd_version"],
        "result": f"{CASES}/{case.name}",
    }


def _total(regions: Sequence[dict[str, Any]], name: str) -> float | None:
    return sum(region[name] for region in regions) if regions else None


def write_tables(plan: Plan, store: Store, summary: Summary) -> bool:
    """Write summary and failures of everything that has ended; False where there is no Parquet,
    because pyarrow is not installed.

    Raises
    ------
    OutputError : the file system refuses; each table is then as it was.
    """
    columns = dict(summary.columns)
    parquet = importlib.util.find_spec("pyarrow") is not None
    names = [SUMMARY, FAILURES, *([PARQUET] if parquet else [])]
    try:
        with contextlib.ExitStack() as files:
            written = files.enter_context(_csv_table(store.work / SUMMARY, list(columns)))
            failures = files.enter_context(_csv_table(store.work / FAILURES, FAILURE_COLUMNS))
            grouped = None
            if parquet:
                stream = files.enter_context((store.work / PARQUET).open("wb"))
                grouped = files.enter_context(_Parquet(stream, columns))
            for case, failure in files.enter_context(contextlib.closing(_ended(plan, store))):
                row: dict[str, Any] = {}
                if failure is None:
                    try:
                        row = summary.row(case, store)
                    except (OSError, ValueError, KeyError, TypeError) as error:
                        failure = _damaged(store, case, error)
                if failure is not None:
                    facts = (failure.error, failure.reason, failure.next_step)
                    failures.writerow([_cell(v) for v in (case.row, case.name, *facts)])
                    continue
                written.writerow([_cell(row[name]) for name in columns])
                if grouped is not None:
                    grouped.add(row)
        for name in names:
            put(store.work / name, store.folder / name)
    except OSError as error:
        raise cannot_write(store.folder, error) from error
    return parquet


def unusable(case: Case) -> Failure:
    """The failure of a row with problems."""
    return Failure(UNUSABLE_ROW, f"{'; '.join(case.problems)}.", "Correct the manifest or folder.")


def _ended(plan: Plan, store: Store) -> Generator[tuple[Case, Failure | None], None, None]:
    """Cases that have a result, or a failure; not those that are still to be done."""
    for case in plan.cases():
        if case.problems:
            yield case, unusable(case)
        elif (failure := store.failure(case.name)) is not None:
            yield case, failure
        elif store.result(case.name).exists():
            yield case, None


def _damaged(store: Store, case: Case, error: Exception) -> Failure:
    folder = store.result(case.name)
    return Failure(
        "DamagedResult",
        f"{folder} cannot be read: {type(error).__name__} {error}.",
        f"Delete {folder}, then go on with --resume.",
    )


@contextlib.contextmanager
def _csv_table(path: Path, columns: Iterable[str]) -> Iterator[Any]:
    # File names need not be text: what is none is written as its number.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        # All cells in quotes: what separates cells elsewhere (; or a tab) cannot split one.
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        yield writer


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if isinstance(value, int) else spreadsheet_text(value)


class _Parquet:
    """A Parquet file, written by groups of rows. Its stream is the caller's, so that it is closed
    on a full disk too."""

    def __init__(self, stream: IO[bytes], columns: dict[str, type]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {str: pa.string(), float: pa.float64(), bool: pa.bool_(), int: pa.int64()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        self._writer = pq.ParquetWriter(stream, self._schema)
        self._table = pa.Table
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> _Parquet:
        return self

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == _ROWS_PER_GROUP:
            self._write()

    def _write(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()

    def __exit__(self, *raised: object) -> None:
        if self._rows and raised[0] is None:
            self._write()
        self._writer.close()
