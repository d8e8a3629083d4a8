"""The batch's own process is killed, at any moment: nothing finished is lost or done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_work import table, write_manifest

from REACTKDLib.batch.store import CASES, HIDDEN
from REACTKDLib.batch.tables import FAILURES, PARQUET, SUMMARY
from REACTKDLib.cli import main
from REACTKDLib.report import PROVENANCE, RESULT, RESULT_FILES

#: A batch of simulated work with a rest in each of its steps, so that a kill meets every one.
PROGRAM = """
import sys, time
sys.path[:0] = sys.argv[4].split(",")
from pathlib import Path
from batch_work import Heard, simulated
from REACTKDLib.batch import store
from REACTKDLib.batch.run import BatchOptions, run_batch
from REACTKDLib.model_package import load_package

def slow(job, folder):
    simulated(job, folder)
    (folder / "attention.nrrd").write_bytes(bytes(1 << 16))

flush = store._flush
def slow_flush(path):
    time.sleep(0.002)
    flush(path)
store._flush = slow_flush
run_batch(Path(sys.argv[1]), Path(sys.argv[2]), load_package(Path(sys.argv[3])),
          BatchOptions(workers=0, resume=True), Heard(), slow)
"""
PATHS = ",".join(str(Path(__file__).resolve().parents[n]) for n in (1, 2))


def start(manifest: Path, output: Path, package: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, str(manifest), str(output), str(package), PATHS]
    return subprocess.Popen(command)


def finished(output: Path) -> dict[str, tuple[int, int]]:
    """Finished cases, each checked to be whole, with what stands for the folder's identity."""
    found = {}
    for folder in (output / CASES).iterdir() if (output / CASES).is_dir() else ():
        json.loads((folder / RESULT).read_text(encoding="utf-8"))
        assert json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))["batch"]
        assert (folder / "attention.nrrd").stat().st_size == 1 << 16
        found[folder.name] = (folder.stat().st_ino, folder.stat().st_mtime_ns)
    return found


def lasting(path: Path) -> list[dict[str, str]]:
    """A table without what depends on the clock."""
    rows = table(path)
    for row in rows:
        row.pop("seconds", None)
    return rows


def test_a_batch_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path, random_package):
    names = [f"c{n:02}" for n in range(24)]
    names[7] = "fails-1"
    manifest = write_manifest(tmp_path / "in", names)
    assert start(manifest, tmp_path / "whole", random_package.path).wait() == 0
    out, chance = tmp_path / "out", random.Random(11)
    known: dict[str, tuple[int, int]] = {}
    kills = 0
    while len(known) < len(names) - 1:
        process = start(manifest, out, random_package.path)
        want = len(known) + chance.randint(1, 9)
        while process.poll() is None and len(list((out / CASES).glob("*"))) < want:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        now = finished(out)
        assert known.items() <= now.items()  # none lost, none done twice
        known = now
    assert kills > 2
    assert start(manifest, out, random_package.path).wait() == 0
    assert finished(out) == known
    for name in (SUMMARY, FAILURES):
        assert lasting(out / name) == lasting(tmp_path / "whole" / name)
    assert {p.name for p in out.iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}
    assert sorted(p.name for p in (out / HIDDEN).iterdir()) in (["failed"], ["failed", "lock"])
    assert [p.name for p in (out / HIDDEN / "failed").iterdir()] == ["fails-1.json"]


@pytest.fixture
def real(tmp_path, phantom_files, random_package):
    """Arguments of a batch of eight real cases with one worker, and its environment."""
    rows = ["case,ct,segmentation"]
    rows += [f"c{n},{phantom_files['ct']},{phantom_files['segmentation']}" for n in range(8)]
    (tmp_path / "m.csv").write_text("\n".join(rows), encoding="utf-8")
    arguments = ["batch", str(tmp_path / "m.csv"), "--output", str(tmp_path / "out")]
    arguments += ["--model", str(random_package.path), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": PATHS.replace(",", os.pathsep)}
    return arguments, environment


def run_until_one_is_finished(arguments, environment, output, number) -> subprocess.Popen:
    command = [sys.executable, "-m", "REACTKDLib.cli", *arguments]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    while process.poll() is None and not list((output / CASES).glob("*")):
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    return process


def in_session(session: int) -> list[int]:
    """Processes of a session, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_killed_with_its_worker_at_work(real, tmp_path):
    """The real pipeline on a worker process: that ends too, and a resumed batch completes."""
    pytest.importorskip("distributed")
    arguments, environment = real
    out = tmp_path / "out"
    process = run_until_one_is_finished(
        [*arguments, "--workers", "1"], environment, out, signal.SIGKILL
    )
    end = time.monotonic() + 60
    while in_session(process.pid):
        assert time.monotonic() < end, "the worker lives on"
        time.sleep(0.05)
    before = {p.name: p.stat().st_ino for p in (out / CASES).iterdir()}
    assert 1 <= len(before) < 8
    assert main([*arguments, "--workers", "0", "--resume"]) == 0
    after = {p.name: p.stat().st_ino for p in (out / CASES).iterdir()}
    assert before.items() <= after.items()
    assert len(after) == len(table(out / SUMMARY)) == 8
    for folder in (out / CASES).iterdir():
        assert {p.name for p in folder.iterdir()} == set(RESULT_FILES)
    results = [json.loads((f / RESULT).read_text("utf-8")) for f in (out / CASES).iterdir()]
    assert len({json.dumps({**r, "case_id": ""}) for r in results}) == 1
    assert not (out / HIDDEN / "work").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to be sent")
def test_sigterm_ends_it_like_ctrl_c(real, tmp_path):
    """As a cluster does when the time of its job is up."""
    arguments, environment = real
    out = tmp_path / "out"
    process = run_until_one_is_finished(
        [*arguments, "--workers", "0"], environment, out, signal.SIGTERM
    )
    assert process.returncode == 130
    done = {p.name for p in (out / CASES).iterdir()}
    assert {row["case"] for row in table(out / SUMMARY)} == done
    assert (out / PARQUET).exists()
    assert not (out / HIDDEN / "work").exists()
