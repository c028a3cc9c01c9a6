"""Signs of life of a run: which process carries it out, and when that was last heard of."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil
from mlflow import MlflowClient

from benchmark.recording.spool import impatient
from leaderboards.record import PREFIX

PROCESS = "process"
"""Tag: machine, its boot, process id and the moment that the process started at."""

HEARTBEAT = "heartbeat"
"""Tag: seconds since the epoch, when the process was last heard of."""

INTERVAL = 60.0
"""Seconds between two signs of life."""

SILENCE = 600.0
"""Seconds without a sign after which a process on another machine is taken for gone."""


def own_process() -> str:
    """This process, told apart from all others, also from a later one of the same number."""
    process = psutil.Process()
    return f"{socket.gethostname()} {_boot()} {process.pid} {process.create_time():.2f}"


def is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the process of a run, by its tags without prefix, is still there.

    On this machine that is looked up; of another one its last sign of life decides, and a run without any signs is
    taken for gone.
    """
    parts = tags.get(PROCESS, "").rsplit(" ", 3)
    if len(parts) == 4 and (parts[0], parts[1]) == (socket.gethostname(), _boot()):
        try:
            process = psutil.Process(int(parts[2]))
            return abs(process.create_time() - float(parts[3])) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError):
            return False
    try:
        return time.time() - float(tags[HEARTBEAT]) < SILENCE
    except (KeyError, ValueError):
        return False


def signs_of_life() -> dict[str, str]:
    """The tags of a run that this process carries out, with their prefix."""
    return {PREFIX + PROCESS: own_process(), PREFIX + HEARTBEAT: f"{time.time():.0f}"}


@contextmanager
def heartbeat(client: MlflowClient, run_id: str, interval: float = INTERVAL) -> Iterator[None]:
    """A context in which the run shows signs of life."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(interval):
            # A sign that does not arrive is none, and whatever is wrong with the store is found by those who write.
            try:
                with impatient():
                    client.set_tag(run_id, PREFIX + HEARTBEAT, f"{time.time():.0f}")
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
def _boot() -> str:
    """Which start of the machine this is; the moment of it where Linux does not give it a name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"
