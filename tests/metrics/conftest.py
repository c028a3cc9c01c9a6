"""A small stream and learner on which metrics can be checked by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from benchmark.streams.protocols.alma import alma_scenario
from strategies.anytime import AnytimeStrategy, Learner
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.pruning.scores.snip import snip

FEATURES, CLASSES, MEGABATCHES = 6, 3, 4


def _points(n: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(CLASSES, size=n)
    x = rng.normal(size=(n, FEATURES)) + y[:, None]
    return torch.tensor(x, dtype=torch.float32), y


@pytest.fixture
def scenario():
    (x, y), (test_x, test_y) = _points(200, 0), _points(70, 1)
    train = list(zip(x, y.tolist(), strict=True))
    test = list(zip(test_x, test_y.tolist(), strict=True))
    return alma_scenario(train, test, y, test_y, megabatches=MEGABATCHES, seed=3)


def make_model(draw: int) -> nn.Module:
    torch.manual_seed(draw)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, CLASSES))


@pytest.fixture
def trained(scenario):
    """Function: train APP-like over the scenario with the given metrics and extra plugins; returns the strategy."""

    def train(*metrics, plugins=(), epochs=3, density=0.8**4.5):
        torch.manual_seed(0)
        learner = Learner(
            make_model=make_model,
            megabatches=MEGABATCHES,
            epochs=epochs,
            batch_size=16,
            lr=0.05,
            evaluator=EvaluationPlugin(*metrics),
            plugins=plugins,
        )
        pruner = PruningPlugin(PruningParts(score=snip, schedule=Progressive(density, MEGABATCHES)))
        strategy = AnytimeStrategy(learner=learner, plugins=[pruner])
        for experience in scenario.train_stream:
            strategy.train(experience, eval_streams=[])
            strategy.eval(scenario.test_stream)
        return strategy

    return train
