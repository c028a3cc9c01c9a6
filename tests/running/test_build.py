"""A strategy gets the options that it declares, and defaults for all others: so the rest cannot change its result."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from benchmark.config.profiles import resolve
from benchmark.running.build import make_learner, make_pruning
from benchmark.running.prepare import prepare
from benchmark.streams.build import build_stream
from strategies.anytime import Learner, Pruning
from strategies.registry import STRATEGIES

OTHER = {
    "score": "taylor",
    "schedule": "linear",
    "density": 0.8**3,
    "scope": "local",
    "structure": "filters",
    "nested": False,
    "score_fraction": 0.6,
    "control": "invert",
}
"""For each option of pruning another value than anybody's default."""


def config(name, **options):
    """On digits, by a protocol that has what the strategy needs."""
    traits = STRATEGIES.load(name).traits
    needed = "task-incremental" if traits.task_labels == "needed" else "class-incremental"
    protocol = needed if traits.needs_new_classes or traits.task_labels == "needed" else "alma"
    return resolve({"stream": "digits", "strategy": name, "scenario": protocol, **options}, profile="demo")


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("none")
    prepared = prepare(config("dense"), data_root=folder, cache=folder)
    return build_stream(prepared.config, prepared.data, "cpu")


def defaults(name):
    """What the strategy gets if nothing is asked for."""
    own = {n: v for n, v in STRATEGIES.load(name).traits.defaults.items() if n in asdict(Pruning())}
    return replace(Pruning(), **own)


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_only_declared_options_of_pruning_arrive(name):
    declared = set(STRATEGIES.load(name).traits.options)
    arrived = asdict(make_pruning(config(name, **OTHER)))
    expected = {n: OTHER[n] if n in declared and n in OTHER else v for n, v in asdict(defaults(name)).items()}
    assert arrived == expected


@pytest.mark.parametrize(
    "name", [name for name in STRATEGIES.names() if "schedule" in STRATEGIES.load(name).traits.options]
)
def test_nothing_about_pruning_arrives_where_nothing_is_pruned(name):
    arrived = make_pruning(config(name, **{**OTHER, "schedule": "none"}))
    assert arrived == replace(defaults(name), schedule="none")


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_the_length_and_the_buffer_arrive_where_they_are_declared(name, stream):
    declared = STRATEGIES.load(name).traits.options
    pruned = {"schedule": "exponent"} if "schedule" in declared else {}
    learner = make_learner(config(name, buffer_size=7, **pruned), stream, "cpu")
    assert learner.megabatches == (10 if "known_length" in declared else None)
    assert learner.buffer_size == (7 if "buffer_size" in declared else Learner.buffer_size)
    unknown = make_learner(config(name, known_length=False, **pruned), stream, "cpu")
    assert unknown.megabatches is None


def test_a_replay_buffer_has_the_size_that_was_asked_for(stream):
    assert make_learner(config("APP", replay="buffer", buffer_size=7), stream, "cpu").buffer_size == 7
    assert make_learner(config("APP", buffer_size=7), stream, "cpu").buffer_size == Learner.buffer_size


RECIPE = {
    "optimizer": "adamw",
    "lr_schedule": "cosine",
    "ties": "loss",
    "lr": 0.7,
    "milestones": (0.5,),
    "carry_momentum": True,
}


@pytest.mark.parametrize(("field", "value"), RECIPE.items())
def test_the_recipe_arrives(field, value, stream):
    learner = make_learner(config("dense", **{field: value}), stream, "cpu")
    assert getattr(learner, {"optimizer": "algorithm"}.get(field, field)) == value
