"""Commands that are killed, and started again until they end: a process of its own, which has imported the libraries.

Reads an order a line from standard input, ``{"arguments": [...], "folder": "...", "kill": null}``, carries the command
out in a child, and answers with ``{"code": exit code or minus the signal, "seconds": ...}``. ``kill`` says when the
child is killed, by SIGKILL: ``{"after": seconds}``, or ``{"at": "module:function", "call": n, "when": "before"}``, at
the n-th call of a function. ``"signal": n`` beside it sends another signal.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

from benchmark.engines.imports import libraries_imported

with libraries_imported():
    import benchmark.command.session
    import benchmark.engines.preload  # noqa: F401


def kill_at(at: str, call: int, when: str, number: int = signal.SIGKILL) -> None:
    """Let this process send itself a signal at a call of a function, before or after what it does."""
    module, _, path = at.partition(":")
    owner, names = importlib.import_module(module), path.split(".")
    for name in names[:-1]:
        owner = getattr(owner, name)
    function, calls = getattr(owner, names[-1]), 0

    @functools.wraps(function)
    def deadly(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            os.kill(os.getpid(), number)
        result = function(*arguments, **options)
        if calls == call and when == "after":
            os.kill(os.getpid(), number)
        return result

    setattr(owner, names[-1], deadly)


def become(arguments: list[str], folder: str, kill: dict | None) -> None:
    """Go on as ``python -m benchmark.run`` would, in this process."""
    out = os.open(Path(folder, "said.txt"), os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for number, stream in enumerate((os.open(os.devnull, os.O_RDWR), out, out)):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ["ANYTIME_BENCH_CACHE"] = str(Path(folder, "cache"))
    if kill is not None and "at" in kill:
        kill_at(kill["at"], kill["call"], kill["when"], kill.get("signal", signal.SIGKILL))
    sys.argv = ["benchmark.run", *arguments]
    runpy.run_module("benchmark.run", run_name="__main__", alter_sys=True)


def carry_out(arguments: list[str], folder: str, kill: dict | None) -> dict:
    """The command in a child, and what became of it."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        become(arguments, folder, kill)
        os._exit(0)
    if kill is not None and "after" in kill:
        deadline = began + kill["after"]
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}
            time.sleep(0.002)
        began = time.monotonic()
        os.kill(child, kill.get("signal", signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}


if __name__ == "__main__":
    for line in sys.stdin:
        answer = carry_out(**json.loads(line))
        print(json.dumps(answer), flush=True)
