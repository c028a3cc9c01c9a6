"""Commands that can be killed, or told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from statistics import median

import pytest
from commands import environment_of
from soak import SECONDS


def pytest_terminal_summary(terminalreporter):
    """How long commands took that were told to end."""
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.stats.get(outcome, [])]
    taken = [value for one in reports for name, value in getattr(one, "user_properties", ()) if name == SECONDS]
    if taken:
        shown = f"{len(taken)} times, median {median(taken):.1f}, longest {max(taken):.1f}"
        terminalreporter.write_line(f"{SECONDS}: {shown}")


@pytest.fixture(scope="session")
def killing(preloaded):
    """Function: (arguments, folder, kill) -> what became of the command: its code and the seconds that it took.

    ``kill`` says when it is killed: ``{"after": seconds}``, or at a call of a function: the arguments of
    ``preloaded.send_itself``; with ``number`` it is sent another signal. ``fresh`` starts it in a new interpreter.
    Where a signal was sent, ``left`` are the seconds from there to the end. Its ``clock`` is wrong by so many seconds.
    Its store is made as it is for users. It appends to ``said.txt``.
    """

    def carry_out(arguments, folder, kill=None, *, environment=None, clock=0.0):
        kill = dict(kill or {})
        after, number = kill.pop("after", None), kill.get("number", signal.SIGKILL)
        is_fresh = kill.pop("fresh", False)
        began = time.monotonic()
        if is_fresh:
            process = start_fresh(arguments, folder)
        else:
            process = preloaded.start(
                *arguments,
                folder=folder,
                streams=[folder / "said.txt"] * 2,
                environment={**environment_in(folder), **(environment or {})},
                new_store=True,
                clock=clock,
                signal_at=kill if "at" in kill else None,
            )
        if after is not None:
            time.sleep(max(0.0, began + after - time.monotonic()))
            (folder / "told").write_text(str(time.monotonic()))
            # One that has ended keeps its number until it is waited for.
            os.kill(process.pid, number)
        code = process.wait() if is_fresh else process.end().returncode
        ended = time.monotonic()
        told = folder / "told"
        left = ended - float(told.read_text()) if told.exists() else None
        told.unlink(missing_ok=True)
        return {"code": code, "seconds": ended - began, "left": left}

    return carry_out


def environment_in(folder):
    """Where a command in this folder caches images, and has its scratch."""
    (folder / "tmp").mkdir(exist_ok=True)
    return {"ANYTIME_BENCH_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}


def start_fresh(arguments, folder):
    """The command in a new interpreter."""
    # A shell that starts the tests in the background has interruption ignored, and children inherit that.
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    environment = {**os.environ, **environment_of(folder / "cache"), **environment_in(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "said.txt").open("ab") as said:
        whole = [sys.executable, "-m", "benchmark.run", *arguments]
        return subprocess.Popen(
            whole, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=hear
        )
