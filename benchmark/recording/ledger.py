"""What a store knows of earlier runs: which are done, which died, which can be gone on with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlflow import MlflowClient

from benchmark.recording.heartbeat import PROCESS, WORKER, is_alive
from leaderboards.record import PREFIX
from leaderboards.sources.database import Entry
from leaderboards.sources.entries import entries

State = Literal["finished", "failed", "under way", "interrupted"]


@dataclass(frozen=True)
class Earlier:
    """An earlier run.

    Attributes:
        run_id: of the MLflow run.
        state: ``interrupted`` also where its process is gone without a word.
        marked_running: whether the store still says that it runs.
        started: milliseconds since the epoch.
        tags: without prefix.
    """

    run_id: str
    state: State
    marked_running: bool
    started: int
    tags: Mapping[str, str]


class Ledger:
    """The runs of an experiment, by identity; read once."""

    def __init__(self, client: MlflowClient, experiment_id: str, identity: str | None = None, own: str | None = None):
        """Read them.

        Args:
            client: of the store.
            experiment_id: of the experiment.
            identity: of the runs, where others are of no interest.
            own: the :data:`WORKER` that reads this: what is marked as running by it was left by an earlier attempt
                of its, wherever that was.
        """
        self._runs: dict[str, list[Earlier]] = defaultdict(list)
        self._others: list[Earlier] = []
        tag = None if identity is None else (PREFIX + "identity", identity)
        for run in entries(client, [experiment_id], tag=tag):
            earlier = _earlier(run, own)
            identity = earlier.tags.get("identity")
            (self._others if identity is None else self._runs[identity]).append(earlier)

    def of(self, identity: str) -> list[Earlier]:
        """The runs of one identity, newest first."""
        return sorted(self._runs.get(identity, ()), key=lambda run: -run.started)

    def over(self) -> set[str]:
        """Ids of all runs that have finished or failed: nothing goes on with them."""
        return {run.run_id for runs in self._runs.values() for run in runs if run.state in ("finished", "failed")}

    def abandoned(self) -> list[Earlier]:
        """Runs, and groups of runs, that the store takes for running although their process is gone.

        Runs of others, which say nothing of a process, are none of our business.
        """
        everything = [*self._others, *(run for runs in self._runs.values() for run in runs)]
        return [r for r in everything if r.marked_running and r.state == "interrupted" and PROCESS in r.tags]


def _earlier(run: Entry, own: str | None) -> Earlier:
    tags = {name.removeprefix(PREFIX): text for name, text in run.tags.items() if name.startswith(PREFIX)}
    status = run.status
    running = status == "RUNNING"
    state: State
    if status == "FINISHED":
        state = "finished"
    elif status == "FAILED":
        state = "failed"
    else:
        is_ours = own is not None and tags.get(WORKER) == own
        state = "under way" if running and not is_ours and is_alive(tags) else "interrupted"
    return Earlier(run.run_id, state, running, run.started or 0, tags)
