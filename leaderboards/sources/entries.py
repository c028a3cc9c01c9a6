"""Runs of an MLflow store, of whatever kind it is."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Run

from leaderboards.sources.addresses import is_database
from leaderboards.sources.database import Entry, database_entries

PAGE = 1000
"""Runs that a server is asked for at a time."""


def entries(
    client: MlflowClient,
    experiments: Sequence[str],
    *,
    status: str | None = None,
    tag: tuple[str, str] | None = None,
    measured: bool = False,
) -> list[Entry]:
    """The runs of some experiments that are not deleted, oldest first.

    Args:
        client: of the store.
        experiments: their ids.
        status: that the runs have, such as FINISHED.
        tag: that they have, a name and a value.
        measured: whether their parameters and metrics are wanted.

    Raises:
        mlflow.exceptions.MlflowException: a server does not answer.
        sqlalchemy.exc.SQLAlchemyError: a database cannot be read.
    """
    if is_database(client.tracking_uri):
        return database_entries(client.tracking_uri, experiments, status=status, tag=tag, measured=measured)
    wanted = [] if status is None else [f"attributes.status = '{status}'"]
    wanted += [] if tag is None else [f"tags.`{tag[0]}` = '{tag[1]}'"]
    found: list[Entry] = []
    token = None
    while True:
        page = client.search_runs(
            list(experiments), " and ".join(wanted), max_results=PAGE, page_token=token, order_by=["start_time ASC"]
        )
        found += [_entry(run) for run in page]
        token = page.token
        if not token:
            return found


def _entry(run: Run) -> Entry:
    return Entry(
        run.info.run_id, run.info.status, run.info.start_time, run.data.tags, run.data.params, run.data.metrics
    )
