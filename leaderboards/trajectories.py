"""Trajectories: what runs measured after each megabatch, from the store; boards show only the last values."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pandas as pd

from leaderboards.store import reading

COLUMNS = ("run_id", "metric", "step", "value")

READERS = 8
"""Requests at once: a store answers one series at a time, and most of it is waiting."""


def trajectories(tracking_uri: str, run_ids: Iterable[str], metrics: Iterable[str]) -> pd.DataFrame:
    """Series of runs, a row a point: ``run_id``, ``metric``, ``step`` (the megabatch, from 1), ``value``.

    Ordered by run, metric and step; of several points of one step the one that was logged last counts. A run
    that the store or the metric lacks has no rows.

    Args:
        tracking_uri: any MLflow store.
        run_ids: of the runs.
        metrics: names, such as ``test/accuracy``.

    Raises:
        BoardError: the store cannot be read.
    """
    with reading(tracking_uri) as client:

        def read(asked: tuple[str, str]) -> list[tuple[str, str, int, float]]:
            run_id, metric = asked
            points = sorted(client.get_metric_history(run_id, metric), key=lambda point: point.timestamp)
            latest = {point.step: point.value for point in points}
            return [(run_id, metric, step, latest[step]) for step in sorted(latest)]

        with ThreadPoolExecutor(READERS) as readers:
            rows = [row for part in readers.map(read, product(run_ids, metrics)) for row in part]
    return pd.DataFrame(rows, columns=list(COLUMNS))
