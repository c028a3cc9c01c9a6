"""The seconds that importing libraries takes: fewer of them, and stand-in images made meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNUSED = ("jax",)
"""Packages that are imported for nothing: Avalanche asks for a solver of quadratic programs, which tries all it has."""

MAKER = "benchmark.streams.sources.load"

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def unused_packages_hidden() -> Iterator[None]:
    """A context in which :data:`UNUSED` packages look as if they were not installed."""
    hidden = [name for name in UNUSED if name not in sys.modules]
    # This is how Python is told that a module cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def stand_ins_made_aside(given: Mapping[str, Any], data_root: Path, cache: Path) -> Iterator[None]:
    """A context during which a process of its own makes the stand-in images of the (first) stream, if it has any.

    It ends when they are there. Whatever goes wrong with them is left to be found by those who need them.
    """
    if "stream" not in given or CORES == 1:
        yield
        return
    words = [_first(given["stream"]), given.get("data", "auto"), _first(given.get("resolution", "")), data_root, cache]
    process = subprocess.Popen(
        [sys.executable, "-m", MAKER, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.wait()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value
