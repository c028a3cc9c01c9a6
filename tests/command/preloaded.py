"""Carries out commands in children of one process, which has imported their libraries: no test waits for that.

Reads an order a line from standard input: the module, its arguments, the folder, variables of the environment, and the
files for what it prints and says. Answers each with the exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path

from benchmark.engines.imports import libraries_imported

LIMIT = 600
"""Seconds after which a command is killed."""

with libraries_imported():
    import benchmark.command.session
    import benchmark.engines.preload  # noqa: F401

# What pytest puts on the path of the tests.
sys.path.append(str(Path(__file__).parents[1] / "helpers"))
from ready_store import use_copies  # noqa: E402

use_copies()


def become(module: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[str]) -> None:
    """Go on as ``python -m module`` would, in this process."""
    signal.alarm(LIMIT)
    for number, path in enumerate((os.devnull, *streams)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment["PYTHONPATH"].split(os.pathsep))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        become(**json.loads(line))
        break
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
