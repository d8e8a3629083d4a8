"""A soak: small simulated patients through ``reactkd batch`` while faults are injected.

Every case must end as a result or as a named failure. Faults: CTs that are no image, cut off,
empty or gone, segmentations without a liver, inputs dated in the future; workers killed at random;
the batch killed at random and resumed; a full disk (a small tmpfs, or a limit on the size of files
where nothing can be mounted); a wall clock that jumps by a day, both ways, in the batch and its
workers.

The command prints the figures and ends with 1 where a case was lost, done twice or half-written.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from REACTKDLib.report import PROVENANCE, RESULT, RESULT_FILES  # noqa: E402

#: A part of the cases has a fault of its own, by what it is.
FAULTY = ("no image", "cut off", "empty", "gone", "no liver")
#: Bytes of the disk for each case: a third of what their results need.
ROOM = 30_000

#: ``reactkd`` with a wall clock that jumps; workers import it too, as their main module.
PROGRAM = """
import os, random, sys, time
sys.path[:0] = [{root!r}]
real, chance, offset, since = time.time, random.Random(os.getpid()), 0.0, [0.0]
def jumping():
    global offset
    if real() - since[0] > 2.0:
        since[0] = real()
        offset = chance.choice([-86400.0, 0.0, 86400.0])
    return real() + offset
time.time = jumping
if __name__ == "__main__":
    from REACTKDLib.cli import main
    sys.exit(main())
"""


def write_inputs(folder: Path, count: int, chance: random.Random) -> dict[str, str]:
    """A manifest of ``count`` cases; returns the fault of each, empty for none."""
    from REACTKDLib.simulation import demo_parameters, simulate_case, write_case

    fine = demo_parameters()
    scanner = dataclasses.replace(fine.scanner, spacing_mm=(6.0, 6.0, 8.0))
    parameters = dataclasses.replace(fine, scanner=scanner)
    patients = [
        write_case(simulate_case(parameters, seed, pet=()), folder / f"patient{seed}")
        for seed in range(1, 6)
    ]
    faults = {}
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "ct", "segmentation"])
        for n in range(count):
            name, files = f"case{n:04}", chance.choice(patients)
            ct, mask = folder / f"{name}.nii.gz", files["segmentation"]
            shutil.copy(files["ct"], ct)
            faults[name] = chance.choice(FAULTY) if chance.random() < 0.2 else ""
            _spoil(ct, faults[name], chance)
            if faults[name] == "no liver":
                mask = _empty_mask(mask)
            if chance.random() < 0.1 and ct.exists():
                os.utime(ct, (2e9, 2e9))
            writer.writerow([name, ct.name, mask.relative_to(folder)])
    return faults


def _spoil(ct: Path, fault: str, chance: random.Random) -> None:
    if fault == "no image":
        ct.write_bytes(chance.randbytes(5000))
    elif fault == "cut off":
        ct.write_bytes(ct.read_bytes()[: chance.randint(100, 5000)])
    elif fault == "empty":
        ct.write_bytes(b"")
    elif fault == "gone":
        ct.unlink()


def _empty_mask(mask: Path) -> Path:
    import SimpleITK as sitk

    empty = mask.with_name("empty.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(mask)) * 0, str(empty))
    return empty


class Soak:
    """A batch that is started, disturbed and resumed until it is complete."""

    def __init__(self, folder: Path, output: Path, workers: int, chance: random.Random) -> None:
        self.folder, self.output, self.workers, self.chance = folder, output, workers, chance
        self.events: Counter[str] = Counter()
        self.known: dict[str, tuple[int, int]] = {}
        self.wrong: list[str] = []
        (folder / "program.py").write_text(PROGRAM.format(root=str(ROOT)), encoding="utf-8")

    def run(self, disturb: Callable[[subprocess.Popen[bytes]], None], limit: int = 0) -> int:
        """Start or resume the batch, call ``disturb`` until it ends; its exit code."""

        def limited() -> None:
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        command = [sys.executable, str(self.folder / "program.py"), "batch"]
        command += [str(self.folder / "manifest.csv"), "--output", str(self.output), "--resume"]
        command += ["--workers", str(self.workers), "--timeout", "600", "--device", "cpu"]
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=limited)
        self.events["starts"] += 1
        while process.poll() is None:
            time.sleep(0.05)
            disturb(process)
        self.check()
        return process.returncode

    def check(self) -> None:
        """All that stands under ``cases`` is whole, and what was finished is as it was."""
        now = {}
        for case in (self.output / "cases").iterdir() if self.output.exists() else ():
            try:
                names = {path.name for path in case.iterdir()}
                json.loads((case / RESULT).read_text(encoding="utf-8"))
                json.loads((case / PROVENANCE).read_text(encoding="utf-8"))["batch"]
                if names != set(RESULT_FILES):
                    raise ValueError(sorted(names))
            except (OSError, ValueError, KeyError) as error:
                self.wrong.append(f"{case.name} is half-written: {error!r}")
            now[case.name] = (case.stat().st_ino, case.stat().st_mtime_ns)
        lost = self.known.keys() - now.keys()
        self.wrong += [f"{name} was lost" for name in lost]
        again = [n for n, mark in self.known.items() if n not in lost and now[n] != mark]
        self.wrong += [f"{name} was done again" for name in again]
        self.known = now

    def _finished(self) -> int:
        folder = self.output / "cases"
        return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0

    def kill_workers(self, cases: int) -> Callable[[subprocess.Popen[bytes]], None]:
        """Kills one of the worker processes whenever about so many more cases are finished."""
        import psutil

        goal = [self._finished() + self.chance.randint(1, cases)]

        def disturb(process: subprocess.Popen[bytes]) -> None:
            finished = self._finished()
            if finished < goal[0]:
                return
            goal[0] = finished + self.chance.randint(1, cases)
            with contextlib.suppress(psutil.Error, OSError):
                children = psutil.Process(process.pid).children()
                workers = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
                if workers:
                    self.chance.choice(workers).kill()
                    self.events["workers killed"] += 1

        return disturb

    def kill_batch(self, cases: int) -> Callable[[subprocess.Popen[bytes]], None]:
        """Kills the batch itself when about so many more cases are finished."""
        goal = self._finished() + self.chance.randint(1, cases)

        def disturb(process: subprocess.Popen[bytes]) -> None:
            if self._finished() >= goal:
                time.sleep(self.chance.random() * 0.5)
                process.kill()
                process.wait()
                self.events["batches killed"] += 1

        return disturb


@contextlib.contextmanager
def small_disk(place: Path, room: int) -> Iterator[Callable[[], bool]]:
    """A disk of ``room`` bytes at ``place``; the value makes it large and says whether it could be
    mounted at all."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0

    def enlarge() -> bool:
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=4g", str(place)], check=True)
        return mounted

    try:
        yield enlarge
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def soak(folder: Path, count: int, workers: int, seed: int) -> bool:
    """Run it; prints the figures, and returns whether all is well."""
    chance, began = random.Random(seed), time.monotonic()
    faults = write_inputs(folder, count, chance)
    with small_disk(folder / "disk", max(1 << 19, count * ROOM)) as enlarge:
        batch = Soak(folder, folder / "disk" / "out", workers, chance)
        mounted = (folder / "disk").is_mount()
        code = batch.run(lambda process: None, limit=0 if mounted else 20_000)
        batch.events["runs ended by a full disk"] += code == 5
        if code != 5:
            batch.wrong.append(f"on a full disk the batch ended with {code}")
        enlarge()
        for _ in range(3):
            batch.run(batch.kill_batch(max(2, count // 8)))
        while (code := batch.run(batch.kill_workers(max(3, count // 20)))) not in (0, 7):
            batch.wrong.append(f"the batch ended with {code}")
            if len(batch.wrong) > 20:
                break
        report(batch, faults, time.monotonic() - began, code, mounted)
    return not batch.wrong


def report(batch: Soak, faults: dict[str, str], seconds: float, code: int, mounted: bool) -> None:
    """Print the figures and add to ``batch.wrong`` what does not fit."""
    with (batch.output / "failures.csv").open(newline="", encoding="utf-8") as stream:
        failures = {row["case"]: row for row in csv.DictReader(stream)}
    with (batch.output / "summary.csv").open(newline="", encoding="utf-8") as stream:
        done = {row["case"] for row in csv.DictReader(stream)}
    for name, fault in faults.items():
        if (name in failures) == (name in done):
            batch.wrong.append(f"{name} has no end, or two")
        elif fault and name in done:
            batch.wrong.append(f"{name} ({fault}) has a result")
        elif not fault and name in failures and failures[name]["error"] != "WorkerDied":
            batch.wrong.append(f"{name} failed: {failures[name]['reason']}")
    left = [p.name for p in (batch.output / ".batch").iterdir() if p.name not in ("failed", "lock")]
    batch.wrong += [f"{name} was left behind" for name in left]
    how = "a small tmpfs" if mounted else "a limit on file sizes"
    print(f"{len(faults)} cases in {seconds:.0f} s, {batch.workers} workers, exit code {code}")
    print(f"  results                 {len(done):5}")
    print(f"  named failures          {len(failures):5}", end="   ")
    print(dict(Counter(row["error"] for row in failures.values())))
    print(f"  faults in the inputs    {sum(map(bool, faults.values())):5}", end="   ")
    print(dict(Counter(filter(None, faults.values()))))
    print(f"  disturbances                    {dict(batch.events)} ({how}; clocks jump by a day)")
    print(f"  lost, twice, half-written, unnamed {len(batch.wrong)}")
    for text in batch.wrong[:20]:
        print(f"    {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        well = soak(Path(folder), options.cases, options.workers, options.seed)
        if not well:
            shutil.copy(Path(folder) / "log.txt", "batch_soak_log.txt")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
