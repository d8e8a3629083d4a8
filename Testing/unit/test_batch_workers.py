"""Batches on worker processes: killed workers, hanging cases, long manifests, clusters."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from typing import Any

import pytest
from batch_work import Heard, simulated, table, write_manifest

from REACTKDLib.batch import on_dask
from REACTKDLib.batch.on_dask import Cluster, local_cluster, run_on_dask
from REACTKDLib.batch.plan import Case
from REACTKDLib.batch.run import BatchOptions, run_batch
from REACTKDLib.batch.store import CASES, Settings, Store
from REACTKDLib.batch.tables import FAILURES, SUMMARY
from REACTKDLib.batch.task import Job, Outcome
from REACTKDLib.errors import EnvironmentProblem

distributed = pytest.importorskip("distributed")


@pytest.fixture
def batch(tmp_path, random_package):
    def run(names: list[str], options: BatchOptions) -> Heard:
        heard = Heard()
        manifest = write_manifest(tmp_path / "in", names)
        run_batch(manifest, tmp_path / "out", random_package, options, heard, simulated)
        return heard

    return run


def test_workers_that_die_or_hang_cost_only_their_case(batch, tmp_path):
    """A case that kills its worker each time, one that does so once, one that never ends, one that
    raises, among others."""
    names = ["a", "kills-1", "once-1", "b", "hangs-1", "fails-1", *(f"c{n}" for n in range(8))]
    heard = batch(names, BatchOptions(workers=2, timeout=6, memory=1 << 30))
    assert heard.failures == {
        **{"kills-1": "WorkerDied", "hangs-1": "TimedOut", "fails-1": "Unexpected"},
    }
    assert heard.counts.done == len(names) - 3
    assert {p.name for p in (tmp_path / "out" / CASES).iterdir()} == set(names) - {*heard.failures}
    failures = {row["case"]: row for row in table(tmp_path / "out" / FAILURES)}
    assert "longer than 6 s" in failures["hangs-1"]["reason"]
    assert "ended 2 times" in failures["kills-1"]["reason"]
    assert len(table(tmp_path / "out" / SUMMARY)) == len(names) - 3
    assert any(
        "2 workers with one thread" in text and "1.0 GiB each" in text for text in heard.messages
    )


def test_a_clusters_workers_do_the_same(batch, tmp_path):
    names = ["a", "once-1", "kills-1", "b"]
    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=1, silence_logs=50, **options) as cluster:
        heard = batch(names, BatchOptions(scheduler=cluster.scheduler_address))
    assert heard.failures == {"kills-1": "WorkerDied"}
    assert heard.counts.done == 3


def test_workers_of_several_threads_are_refused(batch, tmp_path):
    options: dict[str, Any] = {"threads_per_worker": 2, "dashboard_address": None}
    with (
        distributed.LocalCluster(n_workers=1, processes=False, silence_logs=50, **options) as some,
        pytest.raises(EnvironmentProblem, match="2 threads") as raised,
    ):
        batch(["a"], BatchOptions(scheduler=some.scheduler_address))
    assert "--nthreads 1" in raised.value.advice


def test_a_scheduler_that_is_not_there_is_named(batch, monkeypatch):
    monkeypatch.setattr(on_dask, "_CONNECT", 0.5)
    with pytest.raises(EnvironmentProblem, match=r"No scheduler answers at tcp://127\.0\.0\.1:1"):
        batch(["a"], BatchOptions(scheduler="tcp://127.0.0.1:1"))


def test_a_worker_that_its_nanny_gives_up_is_replaced(monkeypatch):
    """As one that dies while it starts: the nanny then does nothing more."""
    from distributed.core import Status

    monkeypatch.setattr(on_dask, "_DEAD", 0.2)
    with local_cluster(1, 1 << 30) as cluster:
        ((address, pid),) = cluster.client.run(os.getpid).items()
        (nanny,) = cluster.mend.__self__._cluster.workers.values()
        nanny.status = Status.starting
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 60
        while not cluster.client.nthreads().keys() - {address}:
            assert time.monotonic() < end, "there is no other worker"
            cluster.mend()
            time.sleep(0.1)
        assert len(cluster.client.nthreads()) == 1


class FakeFuture:
    def __init__(self, key: Any, value: Any) -> None:
        self.key, self._value = key, value
        self.status = "error" if isinstance(value, BaseException) else "finished"

    def result(self, timeout: float) -> Any:
        return self._value

    def exception(self) -> Any:
        return self._value

    def add_done_callback(self, call: Any) -> None:
        self.call = call


class FakeClient:
    """A cluster of two workers that ends its cases in another order than they came."""

    def __init__(self, answer: Any) -> None:
        self._answer, self._held = answer, queue.LifoQueue()
        self.most = self.count = 0
        self._in_flight, self._lock = 0, threading.Lock()
        threading.Thread(target=self._work, daemon=True).start()

    def nthreads(self) -> dict[str, int]:
        return {"one": 1, "two": 1}

    def submit(self, function: Any, job: Job, process: Any, *, key: Any, pure: bool) -> FakeFuture:
        with self._lock:
            self._in_flight += 1
            self.count += 1
            self.most = max(self.most, self._in_flight)
        future = FakeFuture(key, self._answer(job))
        self._held.put(future)
        return future

    def _work(self) -> None:
        while True:
            future = self._held.get()
            while not hasattr(future, "call"):
                pass
            with self._lock:
                self._in_flight -= 1
            future.call(future)


def jobs(tmp_path, count: int):
    settings = Settings("1", "m", "1", "0", "anatomical", None, ())
    for n in range(1, count + 1):
        yield Job(Case(n, f"c{n}"), tmp_path, Store(tmp_path, "r"), settings, tmp_path)


def test_ten_thousand_rows_are_neither_handed_out_nor_held_at_once(tmp_path):
    client = FakeClient(lambda job: Outcome(job.case))
    rows = 0
    tracemalloc.start()
    for outcome in run_on_dask(jobs(tmp_path, 10_000), simulated, Cluster(client, "", None)):
        rows += outcome.failure is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == client.count == 10_000
    assert client.most <= 4
    assert peak < 1e6


def test_cases_that_only_waited_at_a_dead_worker_are_tried_again(tmp_path):
    deaths = {"c3": 2, "c5": 99}

    def answer(job):
        if deaths.get(job.case.name, 0):
            deaths[job.case.name] -= 1
            return distributed.KilledWorker(job.case.name, None, 3)
        return Outcome(job.case)

    outcomes = list(
        run_on_dask(jobs(tmp_path, 8), simulated, Cluster(FakeClient(answer), "", None))
    )
    assert sorted(o.case.name for o in outcomes) == [f"c{n}" for n in range(1, 9)]
    (failed,) = [o for o in outcomes if o.failure is not None]
    assert failed.case.name == "c5"
    assert failed.failure.error == "WorkerDied"


def test_an_answer_that_is_lost_with_its_worker_is_waited_for_again(tmp_path):
    class Lost(FakeFuture):
        """Done, then not any more, then done again."""

        def __init__(self, key: Any, value: Any) -> None:
            super().__init__(key, value)
            self.status = "lost"

        def add_done_callback(self, call: Any) -> None:
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked == 2:
                self.status = "finished"
            call(self)

    client = FakeClient(None)
    client.submit = lambda _, job, *__, key, **___: Lost(key, Outcome(job.case))
    outcomes = list(run_on_dask(jobs(tmp_path, 3), simulated, Cluster(client, "", None)))
    assert [o.case.name for o in outcomes] == ["c1", "c2", "c3"]


def test_a_cluster_that_loses_all_workers_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    """However long the last look is ago: they may just be starting again."""
    client = FakeClient(lambda job: Outcome(job.case))
    monkeypatch.setattr(on_dask, "_PATIENCE", 1.0)
    monkeypatch.setattr(on_dask, "_LOOK", 0.05)
    lost = {"looks": 0}

    def nthreads() -> dict[str, int]:
        lost["looks"] += 1
        return {}

    client.nthreads = nthreads
    client.submit = lambda *_, key, **__: FakeFuture(key, None)  # never ends
    with pytest.raises(EnvironmentProblem, match="No worker is left"):
        list(run_on_dask(jobs(tmp_path, 1), simulated, Cluster(client, "", None)))
    assert lost["looks"] > 2


def test_a_cluster_that_cannot_do_cases_ends_the_batch(tmp_path):
    client = FakeClient(lambda job: ModuleNotFoundError("No module named 'REACTKDLib'"))
    with pytest.raises(EnvironmentProblem, match="No module named 'REACTKDLib'"):
        list(run_on_dask(jobs(tmp_path, 3), simulated, Cluster(client, "", None)))


JUMPING = """
import random, sys, time
sys.path[:0] = {path!r}
from pathlib import Path
real, chance, begun = time.time, random.Random(7), []
time.time = lambda: real() + (chance.choice([-86400.0, 0.0, 86400.0]) if begun else 0.0)
if __name__ == "__main__":
    from batch_work import Heard, simulated
    from REACTKDLib.batch.run import BatchOptions, run_batch
    from REACTKDLib.model_package import load_package
    class Begun(Heard):
        def ended(self, outcome, counts):
            super().ended(outcome, counts)
            begun.append(outcome)
    heard = Begun()
    how = BatchOptions(workers=2, memory=1 << 30)
    run_batch(Path({manifest!r}), Path({output!r}), load_package(Path({package!r})), how, heard,
              simulated)
    assert not heard.failures
    print(heard.counts.done)
"""


def test_a_clock_that_jumps_by_a_day_delays_nothing(tmp_path, random_package):
    """From the first case on, every look at the time of day may be a day off."""
    names = [f"c{n}" for n in range(100)]
    manifest = write_manifest(tmp_path / "in", names)
    program = tmp_path / "program.py"
    values = {"path": sys.path, "manifest": str(manifest), "output": str(tmp_path / "out")}
    program.write_text(JUMPING.format(package=str(random_package.path), **values), "utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(len(names))]
