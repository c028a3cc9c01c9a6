"""What a store knows of a campaign: its runs, which of them are done, and how far the others are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlflow import MlflowClient

from benchmark.config.campaign import NAME
from benchmark.errors import UsageError, shortened
from benchmark.recording.cells import CAMPAIGN, find_campaign, read_list
from benchmark.recording.heartbeat import DONE, EXPECTED_END, PROGRESS
from benchmark.recording.ledger import Earlier, Ledger
from leaderboards.record import PREFIX

CellState = Literal["finished", "under way", "interrupted", "failed", "waiting"]


@dataclass(frozen=True)
class Cell:
    """One run of a campaign.

    Attributes:
        name: of the run.
        state: ``waiting`` if no command has begun it.
        run_id: of the MLflow run that decides the state; None if there is none.
        about: how far it is, or why it failed; may be empty.
        rest: seconds that it is expected to take from now on; None where that is not known.
        done: which fraction of its training was done when it was last heard of; None where that is not known.
    """

    name: str
    state: CellState
    run_id: str | None = None
    about: str = ""
    rest: float | None = None
    done: float | None = None


def campaigns(client: MlflowClient, experiment_id: str) -> list[str]:
    """Names of all campaigns of an experiment, the newest first."""
    wanted = f"tags.`{PREFIX}{CAMPAIGN}` != ''"
    found = client.search_runs([experiment_id], wanted, order_by=["start_time DESC"])
    return list(dict.fromkeys(run.data.tags[PREFIX + CAMPAIGN] for run in found))


def read_cells(client: MlflowClient, experiment_id: str, name: str) -> list[Cell]:
    """The runs of a campaign, in its order.

    Args:
        client: of the store.
        experiment_id: of the experiment.
        name: of the campaign.

    Raises:
        UsageError: there is no such campaign, or its list of runs cannot be read.
    """
    run = find_campaign(client, experiment_id, name) if NAME.fullmatch(name) else None
    if run is None:
        known = ", ".join(campaigns(client, experiment_id)) or "none"
        raise UsageError(f"there is no campaign {shortened(name)} in this store: there are {known}")
    ledger = Ledger(client, experiment_id)
    return [_cell(cell["name"], ledger.of(cell["identity"])) for cell in read_list(client, run.info.run_id, name)]


def _cell(name: str, earlier: Sequence[Earlier]) -> Cell:
    """What the runs of one identity come to: a finished one counts before all, then one under way, then the newest."""
    for state in ("finished", "under way"):
        for run in earlier:
            if run.state == state:
                return _told(name, run)
    return _told(name, earlier[0]) if earlier else Cell(name, "waiting")


def _told(name: str, run: Earlier) -> Cell:
    if run.state == "finished":
        return Cell(name, "finished", run.run_id)
    if run.state == "under way":
        end = run.tags.get(EXPECTED_END, "")
        rest = max(0.0, float(end) - time.time()) if end.isdecimal() else None
        return Cell(name, "under way", run.run_id, run.tags.get(PROGRESS, "just begun"), rest, _fraction(run.tags))
    return Cell(name, run.state, run.run_id, run.tags.get("failure", ""))


def _fraction(tags: Mapping[str, str]) -> float | None:
    try:
        return min(1.0, max(0.0, float(tags[DONE])))
    except (KeyError, ValueError):
        return None
