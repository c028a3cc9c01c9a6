"""Progress for the eyes: bars on a terminal, plain lines elsewhere. Both go to standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from leaderboards.text import printable

T = TypeVar("T")

PLAIN_INTERVAL = 15.0
"""Seconds between two plain lines about the same thing."""


def say(line: str) -> None:
    """Print one line for a human, on standard error, above any bar; names in it may come from outside."""
    line = printable(line)
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)


def track(items: Iterable[T], total: int, label: str, unit: str = "it") -> Iterator[T]:
    """Pass ``items`` through while showing how many of ``total`` are done."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=unit, leave=False)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > PLAIN_INTERVAL:
            last = time.monotonic()
            say(f"{label}: {done} of {total}")
