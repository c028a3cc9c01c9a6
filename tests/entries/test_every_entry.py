"""Every registered strategy and part of one runs over a real stream and over stand-in images, as its entry says."""

from __future__ import annotations

import math

import pytest

from benchmark.config.profiles import resolve
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from strategies.registry import DISTRIBUTIONS, PRUNING, REPLAYS, SCHEDULES, SCORES, STRATEGIES, STRUCTURES

SMALL = {
    "digits": {"stream": "digits", "shots": 24},
    "synthetic": {"stream": "synthetic", "shots": 12, "test_shots": 4, "resolution": 16},
}
TINY = {"megabatches": 3, "epochs": 1, "batch_size": 16}

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


def entries():
    for name in STRATEGIES.names():
        yield pytest.param({"strategy": name, **STRATEGIES.load(name).test_config}, id=name)
    for option, registry in PARTS.items():
        for name in registry.names():
            yield pytest.param(
                {"strategy": "APP", option: name, **registry.load(name).test_config}, id=f"{option}-{name}"
            )


@pytest.mark.parametrize("options", entries())
@pytest.mark.parametrize("stream", SMALL)
def test_every_entry_runs(result_of, stream, options):
    result = result_of(**{**SMALL[stream], **TINY, **options})
    steps, accuracy = result.series["test/accuracy"]
    assert steps == [1, 2, 3]
    assert all(0 <= value <= 1 for value in accuracy)
    assert all(math.isfinite(value) for _, values in result.series.values() for value in values)
    prunes = set(result.config.options()) & {"density", "structure"}
    if not prunes:
        assert result.final("size/density") > 0.98
    elif result.config.strategy == "APP-reference":
        assert result.final("size/density") < 0.9 * result.config.density, "its masks intersect"
    elif result.config.structure == "2:4":
        assert result.config.density <= result.final("size/density") < 0.6, "input channels that are no four keep more"
    elif result.config.structure == "filters":
        assert 0.5 * result.config.density < result.final("size/density") <= result.config.density
    elif result.config.schedule != "none":
        assert result.final("size/density") == pytest.approx(result.config.density, abs=2e-3)


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_strategy_learns_the_digits(result_of, name):
    """Chance is 0.1; a fifth of the demo's steps are enough to be far from it."""
    result = result_of(stream="digits", strategy=name, megabatches=3, epochs=6, lr=0.1, batch_size=32)
    assert result.final("test/accuracy") > 0.5


@pytest.mark.parametrize("registry", [STRATEGIES, SCORES], ids=["strategies", "scores"])
def test_methods_name_their_source(registry):
    for name in registry.names():
        assert registry.load(name).reference or name in ("random",), f"{name} has no reference"


def test_options_of_strategies_are_fields():
    for name in STRATEGIES.names():
        assert set(STRATEGIES.load(name).traits.options) <= {*PRUNING, "buffer_size"}
