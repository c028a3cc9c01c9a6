"""Carries out commands in children of one process, which has imported their libraries: no test waits for that.

Reads an order a line from standard input, and answers each with a line. An order is one of ``start`` with the
arguments of :func:`become`, answered with the number of the child, and ``wait`` with such a number, answered with the
child's exit code, or minus the signal that ended it; with ``null`` if it is ``at_once`` and the child has not ended.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import importlib
import json
import locale
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import NoReturn

from ready_store import make_by_mlflow, use_copies

from benchmark.engines.imports import libraries_imported
from benchmark.recording import creation

with libraries_imported():
    import benchmark.command.session
    import benchmark.engines.preload  # noqa: F401

LIMIT = 600
"""Seconds after which a command is killed."""

FORKSERVER = "from multiprocessing.forkserver import main"
"""What ``multiprocessing`` tells a new interpreter that is to be the one that others are forked from."""

FAR = 1000
"""A file descriptor beyond those that a command uses."""


def become(
    module: str,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    streams: list[str],
    forkserver: bool = False,
    new_store: bool = False,
    constants: dict[str, float] | None = None,
    clock: float = 0.0,
    signal_at: dict | None = None,
) -> NoReturn:
    """Be ``python -m module`` in this process, the leader of a session of its own.

    Args:
        module: of the command.
        arguments: of the command.
        folder: where it runs.
        environment: variables that it has beside those of this process.
        streams: files for what it prints and says.
        forkserver: whether the process that ``--jobs`` forks from has its libraries from here, too.
        new_store: whether its store is made as it is for users, not copied.
        constants: ``module:name`` of constants, such as how long something is waited for -> their values.
        clock: seconds by which its clock is wrong, which is no clock that nobody sets.
        signal_at: the arguments of :func:`send_itself`.
    """
    os.setsid()
    signal.alarm(LIMIT)
    # A shell that starts the tests in the background has interruption ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in enumerate((os.devnull, *streams)):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.update(environment)
    tempfile.tempdir = None  # Where its scratch is was looked up for another process.
    time.tzset()
    with suppress(locale.Error):  # This machine may not know it.
        locale.setlocale(locale.LC_ALL, "")
    if clock:
        seconds, nanoseconds = time.time, time.time_ns
        time.time, time.time_ns = lambda: seconds() + clock, lambda: nanoseconds() + int(clock) * 10**9
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    if forkserver:
        keep_spare()
    if new_store:
        creation._make = make_by_mlflow
    for place, value in (constants or {}).items():
        owner, name = place.split(":")
        setattr(importlib.import_module(owner), name, value)
    if signal_at is not None:
        send_itself(**signal_at)
    sys.argv = [module, *arguments]
    end_with(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))


def end_with(work) -> NoReturn:
    """Do the last thing, and end as an interpreter does, but for clearing away its modules: that takes seconds."""
    code = 0
    try:
        work()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def keep_spare() -> None:
    """Fork the process that ``multiprocessing`` forks others from, which would else be a new interpreter.

    It is forked now, while the command has done nothing yet, and waits until it is needed.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        # Not heard before there is a process to hear them.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        order, received, *_ = socket.recv_fds(theirs, 10_000, 10)
        if not order:
            os._exit(0)
        what, numbers, ignored = json.loads(order)
        far = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, FAR) for descriptor in received]
        os.closerange(3, FAR)
        for descriptor, number in zip(far, numbers, strict=True):
            os.dup2(descriptor, number)
        # A new interpreter inherits of signals which are ignored.
        signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
        end_with(lambda: exec(what, {}))
    theirs.close()
    otherwise = util.spawnv_passfds

    def spawnv_passfds(executable: str, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        if not arguments[-1].startswith(FORKSERVER):
            return otherwise(executable, arguments, descriptors)
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        order = json.dumps([arguments[-1], list(descriptors), ignored])
        socket.send_fds(ours, [order.encode()], descriptors)
        ours.close()
        return child

    util.spawnv_passfds = spawnv_passfds


def send_itself(at: str, call: int, when: str, number: int = signal.SIGKILL) -> None:
    """Let this process send itself a signal at a call of a function, before or after what it does.

    When that was, in seconds of the clock that nobody sets, is written into the file ``told``.
    """
    module, _, path = at.partition(":")
    owner, names = importlib.import_module(module), path.split(".")
    for name in names[:-1]:
        owner = getattr(owner, name)
    function, calls = getattr(owner, names[-1]), 0

    def send():
        Path("told").write_text(str(time.monotonic()))
        os.kill(os.getpid(), number)

    @functools.wraps(function)
    def deadly(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            send()
        result = function(*arguments, **options)
        if calls == call and when == "after":
            send()
        return result

    setattr(owner, names[-1], deadly)


def wait(child: int, at_once: bool = False) -> int | None:
    """The exit code of a child."""
    ended, status = os.waitpid(child, os.WNOHANG if at_once else 0)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    use_copies()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = wait(**order["wait"])
        else:
            answer = os.fork()
            if answer == 0:
                become(**order["start"])
        print(json.dumps(answer), flush=True)
