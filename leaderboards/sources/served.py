"""Series from a tracking server: of many runs at a request, by the way that MLflow's own pages take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from leaderboards.sources.rows import Point

BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
"""Of one metric, all points of up to 100 runs. It is no part of the documented interface: a server may lack it."""

IN_ONE_REQUEST = 80
"""Runs: some servers take no longer address."""

MOST_POINTS = 25_000
"""Of an answer; MLflow leaves out the rest without a word."""

READERS = 8
"""Requests at once: most of each is waiting."""

Logged = tuple[int, int, float, str]
"""Timestamp, step, value and run of a point: in this order the last of a step counts."""


def served_series(uri: str, client: MlflowClient, run_ids: Sequence[str], metrics: Sequence[str]) -> list[Point]:
    """See :class:`leaderboards.sources.rows.Source`; ``uri`` is the address of a server.

    Raises:
        MlflowException: it does not answer.
    """

    def read(asked: tuple[str, Sequence[str]]) -> list[Logged]:
        metric, part = asked
        return _of_many(uri, client, metric, part)

    parts = [run_ids[start : start + IN_ONE_REQUEST] for start in range(0, len(run_ids), IN_ONE_REQUEST)]
    latest: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    asked = list(product(metrics, parts))
    with ThreadPoolExecutor(READERS) as readers:
        for (metric, _), points in zip(asked, readers.map(read, asked), strict=True):
            for _, step, value, run_id in sorted(points):
                latest[run_id, metric][step] = value
    return [
        (run_id, metric, step, value)
        for run_id, metric in product(run_ids, metrics)
        for step, value in sorted(latest.get((run_id, metric), {}).items())
    ]


def _of_many(uri: str, client: MlflowClient, metric: str, run_ids: Sequence[str]) -> list[Logged]:
    found = _answer(uri, metric, run_ids)
    if found is not None and len(found) < MOST_POINTS:
        return found
    if found is not None and len(run_ids) > 1:
        half = len(run_ids) // 2
        return [one for part in (run_ids[:half], run_ids[half:]) for one in _of_many(uri, client, metric, part)]
    return [point for run_id in run_ids for point in _of_one(client, metric, run_id)]


def _answer(uri: str, metric: str, run_ids: Sequence[str]) -> list[Logged] | None:
    """What the server says, perhaps cut off at :data:`MOST_POINTS`; None where it does not know the question."""
    if not uri.startswith(("http://", "https://")):
        return None
    asked = {"run_id": list(run_ids), "metric_key": metric, "max_results": MOST_POINTS}
    answer = http_request(get_default_host_creds(uri), BULK, "GET", raise_on_status=False, params=asked)
    if answer.status_code != 200:
        return None
    try:
        said = answer.json()["metrics"]
        return [(int(one["timestamp"]), int(one["step"]), float(one["value"]), str(one["run_id"])) for one in said]
    except (ValueError, TypeError, KeyError, OverflowError):
        return None  # A page of something in between: MLflow's own client has words for that.


def _of_one(client: MlflowClient, metric: str, run_id: str) -> Iterator[Logged]:
    try:
        points = client.get_metric_history(run_id, metric)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return  # A run of another source.
        raise
    yield from ((one.timestamp, one.step, one.value, run_id) for one in points)
