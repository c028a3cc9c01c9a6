"""Trajectories: what runs measured after each megabatch; boards show only the last values."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from leaderboards.sources.source import source

COLUMNS = ("run_id", "metric", "step", "value")


def trajectories(tracking_uri: str, run_ids: Iterable[str], metrics: Iterable[str]) -> pd.DataFrame:
    """Series of runs, a row a point: ``run_id``, ``metric``, ``step`` (the megabatch, from 1), ``value``.

    Ordered by run, metric and step; of several points of one step the one that was logged last counts. A run
    that the source or the metric lacks has no rows.

    Args:
        tracking_uri: any MLflow store, or ``records:DIR``.
        run_ids: of the runs.
        metrics: names, such as ``test/accuracy``.

    Raises:
        BoardError: the source cannot be read.
    """
    return pd.DataFrame(source(tracking_uri).series(run_ids, metrics), columns=list(COLUMNS))
