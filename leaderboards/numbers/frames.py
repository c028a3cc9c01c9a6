"""Sources of runs -> two flat tables for one's own analyses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from leaderboards.numbers.names import row_name
from leaderboards.sources.collect import collect, latest_per_seed
from leaderboards.sources.rows import METRIC
from leaderboards.sources.trajectories import trajectories

FLAT = ("protocol", "variant")
"""Columns that hold dictionaries -> a column a field."""

FOR_READERS = ("variant_defaults", "earlier")
"""Columns that only help to read the others."""


@dataclass(frozen=True)
class Frames:
    """The runs that boards count, as flat tables.

    Attributes:
        runs: a row a run, oldest first; indexed by ``run_id``. Columns: ``name`` (of the row of a board), ``started``
            (UTC), ``stream``, ``data``, ``seed``, ``density`` and whatever else is recorded, ``protocol.FIELD`` and
            ``variant.OPTION``, and ``metrics.NAME`` with the last value of each metric.
        series: a row a point: ``run_id``, ``metric``, ``step`` (the megabatch, from 1), ``value``.
    """

    runs: pd.DataFrame
    series: pd.DataFrame


def frames(source: str, *, experiment: str | None = None) -> Frames:
    """See :func:`leaderboards.load`."""
    runs = latest_per_seed(collect(source, experiment=experiment).runs)
    metrics = [name.removeprefix(METRIC) for name in runs.columns if name.startswith(METRIC)]
    ids = runs.run_id.tolist() if len(runs) else []
    series = trajectories(source, ids, metrics)
    if not ids:
        return Frames(pd.DataFrame(index=pd.Index([], name="run_id")), series)
    names = [row_name(runs.iloc[[number]]) for number in range(len(runs))]
    rows = [{"name": name} | flat(run) for name, run in zip(names, runs.to_dict("records"), strict=True)]
    return Frames(pd.DataFrame(rows).set_index("run_id"), series)


def flat(run: dict[Any, Any]) -> dict[Any, Any]:
    """A run of :class:`leaderboards.sources.collect.Records` without dictionaries: a column a field."""
    kept = {name: value for name, value in run.items() if name not in (*FLAT, *FOR_READERS)}
    return kept | {f"{column}.{field}": value for column in FLAT for field, value in run[column].items()}
