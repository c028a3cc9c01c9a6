"""Several jobs at once on this machine, each in a process of its own, by the standard library alone."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from multiprocessing import active_children, get_all_start_methods, get_context, parent_process
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from mlflow import MlflowClient

from benchmark.console import say
from benchmark.engines.job import Failure, Job, Outcome, Place, announce, carry_out
from benchmark.recording.spool import impatient
from benchmark.recording.store import Store
from benchmark.running.interruption import Interrupted, Interruption
from benchmark.streams.loading.images import StreamData
from leaderboards.errors import BoardError
from leaderboards.sources.store import reaching

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

PATIENCE = 10.0
"""Seconds that a process has to mark its run as killed before it is ended by force."""

PRELOAD = "benchmark.engines.preload"

# A process forked from this one could not use CUDA once this one has. Where it can be, the others are forked from one
# that has imported the libraries and done nothing else, so that it is done once.
STARTING: ForkServerContext | SpawnContext = get_context(  # type: ignore[assignment]
    "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
)
STARTING.set_forkserver_preload([PRELOAD])


def at_once(
    jobs: Sequence[Job], processes: int, place: Place, store: Store
) -> Generator[tuple[Job, Outcome], None, None]:
    """Carry out ``jobs``, ``processes`` at a time, in processes that share this one's threads between them.

    Outcomes come in the order in which runs finish. A process that is lost fails its own run alone. No process outlives
    the iterator, which has to be closed if it is left early; unfinished runs are marked as killed then.

    Raises:
        Interrupted: this process was told to end, by SIGINT or SIGTERM; the runs under way have been saved.
    """
    threads = max(1, torch.get_num_threads() // processes)
    waiting = deque(jobs)
    workers: list[_Worker] = []
    busy: dict[Future[Outcome], _Worker] = {}
    interruption = _Once()
    with interruption.handled():
        say(f"{processes} runs at once, threads of each: {threads}")
        try:
            if STARTING.get_start_method() == "forkserver":
                _await_forkserver(threads)
            while waiting or busy:
                while waiting and len(busy) < processes:
                    worker = next((one for one in workers if one not in busy.values()), None)
                    if worker is None:
                        worker = _Worker(place, threads)
                        workers.append(worker)
                    announce(waiting[0], len(jobs))
                    # A process that is started and not known would be left behind.
                    with interruption.held():
                        busy[worker.start(waiting.popleft())] = worker
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    worker = busy.pop(future)
                    outcome = worker.outcome(future)
                    if isinstance(outcome, Failure) and outcome.unfit:
                        workers.remove(worker)
                        _end([worker])
                        _close_runs(store, [worker], "FAILED", outcome.reason)
                    yield worker.job, outcome
        finally:
            _end(workers)
            left = [worker for worker in workers if worker.is_busy]
            if left:
                _close_runs(store, left, "KILLED", "interrupted")


def _await_forkserver(threads: int) -> None:
    """Wait until processes start at once, which takes an import of all libraries.

    An interruption ends the waiting, but not the start of a process that has been asked for: that one must be none that
    would miss this one.
    """
    ready = threading.Event()

    def start_one() -> None:
        try:
            process = STARTING.Process(target=_nothing, daemon=True)
            process.start()
            process.join()
        finally:
            # Also where none can be started: the next one to try says why.
            ready.set()

    with _inherited(threads):
        ensure_running()
    threading.Thread(target=start_one, daemon=True).start()
    ready.wait()


def _nothing() -> None:
    """The work of a process that shows that others can be started."""


class _Worker:
    """A process that carries out one job at a time, as its parent sees it.

    A pool of one process each: where one is lost, a larger pool gives up all its jobs.

    Attributes:
        job: the one under way, or the last one.
        is_busy: whether one was begun whose outcome is not known.
        process: None until the first job has begun.
    """

    job: Job

    def __init__(self, place: Place, threads: int):
        self.name = uuid4().hex
        self.threads = threads
        self.is_busy = False
        self.process: BaseProcess | None = None
        place = replace(place, worker=self.name)
        self.pool = ProcessPoolExecutor(1, STARTING, _begin, (place, threads))

    def start(self, job: Job) -> Future[Outcome]:
        """Begin with ``job``."""
        self.job, self.is_busy = job, True
        earlier = set(active_children())
        with nullcontext() if STARTING.get_start_method() == "forkserver" else _inherited(self.threads):
            future = self.pool.submit(_work, job)
        self.process = next(iter(set(active_children()) - earlier), self.process)
        return future

    def outcome(self, future: Future[Outcome]) -> Outcome:
        """What has become of the job."""
        self.is_busy = False
        try:
            return future.result()
        except BrokenProcessPool:
            self.pool.shutdown()
            code = None if self.process is None else self.process.exitcode
            if code == -signal.SIGKILL:
                return Failure("its process was killed; if memory is short, lower --jobs", unfit=True)
            return Failure(f"its process ended with exit code {code}", unfit=True)

    def tell_to_end(self) -> None:
        """Have the process save the run under way, and end."""
        if self.is_busy and self.process is not None:
            self.process.terminate()
        self.pool.shutdown(wait=False, cancel_futures=True)


def _end(workers: Sequence[_Worker]) -> None:
    """End processes, in good order if they can do so in time."""
    for worker in workers:
        worker.tell_to_end()
    deadline = time.monotonic() + PATIENCE
    for process in [worker.process for worker in workers if worker.process is not None]:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()


def _close_runs(store: Store, workers: Sequence[_Worker], status: str, reason: str) -> None:
    """Give the runs that processes left unfinished in the store their ``status``."""
    try:
        store.close_left_by([worker.name for worker in workers], status, reason)
    except BoardError as error:
        runs = ", ".join(f"run {worker.job.number}" for worker in workers)
        say(f"Note: may still be marked as running: {runs}: {error}")


class _Once:
    """What the first SIGINT or SIGTERM does: it raises :class:`Interrupted`. Nothing is heard of others."""

    def __init__(self) -> None:
        self._told: int | None = None
        self._is_held = False
        self._has_raised = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """A context that it ends."""
        heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._take) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A short context that it does not cut short: it raises at its end."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self._raise()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._told = self._told or number
        self._raise()

    def _raise(self) -> None:
        if self._told is not None and not self._is_held and not self._has_raised:
            self._has_raised = True
            raise Interrupted(self._told)


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """What a process inherits that is started here: deaf to the terminal's Ctrl-C, and limited to ``threads``."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


_HERE: dict[str, Any] = {}
"""Of a process that carries jobs out: its ``place``, and the images that it has ``loaded``."""


def _begin(place: Place, threads: int) -> None:
    """Make this process one that carries jobs out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, args=(place,), daemon=True).start()
    torch.set_num_threads(threads)
    _HERE.update(place=place, loaded={})


def _work(job: Job) -> Outcome:
    """Carry out a job; SIGTERM saves the run under way and ends the process."""
    place: Place = _HERE["place"]
    loaded: dict[Any, StreamData] = _HERE["loaded"]
    interruption = Interruption()
    lines = _Lines(f"run {job.number}")
    with interruption.handled(signal.SIGTERM), redirect_stdout(lines), redirect_stderr(lines):
        try:
            return carry_out(job, place, loaded, interruption)
        except Interrupted:
            # Told to end by the parent, which says so, or by its loss; nobody waits for an outcome.
            os._exit(128 + signal.SIGTERM)


def _follow_parent(place: Place) -> None:
    """End this process when the one that started it is gone, however that ended.

    One that ended by force has left the run that all others belong to.
    """
    parent = parent_process()
    assert parent is not None
    parent.join()
    if place.parent is not None:
        with suppress(BoardError), impatient(), reaching(place.tracking_uri):
            MlflowClient(place.tracking_uri).set_terminated(place.parent, "KILLED")
    os.kill(os.getpid(), signal.SIGTERM)


class _Lines(io.TextIOBase):
    """A text stream that puts a name before each line. It is no terminal, so that nothing draws bars on it."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self._rest = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Say the lines that ``text`` completes, each at once: others write there, too."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in filter(None, map(str.strip, lines)):
                with suppress(OSError):
                    os.write(2, f"{self.name}: {line}\n".encode())
        return len(text)
