"""Curves of rows over the megabatches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mlflow.entities import Metric

from leaderboards.export import export
from leaderboards.numbers.boards import boards
from leaderboards.numbers.curves import read_series
from leaderboards.numbers.report import report
from leaderboards.numbers.statistics import bands, estimate
from leaderboards.sources.collect import collect

NAME = "test/accuracy"


def grown(store, strategy, seed, values, first=1, metric=NAME):
    """A run with a series that begins at megabatch ``first``."""
    run_id = store.add(strategy, seed)
    points = [Metric(metric, value, 100 + step, step) for step, value in enumerate(values, start=first)]
    store.client.log_batch(run_id, points)


def reported(*uris):
    records = collect(*uris)
    found = boards(records)
    series = read_series(records, found)
    return [report(board, series=series) for board in found]


def rows(store):
    [one] = reported(store.uri)
    return {row.row.name: row for row in one.rows}


def test_bands_are_the_estimates_of_each_column():
    values = np.random.default_rng(0).normal(size=(5, 4))
    values[2:, 1] = np.nan
    values[1:, 3] = np.nan
    means, margins, counts = bands(values)
    for column in range(4):
        one = estimate(values[~np.isnan(values[:, column]), column])
        assert means[column] == pytest.approx(one.mean, abs=1e-12) and counts[column] == one.n
        assert math.isnan(margins[column]) if one.margin is None else margins[column] == pytest.approx(one.margin)


def test_a_curve_is_mean_and_interval_of_each_megabatch(store):
    grown(store, "a", 0, [0.1, 0.3, 0.5, 0.7])
    grown(store, "a", 1, [0.3, 0.5, math.nan, 0.7])
    curve = rows(store)["a"].curves[NAME]
    assert curve.steps == [1, 2, 3, 4] and curve.seeds == [2, 2, 1, 2]
    assert curve.means == pytest.approx([0.2, 0.4, 0.5, 0.7])
    # t(0.975, 1) = 12.7062; the standard error of 0.1 and 0.3 is 0.1.
    assert curve.margins[0] == pytest.approx(1.27062, rel=1e-5)
    assert curve.margins[2:] == [None, 0.0] and curve.last == 0.7


def test_differences_are_paired_by_seed_and_megabatch(store):
    for seed, shift in enumerate((0.0, 0.2, 0.4)):
        grown(store, "dense", seed, [0.1 + shift, 0.3 + shift])
        grown(store, "a", seed, [0.2 + shift, 0.25 + shift])
    grown(store, "a", 7, [1.0, 1.0])
    found = rows(store)
    assert found["dense"].curves_against == {}
    curve = found["a"].curves_against[NAME]
    assert curve.steps == [1, 2] and curve.seeds == [3, 3] and curve.margins == pytest.approx([0, 0], abs=1e-12)
    assert curve.means == pytest.approx([0.1, -0.05])


def test_what_lies_outside_of_the_stream_is_no_part_of_a_curve(store):
    grown(store, "a", 0, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], first=-1)
    assert rows(store)["a"].curves[NAME].steps == [1, 2, 3, 4]


def test_rows_without_series_have_no_curves(store):
    store.add("a", 0)
    grown(store, "b", 0, [math.nan, math.nan])
    found = rows(store)
    assert NAME not in found["a"].curves and NAME not in found["b"].curves


def test_records_have_the_curves_of_their_store_and_are_read_once(store, tmp_path, monkeypatch):
    for seed in (0, 1):
        grown(store, "a", seed, [0.1 * seed, 0.3, 0.5])
        grown(store, "dense", seed, [0.2, 0.3, 0.5])
    export(store.uri, tmp_path / "records", say=list)
    read = []
    monkeypatch.setattr("leaderboards.sources.recorded._content", lambda path: read.append(path) or path.read_bytes())
    recorded = reported(f"records:{tmp_path / 'records'}")
    for ours, theirs in zip(recorded[0].rows, reported(store.uri)[0].rows, strict=True):
        assert ours.curves == theirs.curves and ours.curves_against == theirs.curves_against
    assert len([path for path in read if path.name != "glossary.json"]) == 4
