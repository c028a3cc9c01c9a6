"""Small things to learn with: a stream of six features, a convolutional network for it, and a learner."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

from benchmark.streams.protocols.alma import alma_scenario
from strategies.anytime import Learner, Pruning
from strategies.pruning.masks import prunable_weights

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

CLASSES = 3


class NumberedSamples:
    """Samples of six features, the first of which tells the sample's number: see the fixture ``numbers``."""

    def __init__(self, size, dtype=torch.float32, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(size, 6, generator=generator, dtype=dtype)
        self.x[:, 0] = torch.arange(size) / 1024
        self.y = (self.x[:, 1] > 0).long() + (self.x[:, 2] > 0).long()

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


@pytest.fixture(scope="session")
def numbers():
    """Function: a batch -> the numbers of its samples."""
    return lambda x: (x.reshape(-1, 6)[:, 0] * 1024).round().int().tolist()


@pytest.fixture(scope="session")
def make_stream():
    """Function: options of the protocol -> an ALMA scenario of numbered samples in three classes."""

    def make(*, samples=60, dtype=torch.float32, **options):
        train, test = NumberedSamples(samples, dtype), NumberedSamples(30, dtype, seed=1)
        options = {"megabatches": 3, "val_fraction": 0.2, **options}
        return alma_scenario(train, test, train.y.numpy(), test.y.numpy(), **options)

    return make


@pytest.fixture(scope="session")
def make_net():
    """Function: seed -> a network for six features: two convolutions, a hidden layer and a classifier."""

    def make(seed=0, norm=True, dropout=False):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Unflatten(1, (1, 2, 3)),
                nn.Conv2d(1, 6, 3, padding=1, bias=False),
                nn.BatchNorm2d(6) if norm else nn.Identity(),
                nn.ReLU(),
                nn.Conv2d(6, 6, 3, padding=1),
                nn.ReLU(),
                nn.Dropout(0.3) if dropout else nn.Identity(),
                nn.Flatten(),
                nn.Linear(36, 8),
                nn.ReLU(),
                nn.Linear(8, CLASSES),
            )

    return make


@pytest.fixture(scope="session")
def make_learner(make_net):
    """Function: options of the recipe -> a learner for three megabatches of that stream."""

    def make(**options):
        recipe = {"make_model": make_net, "megabatches": 3, "epochs": 2, "batch_size": 16, "lr": 0.05}
        return Learner(**{**recipe, "weight_decay": 1e-2, "val_fraction": 0.2, **options})

    return make


@pytest.fixture(scope="session")
def distribution():
    """Function: name of a scope -> the distribution; relative densities for the one that takes them."""
    return lambda name: Pruning(scope=name, layer_density={"0": 0.3, "[1-9]*": 2.0}).distribution()


@pytest.fixture(scope="session")
def train():
    """Function: strategy, scenario -> the strategy, trained on the whole stream from one random state."""

    def run(strategy, scenario):
        torch.manual_seed(0)
        for experience in scenario.train_stream:
            strategy.train(experience, eval_streams=[])
        return strategy

    return run


@pytest.fixture(scope="session")
def weights_of():
    """Function: model -> a copy of all its prunable weights as one vector."""
    return lambda model: np.concatenate([w.detach().numpy().ravel().copy() for w in prunable_weights(model).values()])
