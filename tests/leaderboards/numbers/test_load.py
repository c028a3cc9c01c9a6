"""Runs and series as flat tables, from stores and from records alike."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
from mlflow.entities import Metric

import leaderboards
from leaderboards.export import export


def test_runs_and_series_are_flat_and_the_same_from_records(store, tmp_path):
    store.add(anytime__cer_rate=0.9)
    for seed in (0, 1):
        variant = {"strategy": "APP", "strategy_version": 1, "score": "snip"}
        run = store.add(variant, seed, anytime__cer_rate=0.1 * seed)
        store.client.log_batch(run, [Metric("test/accuracy", 0.5 + seed / 10, 1, step) for step in (1, 2)])
    newest = store.add(anytime__cer_rate=0.2)
    export(store.uri, tmp_path / "records")
    loaded = leaderboards.load(store.uri)
    runs, series = loaded.runs, loaded.series
    assert runs.name.tolist() == ["APP (snip)", "APP (snip)", "dense"] and runs.index[-1] == newest
    assert runs["metrics.anytime/cer_rate"].tolist() == [0.0, 0.1, 0.2]
    assert runs["protocol.epochs"].tolist() == [2, 2, 2] and runs["variant.score"].tolist()[:2] == ["snip", "snip"]
    assert not [column for column in runs if runs[column].map(lambda value: isinstance(value, dict)).any()]
    assert series[series.metric == "test/accuracy"][["step", "value"]].values.tolist()[:2] == [[1, 0.5], [2, 0.5]]
    again = leaderboards.load(f"records:{tmp_path / 'records'}")
    pd.testing.assert_frame_equal(again.runs[sorted(again.runs)], runs[sorted(runs)])
    pd.testing.assert_frame_equal(again.series, series)


def test_a_store_without_runs_is_two_empty_tables(store):
    loaded = leaderboards.load(store.uri)
    assert loaded.runs.empty and loaded.series.empty and list(loaded.series) == ["run_id", "metric", "step", "value"]


@pytest.mark.parametrize("arguments", [["--help"], ["export", "--help"]])
def test_help_waits_for_no_library(arguments):
    program = f"""
import sys
from leaderboards.__main__ import main
main({arguments!r}, standalone_mode=False)
assert not {{"mlflow", "pandas", "numpy", "sqlalchemy", "torch"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "--tracking-uri" in done.stdout, done.stderr
