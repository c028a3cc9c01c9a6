"""Jobs on a Ray cluster: of this machine alone, or of all that have joined the one at an address."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmark.console import say
from benchmark.engines.job import Failure, Job, Outcome, Place, carry_out
from benchmark.errors import UsageError
from benchmark.recording.store import Store
from benchmark.running.interruption import Interrupted, Interruption
from benchmark.streams.loading.images import StreamData
from leaderboards.errors import BoardError

WINDOW = 1_000
"""Jobs that the cluster is told of at a time: enough to keep hundreds of GPUs busy, and a head is slow with more."""

FAREWELL = 15.0
"""Seconds that tasks have to save their runs when the command is interrupted."""

OBJECTS = 100 * 2**20
"""Bytes of shared memory for what tasks return, the least that Ray takes: outcomes are some kilobytes."""

LOOPBACK = "127.0.0.1"

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A task without a share of a GPU sees none; Ray asks for this to be said.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # Workers are as important as those of any other engine.
    "RAY_worker_niceness": "0",
}
"""Variables of Ray's own, unless they are set."""


@dataclass(frozen=True)
class Share:
    """What each job has to itself.

    Attributes:
        cpus: cores, and threads.
        gpus: GPUs, also a fraction of one; 0 hides them.
        retries: how often a job whose process or machine was lost is begun again.
    """

    cpus: int = 1
    gpus: float = 0.0
    retries: int = 3

    def __str__(self) -> str:
        cores = "1 core" if self.cpus == 1 else f"{self.cpus} cores"
        return f"{cores} and {self.gpus:g} GPUs" if self.gpus else cores


@dataclass(frozen=True)
class OnRay:
    """An engine that gives each job to a task of Ray, with its share of a machine.

    Tasks run in processes that stay warm from one job to the next. A job whose process or machine is lost is begun
    again by Ray, and goes on from its last checkpoint where the output folder is a common one.

    Attributes:
        share: of each job.
        interruption: whether this process was told to end.
        address: of a cluster that this command joins; None starts one on this machine, on the loopback address.
        at_once: jobs at a time on this machine; None: as many as its cores allow. A cluster decides by itself.
    """

    share: Share
    interruption: Interruption
    address: str | None = None
    at_once: int | None = None

    def __call__(
        self, jobs: Sequence[Job], place: Place, store: Store, loaded: dict[Any, StreamData]
    ) -> Generator[tuple[Job, Outcome], None, None]:
        """Carry out ``jobs``; outcomes come in the order in which runs finish.

        Raises:
            UsageError: there is no Ray, no cluster at the address, or none of its machines has such a share.
            Interrupted: this process was told to end; the runs under way have been saved.
        """
        if not jobs:
            return
        # Processes on other machines are started in folders of their own.
        folders = {name: getattr(place, name).resolve() for name in ("data_root", "cache", "output")}
        place = replace(place, **folders)
        with (
            self._cluster(len(jobs)),
            closing(_dealt(jobs, place, store, self.share)) as outcomes,
            # Ray has handlers of its own since it was started.
            self.interruption.handled(signal.SIGINT, signal.SIGTERM),
        ):
            try:
                yield from outcomes
            except KeyboardInterrupt as error:
                # What a handler raises while Ray waits comes out as a plain KeyboardInterrupt.
                if self.interruption.signal is None:
                    raise
                raise Interrupted(self.interruption.signal) from error

    @contextmanager
    def _cluster(self, jobs: int) -> Iterator[None]:
        """A context in which Ray runs."""
        check_ray()
        import ray

        os.environ |= {name: value for name, value in SETTINGS.items() if name not in os.environ}
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "anytime-bench"}
        with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
            try:
                if self.address is not None:
                    _knock(self.address)
                    ray.init(self.address, **common)
                else:
                    ray.init(
                        "local",
                        num_cpus=self.share.cpus * min(jobs, self._slots()),
                        object_store_memory=OBJECTS,
                        include_dashboard=False,
                        _node_ip_address=LOOPBACK,
                        _temp_dir=folder,
                        **common,
                    )
            except (ConnectionError, RuntimeError, ValueError) as error:
                where = "on this machine" if self.address is None else f"at {self.address}"
                reason = " ".join(str(error).split())[:300]
                raise UsageError(f"there is no Ray cluster {where}: {reason}") from error
            try:
                self._check_share(ray.cluster_resources(), [node["Resources"] for node in ray.nodes()])
                yield
            finally:
                ray.shutdown()

    def _slots(self) -> int:
        """Jobs at a time on this machine."""
        return self.at_once or max(1, available_cores() // self.share.cpus)

    def _check_share(self, whole: dict[str, float], nodes: Sequence[dict[str, float]]) -> None:
        """Make sure that some machine has the share of a job, which Ray would wait for without end."""
        asked = {"CPU": float(self.share.cpus), "GPU": self.share.gpus}
        if not any(all(node.get(kind, 0.0) >= amount for kind, amount in asked.items()) for node in nodes):
            cores, gpus = (max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in asked)
            raise UsageError(
                f"no machine has {self.share} for a run (the most there are: {cores:g} cores and {gpus:g} GPUs): lower "
                "--cpus or --gpus"
            )
        slots = whole.get("CPU", 0.0) // self.share.cpus
        if self.share.gpus:
            slots = min(slots, whole.get("GPU", 0.0) // self.share.gpus)
        say(f"{slots:.0f} runs at once, each with {self.share}")


def _knock(address: str) -> None:
    """Make sure that somebody listens at ``HOST:PORT``; Ray would try for minutes.

    Raises:
        ConnectionError: nobody does.
        ValueError: it is no such address.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("an address is HOST:PORT, as ray start --head says it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error


def check_ray() -> None:
    """Make sure that Ray is installed.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed: pip install 'anytime-bench[sweep]', or take --engine processes")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _dealt(jobs: Sequence[Job], place: Place, store: Store, share: Share) -> Generator[tuple[Job, Outcome], None, None]:
    """Give the jobs to the cluster, so many at a time, and take back what has become of them."""
    import ray
    from ray.exceptions import RayError

    task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=share.retries)(work)
    waiting = deque(jobs)
    under_way: dict[Any, Job] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < WINDOW:
                under_way[task.remote(waiting[0], place, share)] = waiting[0]
                waiting.popleft()
            ready, _ = ray.wait(list(under_way), num_returns=1)
            for reference in ready:
                job = under_way.pop(reference)
                try:
                    outcome: Outcome = ray.get(reference)
                except RayError as error:
                    outcome = Failure(_why_lost(error, share))
                    _close(store, [reference], "FAILED", outcome.reason)
                yield job, outcome
    finally:
        if under_way:
            for reference in under_way:
                ray.cancel(reference)
            ray.wait(list(under_way), num_returns=len(under_way), timeout=FAREWELL)
            _close(store, under_way, "KILLED", "interrupted")


def work(job: Job, place: Place, share: Share) -> Outcome:
    """Carry out one job, in a process of the cluster.

    Raises:
        Interrupted: the command was interrupted, and the run has been saved.
    """
    import ray

    process = _Process.this
    if process.unfit:
        # After some errors of CUDA whatever it runs fails; Ray begins the job again, in another process.
        os._exit(1)
    torch.set_num_threads(share.cpus)
    if 0 < share.gpus < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share.gpus)
    interruption = Interruption()
    place = replace(place, worker=ray.get_runtime_context().get_task_id())
    # A task that is cancelled is interrupted as by Ctrl-C.
    with interruption.handled(signal.SIGINT, signal.SIGTERM):
        outcome = carry_out(job, place, process.loaded, interruption)
    process.unfit = isinstance(outcome, Failure) and outcome.unfit
    return outcome


class _Process:
    """What a process of the cluster keeps from one job to the next."""

    this: _Process

    def __init__(self) -> None:
        self.loaded: dict[Any, StreamData] = {}
        self.unfit = False


_Process.this = _Process()


def _why_lost(error: Exception, share: Share) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"its process or machine was lost {share.retries + 1} times ({type(error).__name__}: {reason})"


def _close(store: Store, references: Any, status: str, reason: str) -> None:
    """Give the runs that tasks have left marked as running their ``status``; one that ended by itself has its own."""
    with suppress(BoardError):
        store.close_left_by([reference.task_id().hex() for reference in references], status, reason)
