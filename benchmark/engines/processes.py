"""Several jobs at once on this machine, each in a process of its own."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
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
from leaderboards.store import reaching

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
    busy: list[_Worker] = []
    idle: list[_Worker] = []
    with _interruption() as interruption:
        say(f"{processes} runs at once, threads of each: {threads}")
        try:
            if interruption in wait([interruption, _forking(threads)]):
                raise Interrupted(interruption.recv())
            while waiting or busy:
                while waiting and len(busy) < processes:
                    busy.append(idle.pop() if idle else _Worker(place, threads))
                    announce(waiting[0], len(jobs))
                    busy[-1].start(waiting.popleft())
                ready = wait([interruption, *(worker.connection for worker in busy)])
                if interruption in ready:
                    raise Interrupted(interruption.recv())
                for worker in [worker for worker in busy if worker.connection in ready]:
                    outcome = worker.outcome()
                    if outcome is None:
                        continue
                    busy.remove(worker)
                    if isinstance(outcome, Failure) and outcome.unfit:
                        _end([worker])
                        _close_runs(store, [worker], "FAILED", outcome.reason)
                    else:
                        idle.append(worker)
                    yield worker.job, outcome
        finally:
            _end([*busy, *idle])
            if busy:
                _close_runs(store, busy, "KILLED", "interrupted")


class _Worker:
    """A process that carries out one job at a time, as its parent sees it.

    Attributes:
        job: the one under way, or the last one.
        connection: can be read from whenever the process has something to say, or is lost.
    """

    job: Job

    def __init__(self, place: Place, threads: int):
        self.name = uuid4().hex
        self.connection, theirs = STARTING.Pipe()
        self.process = STARTING.Process(target=_work, args=(theirs, place, threads, self.name))
        with _inherited(threads):
            self.process.start()
        # With this end closed, the other one is the process's alone, and its loss can be read.
        theirs.close()

    def start(self, job: Job) -> None:
        """Begin with ``job``."""
        self.job = job
        with suppress(OSError):  # A lost process is found out when it is read from.
            self.connection.send(job)

    def outcome(self) -> Outcome | None:
        """What has become of the job; None after passing on a line about its progress."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            _end([self])
            if self.process.exitcode == -signal.SIGKILL:
                return Failure("its process was killed; if memory is short, lower --jobs", unfit=True)
            return Failure(f"its process ended with exit code {self.process.exitcode}", unfit=True)
        if isinstance(message, str):
            say(f"run {self.job.number}: {message}")
            return None
        outcome: Outcome = message
        return outcome


def _forking(threads: int) -> Connection:
    """A connection that can be read from once processes start at once, which takes an import of all libraries.

    Starting one waits for that, and nothing could interrupt it meanwhile.
    """
    ready, ours = STARTING.Pipe(duplex=False)

    def start_one() -> None:
        # Closed also where none can be started: the next one to try says why.
        with ours:
            process = STARTING.Process(target=_nothing, daemon=True)
            process.start()
            process.join()

    if STARTING.get_start_method() == "forkserver":
        with _inherited(threads):
            ensure_running()
        threading.Thread(target=start_one, daemon=True).start()
    else:
        ours.close()
    return ready


def _nothing() -> None:
    """The work of a process that shows that others can be started."""


def _end(workers: Sequence[_Worker]) -> None:
    """End processes, in good order if they can do so in time."""
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _close_runs(store: Store, workers: Sequence[_Worker], status: str, reason: str) -> None:
    """Give the runs that processes left unfinished in the store their ``status``."""
    try:
        store.close_left_by([worker.name for worker in workers], status, reason)
    except BoardError as error:
        runs = ", ".join(f"run {worker.job.number}" for worker in workers)
        say(f"Note: may still be marked as running: {runs}: {error}")


@contextmanager
def _interruption() -> Iterator[Connection]:
    """A connection that can be read from once this process is interrupted or told to end, which it then is not."""
    ours, handlers = STARTING.Pipe(duplex=False)
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: handlers.send(number)) for number in heard}
    try:
        yield ours
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _work(connection: Connection, place: Place, threads: int, name: str) -> None:
    """Carry out the jobs that come through ``connection``, until it is closed or SIGTERM comes."""
    interruption = Interruption()
    threading.Thread(target=_follow_parent, args=(place,), daemon=True).start()
    torch.set_num_threads(threads)
    place = replace(place, worker=name)
    loaded: dict[Any, StreamData] = {}
    lines = _Lines(connection)
    with interruption.handled(signal.SIGTERM), redirect_stdout(lines), redirect_stderr(lines):
        try:
            while True:
                try:
                    job: Job = connection.recv()
                except EOFError:
                    return
                lines.send(carry_out(job, place, loaded, interruption))
        except Interrupted:
            # Told to end by the parent, which says so.
            return


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
    """A text stream that sends its lines through a connection. It is no terminal, so that nothing draws bars on it."""

    def __init__(self, connection: Connection):
        super().__init__()
        self.connection = connection
        self._rest = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Send the lines that ``text`` completes."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in filter(None, map(str.strip, lines)):
                self.send(line)
        return len(text)

    def send(self, message: object) -> None:
        """Send anything that can be pickled; nothing once the other side is gone."""
        with self._lock, suppress(OSError):
            self.connection.send(message)
