"""Series of megabatches from the store."""

from __future__ import annotations

import pytest
from mlflow.entities import Metric

from leaderboards.errors import BoardError
from leaderboards.sources.trajectories import trajectories


def test_series_come_in_order_and_of_repeated_points_the_last_counts(store):
    first, second = store.add("a"), store.add("b")
    points = [(0.5, 10, 2), (0.25, 11, 1), (0.75, 12, 3), (0.6, 13, 2)]
    store.client.log_batch(first, [Metric("test/accuracy", value, when, step) for value, when, step in points])
    store.client.log_batch(second, [Metric("size/density", 0.8, 5, 1)])
    found = trajectories(store.uri, [second, first], ["test/accuracy", "size/density"])
    assert found.to_dict("split")["data"] == [
        [second, "size/density", 1, 0.8],
        [first, "test/accuracy", 1, 0.25],
        [first, "test/accuracy", 2, 0.6],
        [first, "test/accuracy", 3, 0.75],
    ]


def test_nothing_asked_is_an_empty_table(store):
    assert list(trajectories(store.uri, [], ["test/accuracy"]).columns) == ["run_id", "metric", "step", "value"]


def test_what_is_not_there_has_no_rows_and_no_store_is_one_line(store):
    assert trajectories(store.uri, ["0" * 32, store.add("a")], ["test/accuracy"]).empty
    with pytest.raises(BoardError, match="no tracking server"):
        trajectories("http://127.0.0.1:9", ["0"], ["test/accuracy"])
