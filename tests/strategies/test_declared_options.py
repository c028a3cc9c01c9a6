"""What a strategy declares changes its result; what it does not declare it never gets (tests/running/test_build.py)."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from states import same

from strategies.anytime import Pruning
from strategies.registry import STRATEGIES

OTHER = {
    "score": "random",
    "schedule": "linear",
    "density": 0.8**3,
    "scope": "local",
    "structure": "filters",
    "nested": False,
    "score_fraction": 0.6,
}
"""For each field of Pruning another value than the default."""


@pytest.fixture
def weights(make_learner, make_stream):
    """Function: strategy, pruning, recipe -> the final state of the model."""

    def of(name, pruning, **recipe):
        options = {"megabatches": 5, "epochs": 4, "weight_decay": 0.1, "batch_size": 8, **recipe}
        strategy = STRATEGIES.load(name).target(make_learner(**options), pruning)
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for experience in make_stream(samples=100, megabatches=5).train_stream:
                strategy.train(experience, eval_streams=[])
        return strategy.model.state_dict()

    return of


@pytest.fixture(scope="module")
def trained():
    """Name of a strategy -> the final state with its usual options, trained once."""
    return {}


def usual(name):
    """The pruning options that the command gives the strategy by default."""
    return replace(Pruning(), **STRATEGIES.load(name).traits.defaults)


NO_EFFECT = {
    ("RigL", "score_fraction"): "is read with every=0 alone",
    ("SparCL", "score_fraction"): "gradients hardly count beside abs(w) on this network",
}
"""Declared and read, but without effect here."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "field"),
    [
        pytest.param(name, field, id=f"{name}-{field}")
        for name in STRATEGIES.names()
        for field in STRATEGIES.load(name).traits.options
        if field in OTHER and usual(name).schedule != "none" and (name, field) not in NO_EFFECT
    ],
)
def test_fields_that_are_declared_change_something(weights, trained, name, field):
    """Learning fast enough that what is not nested comes back."""
    value = {"scope": "erk" if usual(name).scope == "local" else "local"}.get(field, OTHER[field])
    if name not in trained:
        trained[name] = weights(name, usual(name), lr=0.3)
    assert not same(trained[name], weights(name, replace(usual(name), **{field: value}), lr=0.3))
