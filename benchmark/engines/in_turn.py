"""The simplest engine: jobs one after the other, in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from benchmark.engines.job import Job, Outcome, Place, announce, carry_out
from benchmark.running.interruption import Interruption
from benchmark.streams.loading.images import StreamData


def in_turn(
    jobs: Sequence[Job], place: Place, loaded: dict[Any, StreamData], interruption: Interruption | None = None
) -> Generator[tuple[Job, Outcome], None, None]:
    """Carry out ``jobs`` one after the other.

    Args:
        jobs: the runs.
        place: where their images and their store are.
        loaded: the image sets that have been read already.
        interruption: whether this process was told to end.

    Raises:
        Interrupted: it was, and the run under way has been saved.
    """
    for job in jobs:
        announce(job, len(jobs))
        yield job, carry_out(job, place, loaded, interruption)
