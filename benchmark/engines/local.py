"""The engine of a single machine: in this process, or in several that share its threads."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from benchmark.engines.in_turn import in_turn
from benchmark.engines.job import Engine, Job, Outcome, Place
from benchmark.engines.processes import at_once
from benchmark.recording.store import Store
from benchmark.running.interruption import Interruption
from benchmark.streams.loading.images import StreamData


def local(processes: int, interruption: Interruption | None = None) -> Engine:
    """An engine that carries out up to so many jobs at a time, a single one in this process."""

    def carry_out_all(
        jobs: Sequence[Job], place: Place, store: Store, loaded: dict[Any, StreamData]
    ) -> Generator[tuple[Job, Outcome], None, None]:
        at_a_time = min(processes, len(jobs))
        if at_a_time > 1:
            return at_once(jobs, at_a_time, place, store)
        return in_turn(jobs, place, loaded, interruption)

    return carry_out_all
