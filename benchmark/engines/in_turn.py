"""The simplest engine: jobs one after the other, in this process."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from benchmark.engines.job import Job, Outcome, Place, announce, carry_out
from benchmark.streams.loading.images import StreamData


def in_turn(
    jobs: Sequence[Job], place: Place, loaded: dict[Any, StreamData]
) -> Generator[tuple[Job, Outcome], None, None]:
    """Carry out ``jobs`` one after the other; ``loaded`` holds the image sets that have been read already.

    To be called in the main thread.

    Raises:
        KeyboardInterrupt: this process was interrupted, or told to end by SIGTERM.
    """
    with _interrupted_by_sigterm():
        for job in jobs:
            announce(job, len(jobs))
            yield job, carry_out(job, place, loaded)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM, by which batch systems end a program, interrupts as Ctrl-C does: no run stays marked as running."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
