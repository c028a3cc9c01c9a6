"""The simplest engine: jobs one after the other, in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from benchmark.engines.job import Job, Outcome, Place, announce, carry_out
from benchmark.streams.loading.images import StreamData


def in_turn(
    jobs: Sequence[Job], place: Place, loaded: dict[Any, StreamData]
) -> Generator[tuple[Job, Outcome], None, None]:
    """Carry out ``jobs`` one after the other; ``loaded`` holds the image sets that have been read already."""
    for job in jobs:
        announce(job, len(jobs))
        yield job, carry_out(job, place, loaded)
