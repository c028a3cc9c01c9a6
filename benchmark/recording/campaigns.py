"""What a store knows of a campaign: its runs, which of them are done, and how far the others are."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException

from benchmark.config.campaign import NAME
from benchmark.errors import UsageError, shortened
from benchmark.recording.heartbeat import EXPECTED_END, PROGRESS
from benchmark.recording.ledger import Earlier, Ledger
from benchmark.recording.store import CAMPAIGN, CELLS
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
    """

    name: str
    state: CellState
    run_id: str | None = None
    about: str = ""
    rest: float | None = None


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
    found: list[Run] = []
    if NAME.fullmatch(name):
        wanted = f"tags.`{PREFIX}{CAMPAIGN}` = '{name}'"
        found = client.search_runs([experiment_id], wanted, max_results=1, order_by=["start_time ASC"])
    if not found:
        known = ", ".join(campaigns(client, experiment_id)) or "none"
        raise UsageError(f"there is no campaign {shortened(name)} in this store: there are {known}")
    cells = _listed(client, found[0].info.run_id, name)
    ledger = Ledger(client, experiment_id)
    return [_cell(cell["name"], ledger.of(cell["identity"])) for cell in cells]


def _listed(client: MlflowClient, run_id: str, name: str) -> list[dict[str, str]]:
    try:
        with tempfile.TemporaryDirectory() as folder, _no_bars():
            path = Path(client.download_artifacts(run_id, CELLS, folder))
            cells: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
            return [{key: str(cell[key]) for key in ("identity", "name")} for cell in cells]
    except (OSError, ValueError, KeyError, TypeError, MlflowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"which runs the campaign {name} has cannot be read ({type(error).__name__}: {reason}): the files of the "
            "store have to be reachable from here, as those of a tracking server are"
        ) from error


@contextmanager
def _no_bars() -> Iterator[None]:
    """MLflow draws a bar for each download, also where nobody looks."""
    before = MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get_raw()
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    try:
        yield
    finally:
        if before is None:
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.unset()
        else:
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(before)


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
        return Cell(name, "under way", run.run_id, run.tags.get(PROGRESS, "just begun"), rest)
    return Cell(name, run.state, run.run_id, run.tags.get("failure", ""))
