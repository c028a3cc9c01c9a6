"""Series from a real tracking server: the same points whichever way they are asked for."""

from __future__ import annotations

import math

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from leaderboards.sources import served
from leaderboards.sources.tracked import TrackedRuns

METRICS = ("test/accuracy", "size/density", "not/there")


@pytest.fixture(scope="module")
def runs(server):
    """Five runs; a point of the first is recorded twice, the later time first, and one is no number."""
    client = MlflowClient(server)
    experiment = client.create_experiment("series")
    found = []
    for number in range(5):
        run_id = client.create_run(experiment).info.run_id
        points = [Metric(metric, number + step / 10, step, step) for metric in METRICS[:2] for step in (3, 1, 2)]
        client.log_batch(run_id, points)
        found.append(run_id)
    client.log_batch(found[0], [Metric("test/accuracy", 0.9, 99, 2), Metric("test/accuracy", 0.8, 98, 2)])
    client.log_batch(found[0], [Metric("size/density", math.nan, 50, 3)])
    return found


def expected(runs):
    for number, run_id in enumerate(runs):
        for metric in METRICS[:2]:
            for step in (1, 2, 3):
                special = {(0, "test/accuracy", 2): 0.9, (0, "size/density", 3): math.nan}
                yield run_id, metric, step, special.get((number, metric, step), number + step / 10)


@pytest.mark.parametrize(
    "way",
    [
        {},
        {"IN_ONE_REQUEST": 2},
        # An answer that may have been cut off is asked for in halves, and of one run page by page.
        {"MOST_POINTS": 7},
        {"MOST_POINTS": 2},
        # A server that lacks this way, or says something else.
        {"BULK": "/no/such/way"},
        {"BULK": "/health"},
    ],
)
def test_points_are_the_same_whichever_way_they_are_asked_for(server, runs, monkeypatch, way):
    for name, value in way.items():
        monkeypatch.setattr(served, name, value)
    order = [runs[3], runs[0], "f" * 32, runs[4], runs[1], runs[2]]
    found = TrackedRuns(server).series(order, METRICS)
    place = {run_id: number for number, run_id in enumerate(order)}
    assert repr(found) == repr(sorted(expected(runs), key=lambda point: (place[point[0]], METRICS.index(point[1]))))


def test_many_runs_take_a_request_a_metric(server, runs, monkeypatch):
    asked, ask = [], served.http_request

    def counted(*words, **options):
        asked.append(options["params"]["metric_key"])
        return ask(*words, **options)

    monkeypatch.setattr(served, "http_request", counted)
    assert TrackedRuns(server).series(runs, METRICS[:2]) and sorted(asked) == sorted(METRICS[:2])
