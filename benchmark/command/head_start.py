"""A use for the seconds that importing libraries takes: stand-in images are made meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmark.config.run_config import RESOLUTIONS

MAKER = "benchmark.streams.sources.load"

LATER_THAN_THIS = 10
"""Niceness of the process that makes them: it takes what the one thread of the imports leaves."""

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def stand_ins_made_aside(given: Mapping[str, Any], data_root: Path, cache: Path) -> Iterator[None]:
    """A context during which a process of its own makes the stand-in images of the (first) stream, if it has any.

    It ends when they are there, or when the context is left early. Whatever goes wrong with them is left to be found by
    those who need them.
    """
    side = _first(given.get("resolution", ""))
    will_be_refused = side != "" and not RESOLUTIONS[0] <= side <= RESOLUTIONS[1]
    if "stream" not in given or will_be_refused or CORES == 1:
        yield
        return
    words = [_first(given["stream"]), given.get("data", "auto"), side, data_root, cache]
    process = subprocess.Popen(
        [sys.executable, "-m", MAKER, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, LATER_THAN_THIS)
    try:
        yield
    except BaseException:
        # Whoever was told to end, or is refused, does not wait for images that nobody needs.
        process.terminate()
        raise
    finally:
        process.wait()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value
