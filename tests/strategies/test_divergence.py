"""A run whose loss or weights stop being finite ends at that epoch, and says where."""

from __future__ import annotations

import pytest
import torch
from avalanche.core import SupervisedPlugin

from strategies.anytime import AnytimeStrategy, Pruning
from strategies.learning.divergence import Diverged, DivergenceGuard
from strategies.registry import STRATEGIES


class Poison(SupervisedPlugin, supports_distributed=False):
    """Puts a value into a weight, or into the loss, at one epoch of one megabatch."""

    def __init__(self, value, into, megabatch, epoch):
        super().__init__()
        self.value, self.into, self.when = value, into, (megabatch, epoch)

    def before_backward(self, strategy, *args, **kwargs):
        if self.into == "loss" and self.is_time(strategy):
            strategy.loss = strategy.loss * self.value

    def after_training_iteration(self, strategy, *args, **kwargs):
        # After the last step, so that no loss has seen it.
        last = strategy.clock.train_epoch_iterations == len(strategy.dataloader) - 1
        if self.into == "weights" and last and self.is_time(strategy):
            with torch.no_grad():
                next(strategy.model.parameters()).view(-1)[0] = self.value

    def is_time(self, strategy):
        return (strategy.clock.train_exp_counter + 1, strategy.clock.train_exp_epochs + 1) == self.when


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("into", ["loss", "weights"])
@pytest.mark.parametrize("name", ["dense", "Naive", "ensemble"])
def test_it_ends_where_it_diverged(name, into, value, make_learner, make_stream, train):
    poison = Poison(value, into, megabatch=2, epoch=3)
    learner = make_learner(epochs=4, plugins=[poison, DivergenceGuard()])
    with pytest.raises(Diverged, match=f"diverged at megabatch 2, epoch 3: the {into} (is|are) not finite"):
        train(STRATEGIES.load(name).target(learner, Pruning()), make_stream())


def test_finite_runs_are_left_alone(make_learner, make_stream, train, weights_of):
    runs = [train(AnytimeStrategy(learner=make_learner(plugins=p)), make_stream()) for p in ([], [DivergenceGuard()])]
    first, second = (weights_of(run.model) for run in runs)
    assert (first == second).all()
