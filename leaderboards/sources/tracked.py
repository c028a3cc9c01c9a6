"""MLflow stores as a source of runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

from annotated_types import MinLen
from mlflow.entities import Run
from mlflow.store.tracking.dbmodels.models import SqlMetric
from pydantic import Field, Json, ValidationError
from sqlalchemy import create_engine, select

from leaderboards.errors import BoardError
from leaderboards.glossary import Glossary, from_tags
from leaderboards.record import PREFIX
from leaderboards.sources.addresses import is_database
from leaderboards.sources.rows import (
    Described,
    Fields,
    Found,
    Point,
    ProtocolFields,
    Started,
    VariantFields,
    reason,
    row,
)
from leaderboards.sources.served import served_series
from leaderboards.sources.store import reading

PAGE = 1000

IN_ONE_QUERY = 500
"""Runs: databases limit the parameters of a query."""


class _Tags(Described):
    """What boards need to know of a run; a store that other programs write to may hold anything."""

    protocol: Json[ProtocolFields]
    variant: Json[VariantFields]
    variant_defaults: Json[Fields] = Field(default_factory=dict)
    earlier: Json[Fields] = Field(default_factory=dict)
    density: float
    started: Started
    metrics: dict[Annotated[str, MinLen(1)], float]


@dataclass(frozen=True)
class TrackedRuns:
    """The runs of the MLflow store at ``uri``."""

    uri: str

    def runs(self, experiment: str | None) -> Found:
        """See :class:`leaderboards.sources.rows.Source`."""
        rows: list[dict[str, Any]] = []
        damaged: dict[str, str] = {}
        glossary = Glossary()
        with reading(self.uri) as client:
            experiments = client.search_experiments()
            chosen = [e for e in experiments if experiment in (None, e.name)]
            if not chosen:
                names = ", ".join(repr(e.name) for e in experiments)
                raise BoardError(f"no experiment {experiment!r} in {self.uri}: there are {names or 'none'}")
            for one in chosen:
                glossary |= from_tags(one.tags)
            token = None
            while True:
                page = client.search_runs(
                    [one.experiment_id for one in chosen],
                    "attributes.status = 'FINISHED'",
                    max_results=PAGE,
                    page_token=token,
                    order_by=["start_time ASC"],
                )
                for run in page:
                    try:
                        found = _row(run)
                    except ValidationError as error:
                        damaged[run.info.run_id] = reason(error)
                    else:
                        rows += [] if found is None else [found]
                token = page.token
                if not token:
                    break
        return Found(rows, damaged, glossary)

    def series(self, run_ids: Iterable[str], metrics: Iterable[str]) -> list[Point]:
        """See :class:`leaderboards.sources.rows.Source`; of several points of one step the last logged one counts."""
        with reading(self.uri) as client:
            if is_database(self.uri):
                return _from_tables(self.uri, list(run_ids), list(metrics))
            return served_series(self.uri, client, list(run_ids), list(metrics))


def _from_tables(uri: str, run_ids: Sequence[str], metrics: Sequence[str]) -> list[Point]:
    """Series by some queries: MLflow's client asks for each by itself, which takes minutes for 2,000 runs."""
    points: list[Point] = []
    columns: list[Any] = [SqlMetric.run_uuid, SqlMetric.key, SqlMetric.step, SqlMetric.value, SqlMetric.is_nan]
    ordered = select(*columns).order_by(SqlMetric.timestamp, SqlMetric.step, SqlMetric.value)
    engine = create_engine(uri)
    with engine.connect() as connection:
        for start in range(0, len(run_ids), IN_ONE_QUERY):
            part = run_ids[start : start + IN_ONE_QUERY]
            latest: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
            query = ordered.where(SqlMetric.run_uuid.in_(part), SqlMetric.key.in_(metrics))
            for run_id, metric, step, value, is_nan in connection.execute(query):
                latest[run_id, metric][step] = math.nan if is_nan else value
            for asked in product(part, metrics):
                points += [(*asked, step, value) for step, value in sorted(latest.get(asked, {}).items())]
    engine.dispose()
    return points


def _row(run: Run) -> dict[str, Any] | None:
    """The row of a run; None if it is none of the benchmark's.

    Raises:
        ValidationError: its record is damaged.
    """
    tags = {name.removeprefix(PREFIX): value for name, value in run.data.tags.items() if name.startswith(PREFIX)}
    # The run that groups those of one command has signs of life alone.
    if not tags.keys() & _Tags.model_fields.keys():
        return None
    # The parameter was there from the first version on; a store that other programs write to may lack it.
    asked = {"density": run.data.params.get("density", math.nan), "started": run.info.start_time}
    said = dict(_Tags.model_validate({**tags, **asked, "metrics": run.data.metrics}))
    metrics = said.pop("metrics")
    return row(said, tags, run.info.run_id, said["started"], metrics)
