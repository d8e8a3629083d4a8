"""Cases on the workers of a Dask cluster: local processes, or an existing scheduler's.

Few more cases are handed out than there are workers, so a manifest of any length does not fill the
scheduler. A worker that dies is started again by its nanny, and its case is tried again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import EnvironmentProblem
from .attempts import WORKER_DIED
from .store import Failure
from .task import Job, Outcome, Process, run_job

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

#: Cases in flight for each worker: one that it does, one that waits, so that it never idles.
_PER_WORKER = 2
#: Seconds to find a scheduler, between looks at the cluster, and for which it may have no worker.
_CONNECT, _LOOK, _PATIENCE = 30.0, 5.0, 120.0
#: Seconds after which a dead worker of this machine will not come back by itself.
_DEAD = 10.0
#: Workers of an existing cluster that may end with a case at hand before it is given up.
_MOST_DEATHS = 10
#: What a local worker needs at least, for the default number of workers.
_LEAST_MEMORY = 3 * 2**30

#: One thread for each worker: a core does more cases of its own than as half of a pair.
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)

#: For workers; :func:`_steady_messages` is the same here.
_STEADY = "import time\nimport distributed.batched\ndistributed.batched.time = time.monotonic\n"

_DASK: dict[str, Any] = {
    # Cases hold their data outside of Dask: nothing can be spilled, and a paused worker would wait
    # for ever. The nanny still ends one that takes more than its memory.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Nannies see their processes end. By the clock, a change of the time of day would end all.
    "distributed.scheduler.worker-ttl": None,
    # Longer than any start: a nanny whose process takes its time to be back is not let go.
    "distributed.deploy.lost-worker-timeout": "1h",
    # A case says itself when it has ended too many workers.
    "distributed.scheduler.allowed-failures": 100,
    "distributed.admin.low-level-log-length": 100,
    # Ctrl-C reaches them too, but it is the batch that ends them.
    "distributed.worker.preload": [
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n",
        _STEADY,
    ],
    # No pages for a browser.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


def dask_is_installed() -> bool:
    """Whether there is ``dask.distributed``."""
    return importlib.util.find_spec("distributed") is not None


def need_dask() -> None:
    """Raises EnvironmentProblem where Dask is not installed."""
    if not dask_is_installed():
        raise EnvironmentProblem(
            "Several workers, a scheduler or a timeout need Dask, which is not installed.",
            "Install it: pip install 'reactkd[batch]' (in Slicer's Python console:"
            " slicer.util.pip_install('dask[distributed] pyarrow')), or give --workers 0.",
        )


@dataclass(frozen=True)
class Cluster:
    """A connected cluster; ``memory`` bytes of each worker, None where it is not known. ``mend`` is
    called every few seconds, to put right what the cluster does not by itself."""

    client: Client
    text: str
    memory: int | None
    mend: Callable[[], None] = lambda: None


def default_workers() -> int:
    """As many local workers as there are CPU cores, each with 3 GiB of memory."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    return max(1, min(CPU_COUNT, MEMORY_LIMIT // _LEAST_MEMORY))


@contextlib.contextmanager
def _quiet_dask() -> Iterator[None]:
    """Keeps Dask's log off the terminal: what becomes of cases is told by their outcomes."""
    import distributed  # makes its loggers

    names = [n for n in logging.root.manager.loggerDict if n.startswith(distributed.__name__)]
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _steady_messages() -> None:
    """Messages of Dask wait for a moment, to go together; by the time of day, which a machine may
    set back by hours while they wait. By this clock they never wait longer."""
    import distributed.batched

    distributed.batched.time = time.monotonic


@contextlib.contextmanager
def local_cluster(workers: int, memory: int | None) -> Iterator[Cluster]:
    """``workers`` processes on this machine of ``memory`` bytes each (None: an equal part of all).

    They talk over the loopback device, encrypted where the package cryptography is installed.
    """
    import dask
    from distributed import Client, LocalCluster, Security
    from distributed.system import MEMORY_LIMIT

    share = memory or MEMORY_LIMIT // workers
    configuration = {
        **_DASK,
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(_THREADS, "1"),
    }
    secure = importlib.util.find_spec("cryptography") is not None
    _steady_messages()
    with (
        _quiet_dask(),
        dask.config.set(configuration),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=share,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
            security=Security.temporary() if secure else None,
        ) as cluster,
        Client(cluster) as client,
    ):
        text = f"{workers} worker{'s' * (workers > 1)} with one thread"
        text += f" and {share / 2**30:.1f} GiB each"
        if not secure:
            text += " (other users of this machine could reach them: install cryptography)"
        yield Cluster(client, text, share, _Mender(cluster, workers).mend)


class _Mender:
    """Replaces local workers that stay dead.

    A nanny starts a process again that dies, but not one that dies before the nanny has heard that
    it is ready; a case that ends its worker at once can do that.
    """

    def __init__(self, cluster: LocalCluster, workers: int) -> None:
        self._cluster, self._workers = cluster, workers
        self._dead_since: dict[Any, float] = {}

    def mend(self) -> None:
        now = time.monotonic()
        dead = [
            name
            for name, nanny in list(self._cluster.workers.items())
            if nanny.process is None or not nanny.process.is_alive()
        ]
        self._dead_since = {name: self._dead_since.get(name, now) for name in dead}
        gone = [name for name in dead if now - self._dead_since[name] > _DEAD]
        if gone:
            self._cluster.sync(self._cluster.scale_down, gone)
        if gone or len(self._cluster.workers) < self._workers:
            self._cluster.scale(self._workers)


@contextlib.contextmanager
def existing_cluster(address: str, memory: int | None) -> Iterator[Cluster]:
    """The cluster whose scheduler is at ``address``.

    Raises
    ------
    EnvironmentProblem : there is none, or it has no worker.
    """
    from distributed import Client

    advice = "Check the address, and that scheduler and workers run."
    _steady_messages()
    try:
        client = Client(address, timeout=_CONNECT)
    except (OSError, ValueError, TimeoutError) as error:
        raise EnvironmentProblem(f"No scheduler answers at {address}: {error}.", advice) from error
    with _quiet_dask(), client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise EnvironmentProblem(
                f"The scheduler at {address} has no worker.", advice
            ) from error
        yield Cluster(client, f"{len(client.nthreads())} workers of {address}", memory)


def run_on_dask(jobs: Iterable[Job], process: Process, cluster: Cluster) -> Iterator[Outcome]:
    """The outcome of each job, as they end. Jobs are taken when they are handed out.

    Raises
    ------
    EnvironmentProblem : for two minutes there has been no worker.
    """
    waiting = _InFlight(cluster, process)
    source = iter(jobs)
    more = True
    while True:
        while more and waiting.count < _PER_WORKER * max(1, waiting.workers()):
            job = next(source, None)
            if job is None:
                more = False
            else:
                waiting.submit(replace(job, own_process=True, memory=cluster.memory))
        if not waiting.count:
            return
        outcome = waiting.next_outcome()
        if outcome is not None:
            yield outcome


class _InFlight:
    """Cases that the cluster has and that have not ended."""

    def __init__(self, cluster: Cluster, process: Process) -> None:
        self._cluster, self._process = cluster, process
        self._jobs: dict[Any, tuple[Future, Job, int]] = {}
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._submitted = 0
        self._workers, self._looked = 0, -_LOOK
        #: When it was first seen that there is none.
        self._alone_since: float | None = None

    @property
    def count(self) -> int:
        return len(self._jobs)

    def workers(self) -> int:
        """How many there are, as of a few seconds ago."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._cluster.mend()
            self._workers, self._looked = len(self._cluster.client.nthreads()), now
            if self._workers:
                self._alone_since = None
            elif self._alone_since is None:
                self._alone_since = now
        return self._workers

    def submit(self, job: Job, deaths: int = 0) -> None:
        # One name for all, so that the scheduler keeps one group and not one per case.
        key = ("reactkd-case", job.store.run, self._submitted)
        self._submitted += 1
        future = self._cluster.client.submit(_on_worker, job, self._process, key=key, pure=False)
        self._jobs[key] = (future, job, deaths)
        future.add_done_callback(self._ended.put)

    def next_outcome(self) -> Outcome | None:
        """Of one case that has ended; None where none has for a while, or it is tried again."""
        try:
            future = self._ended.get(timeout=_LOOK)
        except queue.Empty:
            self._need_workers()
            return None
        if future.status == "finished":
            with contextlib.suppress(TimeoutError):
                outcome: Outcome = future.result(timeout=_LOOK)
                del self._jobs[future.key]
                return outcome
        _, job, deaths = self._jobs[future.key]
        if future.status == "error":
            del self._jobs[future.key]
            return self._after_error(job, deaths + 1, future.exception())
        if future.status == "cancelled":
            raise EnvironmentProblem(
                "The scheduler is gone.", "Start it, then go on with --resume."
            )
        # Its worker died with the answer in hand: the scheduler has it done again, which for a
        # finished case is just another answer.
        future.add_done_callback(self._ended.put)
        return None

    def _after_error(self, job: Job, deaths: int, error: BaseException) -> Outcome | None:
        from distributed import KilledWorker

        if not isinstance(error, KilledWorker):
            raise EnvironmentProblem(
                f"A worker cannot do cases: {type(error).__name__}: {error}.",
                "Install the same REACTKD on all workers.",
            ) from error
        if deaths < _MOST_DEATHS:
            # Perhaps it only waited there. If not, its next attempt knows what to say.
            self.submit(job, deaths)
            return None
        reason = f"{deaths} worker processes ended while they had this case."
        return Outcome(job.case, Failure(WORKER_DIED, reason, "Look at the logs of the workers."))

    def _need_workers(self) -> None:
        self.workers()
        if self._alone_since is not None and self._looked - self._alone_since > _PATIENCE:
            raise EnvironmentProblem(
                "No worker is left.", "Look at their logs, start workers, then go on with --resume."
            )


def _on_worker(job: Job, process: Process) -> Outcome:
    from distributed import get_worker

    threads = get_worker().state.nthreads
    if threads == 1:
        return run_job(job, process)
    # Its memory would not be bounded, and the timeout of one case would end the others.
    reason = f"A worker has {threads} threads, so it would do several cases at a time."
    advice = "Start workers with --nthreads 1 (and more of them)."
    return Outcome(job.case, Failure("EnvironmentProblem", reason, advice))
