"""Signs of life of a run: which process carries it out, and when that was last heard of."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import RunTag

from benchmark.recording.spool import impatient
from leaderboards.record import PREFIX

PROCESS = "process"
"""Tag: machine and its boot, process id and the moment that the process started at."""

WORKER = "worker"
"""Tag: what an engine calls the process, or the task of a cluster, that carries the run out."""

PROGRESS = "progress"
"""Tag: how far the run was then, in words."""

DONE = "done"
"""Tag: which fraction of its training was done then."""

EXPECTED_END = "expected_end"
"""Tag: seconds since the epoch, when the run was expected to end then."""

HEARTBEAT = "heartbeat"
"""Tag: seconds since the epoch, when the process was last heard of."""

INTERVAL = 60.0
"""Seconds between two signs of life."""

SILENCE = 600.0
"""Seconds without a sign after which a process on another machine is taken for gone."""


def own_process() -> str:
    """This process, told apart from all others, also from a later one of the same number."""
    return f"{_machine()} {os.getpid()} {_started(os.getpid())}"


def is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the process of a run, by its tags without prefix, is still there.

    On this machine that is looked up; of another one its last sign of life decides, and a run without any signs is
    taken for gone.
    """
    machine, _, process = tags.get(PROCESS, "").partition(" ")
    if machine == _machine():
        number, _, started = process.partition(" ")
        try:
            return number.isdecimal() and _started(int(number)) == started
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            pass  # Of another user: its signs have to do.
    try:
        return time.time() - float(tags[HEARTBEAT]) < SILENCE
    except (KeyError, ValueError):
        return False


def signs_of_life() -> dict[str, str]:
    """The tags of a run that this process carries out, with their prefix."""
    return {PREFIX + PROCESS: own_process(), PREFIX + HEARTBEAT: f"{time.time():.0f}"}


@contextmanager
def heartbeat(
    client: MlflowClient,
    run_id: str,
    interval: float = INTERVAL,
    tell: Callable[[], Mapping[str, str]] = dict,
) -> Iterator[None]:
    """A context in which the run shows signs of life, with the tags (without prefix) that ``tell`` gives each time."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(interval):
            # A sign that does not arrive is none, and whatever is wrong with the store is found by those who write.
            try:
                with impatient():
                    now = {**tell(), HEARTBEAT: f"{time.time():.0f}"}
                    client.log_batch(run_id, tags=[RunTag(PREFIX + name, text) for name, text in now.items()])
            except Exception:
                continue

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1.0)


@cache
def _machine() -> str:
    """The machine, which start of it this is, and within which bounds process ids count there, as in a container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        bounds = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        boot, bounds = f"{psutil.boot_time():.0f}", ""
    return "/".join((socket.gethostname(), boot, bounds)).replace(" ", "-")


def _started(number: int) -> str:
    """When a process started, by a clock that nobody sets where there is one.

    Raises:
        psutil.NoSuchProcess: there is none, or it has ended and nobody has asked for its exit code.
        psutil.AccessDenied: nothing is to be known of it.
    """
    process = psutil.Process(number)
    if process.status() == psutil.STATUS_ZOMBIE:
        raise psutil.NoSuchProcess(number)
    try:
        # The name of the program, in brackets, may hold anything; the 22nd field counts from the boot.
        return Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return f"{process.create_time():.0f}"
