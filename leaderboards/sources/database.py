"""Runs and series from a database of MLflow, by some queries: MLflow's own client makes an object of every value."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from mlflow.entities import LifecycleStage
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from sqlalchemy import Connection, select

from leaderboards.sources.rows import Point

IN_ONE_QUERY = 500
"""Runs: databases limit the parameters of a query."""


@dataclass(frozen=True)
class Entry:
    """What a store holds of a run.

    Attributes:
        run_id: of the run.
        status: as MLflow has it, such as FINISHED.
        started: milliseconds since the epoch; None where it does not say.
        tags: all of them.
        params: all of them; empty where they were not asked for.
        metrics: the last value of each; empty where they were not asked for.
    """

    run_id: str
    status: str
    started: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def database_entries(
    uri: str, experiments: Sequence[str], *, status: str | None, tag: tuple[str, str] | None, measured: bool
) -> list[Entry]:
    """See :func:`leaderboards.sources.entries.entries`; ``uri`` is the address of a database.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it cannot be read.
    """
    wanted = [
        SqlRun.experiment_id.in_([int(one) for one in experiments]),
        SqlRun.lifecycle_stage == LifecycleStage.ACTIVE,
    ]
    if status is not None:
        wanted.append(SqlRun.status == status)
    if tag is not None:
        name, text = tag
        wanted.append(SqlRun.run_uuid.in_(select(SqlTag.run_uuid).where(SqlTag.key == name, SqlTag.value == text)))
    chosen = select(SqlRun.run_uuid).where(*wanted)
    columns: list[Any] = [SqlRun.run_uuid, SqlRun.status, SqlRun.start_time]
    with _connected(uri) as connection:
        runs = connection.execute(select(*columns).where(*wanted).order_by(SqlRun.start_time, SqlRun.run_uuid)).all()

        def of_runs(table: Any, *values: Any) -> dict[str, dict[str, Any]]:
            found: dict[str, dict[str, Any]] = defaultdict(dict)
            query = select(table.run_uuid, table.key, *values).where(table.run_uuid.in_(chosen))
            for run_id, name, value, *is_nan in connection.execute(query):
                found[run_id][name] = math.nan if any(is_nan) else value
            return found

        tags = of_runs(SqlTag, SqlTag.value)
        params = of_runs(SqlParam, SqlParam.value) if measured else {}
        metrics = of_runs(SqlLatestMetric, SqlLatestMetric.value, SqlLatestMetric.is_nan) if measured else {}
    return [
        Entry(run_id, state, started, *({**values.get(run_id, {})} for values in (tags, params, metrics)))
        for run_id, state, started in runs
    ]


def database_series(uri: str, run_ids: Sequence[str], metrics: Sequence[str]) -> list[Point]:
    """See :class:`leaderboards.sources.rows.Source`; ``uri`` is the address of a database.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it cannot be read.
    """
    points: list[Point] = []
    columns: list[Any] = [SqlMetric.run_uuid, SqlMetric.key, SqlMetric.step, SqlMetric.value, SqlMetric.is_nan]
    ordered = select(*columns).order_by(SqlMetric.timestamp, SqlMetric.step, SqlMetric.value)
    with _connected(uri) as connection:
        for start in range(0, len(run_ids), IN_ONE_QUERY):
            part = run_ids[start : start + IN_ONE_QUERY]
            latest: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
            query = ordered.where(SqlMetric.run_uuid.in_(part), SqlMetric.key.in_(metrics))
            for run_id, metric, step, value, is_nan in connection.execute(query):
                latest[run_id, metric][step] = math.nan if is_nan else value
            for asked in product(part, metrics):
                points += [(*asked, step, value) for step, value in sorted(latest.get(asked, {}).items())]
    return points


@contextmanager
def _connected(uri: str) -> Iterator[Connection]:
    engine = create_sqlalchemy_engine(uri)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
