"""Metrics are registered entries: each series that a run emits is explained, and what is shown is emitted."""

from __future__ import annotations

from pathlib import Path

import pytest

import benchmark.metrics
from benchmark.command.summary import summarise, summarise_briefly
from benchmark.config.profiles import resolve
from benchmark.metrics.glossary import glossary, make_metrics
from benchmark.registry import METRICS
from benchmark.running.prepare import prepare
from benchmark.running.run import run

SHIFTING = ("continual/", "size/memory_")
"""What names of series begin with that only streams that shift have."""

PER_TASK = {"size/task_density"}
"""Series of strategies with masks for each task alone, see tests/strategies/test_task_masks.py."""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """One short run of APP."""
    folder = tmp_path_factory.mktemp("none")
    options = {"stream": "digits", "strategy": "APP", "megabatches": 2, "epochs": 1, "shots": 20}
    return run(prepare(resolve(options, profile="demo"), data_root=folder, cache=folder))


def explained_by(result):
    """Names of the measures that explain a run's series; each of them is explained."""
    known = glossary()
    return {known[name].name for name in result.series}


def test_every_series_is_explained_and_everything_explained_is_emitted(result):
    assert explained_by(result) == {n for n in glossary() if not n.startswith(SHIFTING)} - PER_TASK


def test_where_the_stream_shifts_what_is_said_of_that_is_emitted_too(tmp_path):
    options = {"stream": "split_digits", "strategy": "APP", "megabatches": 2, "epochs": 1, "shots": 20}
    shifting = run(prepare(resolve(options, profile="demo"), data_root=tmp_path, cache=tmp_path))
    assert explained_by(shifting) == glossary().keys() - PER_TASK
    assert "ACC" in summarise(shifting) and summarise_briefly(shifting).startswith("ACC ")


def test_what_is_shown_after_each_megabatch_has_a_value_after_each(result):
    for one in glossary().in_place("megabatches"):
        if one.name.startswith(SHIFTING):
            continue
        steps = result.series[one.name][0]
        assert steps == ([2] if one.name == "anytime/are" else [1, 2]), one.name


def test_metrics_measure_in_the_order_of_their_registration():
    orders = [METRICS.load(name).traits.order for name in METRICS.names()]
    assert len(set(orders)) == len(orders), "no two at the same place"
    kinds = [type(metric).__name__ for metric in make_metrics()]
    assert kinds.index("ModelSize") < kinds.index("Resources") < kinds.index("CleanGap")


def test_keys_and_positions_of_columns_are_their_own():
    columns = glossary().in_place("board")
    for values in ([one.key for one in columns], [one.position for one in columns]):
        assert len(set(values)) == len(values)


def test_summaries_show_what_the_run_measured(result):
    long, short = summarise(result), summarise_briefly(result)
    assert f"{result.final('size/mean_density'):.4f}" in long
    assert f"Final accuracy {result.final('test/accuracy'):.4f}" in short and "\n" not in short


def test_no_test_is_written_by_hand_in_a_metric():
    """What waits for the test stream stands in one place."""
    sources = {path.name: path.read_text() for path in Path(benchmark.metrics.__file__).parent.glob("*.py")}
    assert [name for name, text in sources.items() if "on_test_stream(" in text] == ["series.py"]
