"""The list of a campaign's runs, which the run of the store that they belong to holds."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException

from benchmark.errors import UsageError
from leaderboards.record import PREFIX

CAMPAIGN = "campaign"
"""Tag of the run that all runs of a campaign belong to: the campaign's name."""

CELLS = "campaign.json"
"""Artifact of that run: which runs the campaign has."""


def find_campaign(client: MlflowClient, experiment_id: str, name: str) -> Run | None:
    """The run that all runs of a campaign belong to, of several the first one; ``name`` is one that there can be."""
    wanted = f"tags.`{PREFIX}{CAMPAIGN}` = '{name}'"
    found = client.search_runs([experiment_id], wanted, max_results=1, order_by=["start_time ASC"])
    return found[0] if found else None


def write_cells(client: MlflowClient, run_id: str, name: str, cells: Sequence[Mapping[str, str]]) -> None:
    """Write down the ``identity`` and ``name`` of each run of a campaign."""
    client.log_dict(run_id, {"campaign": name, "cells": list(cells)}, CELLS)


def join_cells(earlier: Sequence[Mapping[str, str]], cells: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Those of both, each once: the earlier ones first."""
    return list({cell["identity"]: cell for cell in [*earlier, *cells]}.values())


def read_list(client: MlflowClient, run_id: str, name: str) -> list[dict[str, str]]:
    """What :func:`write_cells` wrote.

    Raises:
        UsageError: it cannot be read.
    """
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
