"""Every registered strategy learns from a real stream, and every part of one runs under APP, as its entry says."""

from __future__ import annotations

import math

import pytest

from benchmark.config.profiles import resolve
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from strategies.registry import DISTRIBUTIONS, PRUNING, REPLAYS, SCHEDULES, SCORES, STRATEGIES, STRUCTURES

LEARNING = {"stream": "digits", "megabatches": 3, "epochs": 2, "lr": 0.1, "batch_size": 32}
"""Some steps of the demo on real images of one channel: enough to be far from chance."""

TINY = {
    "stream": "synthetic",
    "strategy": "APP",
    "shots": 12,
    "test_shots": 4,
    "resolution": 16,
    "model": "cnn",
    "megabatches": 3,
    "epochs": 1,
    "batch_size": 16,
}
"""A short run on images of three channels."""

PARTS = {
    "score": SCORES,
    "schedule": SCHEDULES,
    "scope": DISTRIBUTIONS,
    "structure": STRUCTURES,
    "replay": REPLAYS,
}
"""Registries whose entries are tried under APP."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def result_of(tmp_path_factory):
    """Function: options -> the result of one run of the demo profile."""
    cache, loaded = tmp_path_factory.mktemp("cache"), {}

    def of(**options):
        config = resolve(options, profile="demo")
        return run(prepare(config, data_root=cache / "none", cache=cache, loaded=loaded))

    return of


def parts():
    for option, registry in PARTS.items():
        for name in registry.names():
            yield pytest.param({option: name, **registry.load(name).test_config}, id=f"{option}-{name}")


def check(result):
    """What holds for every run: a test after each megabatch, finite values, and the density that was asked for."""
    steps, accuracy = result.series["test/accuracy"]
    assert steps == [1, 2, 3]
    assert all(0 <= value <= 1 for value in accuracy)
    assert all(math.isfinite(value) for _, values in result.series.values() for value in values)
    config, density = result.config, result.final("size/density")
    if not set(config.options()) & {"density", "structure"}:
        assert density > 0.98
    elif config.strategy == "WSN":
        assert result.final("size/task_density") == pytest.approx(config.density, abs=2e-3)
        assert config.density < density < 3 * config.density, "tasks share some weights"
    elif config.strategy == "APP-reference":
        assert density < 0.9 * config.density, "its masks intersect"
    elif config.structure == "2:4":
        assert config.density <= density < 0.6, "input channels that are no four keep more"
    elif config.structure == "filters":
        assert 0.5 * config.density < density <= config.density
    elif config.schedule != "none":
        assert density == pytest.approx(config.density, abs=2e-3)


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_strategy_runs_and_learns_the_digits(result_of, name):
    """Chance is 0.1."""
    result = result_of(**{**LEARNING, "strategy": name, **STRATEGIES.load(name).test_config})
    check(result)
    assert result.final("test/accuracy") > 0.5


@pytest.mark.parametrize("options", parts())
def test_every_part_runs_under_app(result_of, options):
    check(result_of(**{**TINY, **options}))


@pytest.mark.parametrize("registry", [STRATEGIES, SCORES], ids=["strategies", "scores"])
def test_methods_name_their_source(registry):
    for name in registry.names():
        assert registry.load(name).reference or name in ("random",), f"{name} has no reference"


def test_options_of_strategies_are_fields():
    for name in STRATEGIES.names():
        assert set(STRATEGIES.load(name).traits.options) <= {*PRUNING, "buffer_size"}
