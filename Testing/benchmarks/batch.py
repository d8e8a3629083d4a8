"""What a batch costs beside the bare pipeline, and what it does with many rows and dead workers.

Prints, of one run on this machine: overhead per case against a loop over the same pipeline in the
same process; throughput of one worker and of two; rows per second and peak memory of the batch's
own process (on Linux) for a long manifest of simulated work; and a worker that is killed in the
midst of a batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent)]

from batch_work import COLUMNS, Heard, simulated, write_manifest  # noqa: E402

from REACTKDLib.batch.run import BatchOptions, run_batch  # noqa: E402
from REACTKDLib.model_package import load_package  # noqa: E402
from REACTKDLib.pipeline import RunOptions, run_files  # noqa: E402
from REACTKDLib.read import StudyFiles  # noqa: E402


def write_small_case(folder: Path) -> None:
    """A simulated patient on a coarse grid: CT and segmentation."""
    from REACTKDLib.simulation import demo_parameters, simulate_case, write_case

    fine = demo_parameters()
    scanner = dataclasses.replace(fine.scanner, spacing_mm=(4.0, 4.0, 6.0))
    case = simulate_case(dataclasses.replace(fine, scanner=scanner), 1, pet=())
    write_case(case, folder / "data")


def manifest_of(folder: Path, count: int) -> Path:
    """``count`` cases of the one small patient."""
    files = "data/simulated_ct.nii.gz,data/simulated_segmentation.nii.gz"
    rows = [",".join(COLUMNS), *(f"c{n:04},{files},,," for n in range(count))]
    path = folder / f"{count}.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


class Timed(Heard):
    """Remembers when each case ended; ``act`` is called with their number."""

    def __init__(self, act: Callable[[int], None] = lambda count: None) -> None:
        super().__init__()
        self.times: list[float] = []
        self._act = act

    def ended(self, outcome: Any, counts: Any) -> None:
        super().ended(outcome, counts)
        self.times.append(time.perf_counter())
        self._act(len(self.times))

    @property
    def seconds_per_case(self) -> float:
        """Median, start-up left out."""
        steps = [b - a for a, b in zip(self.times[2:], self.times[3:], strict=False)]
        return statistics.median(steps)

    @property
    def rate(self) -> float:
        """Cases per second of the second half, when all workers have loaded the model."""
        first = len(self.times) // 2
        return (len(self.times) - first) / (self.times[-1] - self.times[first - 1])


def overhead(folder: Path, count: int) -> None:
    """The same cases by the bare pipeline and by a batch in this process, in turns."""
    package, options = load_package(), RunOptions(device="cpu")
    data = folder / "data"
    files = StudyFiles(
        data / "simulated_ct.nii.gz", (data / "simulated_segmentation.nii.gz",), case_id="c"
    )
    bare, batch = [], []
    for turn in range(3):
        times = []
        for n in range(count):
            began = time.perf_counter()
            run_files(files, package, folder / f"bare-{turn}" / f"{n}", options)
            times.append(time.perf_counter() - began)
        bare.append(statistics.median(times[1:]))
        heard = Timed()
        run_batch(
            manifest_of(folder, count),
            folder / f"here-{turn}",
            package,
            BatchOptions(workers=0, device="cpu"),
            heard,
        )
        batch.append(heard.seconds_per_case)
    pipeline, whole = statistics.median(bare), statistics.median(batch)
    print(f"one case, bare pipeline, median     {1000 * pipeline:8.1f} ms")
    print(f"one case in a batch, median         {1000 * whole:8.1f} ms")
    print(f"overhead per case                   {1000 * (whole - pipeline):8.1f} ms")


def on_workers(folder: Path, name: str, workers: int, count: int, heard: Timed) -> float:
    began = time.perf_counter()
    run_batch(
        manifest_of(folder, count),
        folder / name,
        load_package(),
        BatchOptions(workers=workers, device="cpu"),
        heard,
    )
    return time.perf_counter() - began


def scaling(folder: Path, count: int) -> None:
    """Throughput of one and two workers."""
    rates = []
    for workers in (1, 2):
        heard = Timed()
        seconds = on_workers(folder, f"workers-{workers}", workers, count, heard)
        rates.append(heard.rate)
        print(f"{workers} worker(s): {count} cases in {seconds:.1f} s, start included;", end=" ")
        print(f"{heard.rate:.2f} cases/s once warm")
    print(f"scaling from 1 to 2 workers         {rates[1] / rates[0]:8.2f}")


def children(parent: int) -> list[int]:
    """Worker processes of the batch's own process."""
    import psutil

    return [
        p.pid for p in psutil.Process(parent).children() if "spawn_main" in " ".join(p.cmdline())
    ]


def killed_worker(folder: Path, count: int) -> None:
    """One of two workers is killed in the midst of a batch."""
    killed = []

    def kill(ended: int) -> None:
        if ended == count // 2:
            killed.append(children(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)

    heard = Timed(kill)
    seconds = on_workers(folder, "killed", 2, count, heard)
    print(
        f"2 workers, one killed after {count // 2} of {count} cases: {heard.counts.done} done,",
        end=" ",
    )
    print(f"{heard.counts.failed} failed, {seconds:.1f} s")


def many_rows(folder: Path, count: int, workers: int) -> None:
    """Rows of simulated work; prints a JSON object. Runs in a process of its own."""
    manifest = write_manifest(folder / "in", (f"case {n}" for n in range(count)))
    heard = Forgetful()
    began = time.perf_counter()
    run_batch(
        manifest, folder / "out", load_package(), BatchOptions(workers=workers), heard, simulated
    )
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "done": heard.counts.done, "peak_mib": _peak_mib()}))


class Forgetful(Heard):
    """Keeps nothing: the memory of the batch is measured, not that of its listener."""

    def ended(self, outcome: Any, counts: Any) -> None:
        self.counts = counts


def _peak_mib() -> float:
    """Of this process alone; ``getrusage`` would count what started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def long_manifest(folder: Path, rows: int, workers: int) -> None:
    """Peak memory for few and for many rows."""
    for count in (rows // 100, rows):
        command = [sys.executable, __file__, "--many", str(count), "--folder", str(folder)]
        command += ["--workers", str(workers)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
        figures = json.loads(done.stdout.strip().splitlines()[-1])
        shutil.rmtree(folder / "out")
        print(
            f"{count} rows of simulated work, {workers} workers: {figures['done']} done in", end=" "
        )
        print(f"{figures['seconds']:.0f} s ({count / figures['seconds']:.0f} rows/s);", end=" ")
        print(f"peak memory of the batch's process {figures['peak_mib']:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=30, help="of the real pipeline")
    parser.add_argument("--rows", type=int, default=100_000, help="of simulated work")
    parser.add_argument("--workers", type=int, default=2, help="of the many rows")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    parser.add_argument("--many", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.many:
        many_rows(options.folder, options.many, options.workers)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        write_small_case(folder)
        overhead(folder, options.cases)
        scaling(folder, options.cases)
        killed_worker(folder, options.cases)
        long_manifest(folder / "many", options.rows, options.workers)


if __name__ == "__main__":
    main()
