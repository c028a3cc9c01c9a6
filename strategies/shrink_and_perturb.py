"""Shrink and perturb: a warm start between fine-tuning and training from scratch (Ash and Adams 2020)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Annotated

import torch
from annotated_types import Ge
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.registry import STRATEGIES


@torch.no_grad()
def shrink_and_perturb_(model: nn.Module, fresh: nn.Module, shrink: float, perturb: float) -> None:
    """Parameters and batch-norm statistics become, in place, shrink * theta + perturb * theta_fresh.

    The two are networks of the same shape. Counters, which are integers, stay.
    """
    values = zip(chain(model.parameters(), model.buffers()), chain(fresh.parameters(), fresh.buffers()), strict=True)
    for value, noise in values:
        if value.is_floating_point():
            value.mul_(shrink).add_(noise.to(value.device), alpha=perturb)


class ShrinkAndPerturb(SupervisedPlugin):
    """Shrinks and perturbs the weights at the start of each megabatch but the first."""

    def __init__(self, make_model: Callable[[int], nn.Module], shrink: float, perturb: float):
        super().__init__()
        self.make_model = make_model
        self.shrink = shrink
        self.perturb = perturb

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """The noise of megabatch t is the t-th initialisation, the one that from-scratch would start from."""
        t = strategy.clock.train_exp_counter
        if t > 0:
            shrink_and_perturb_(strategy.model, self.make_model(t), self.shrink, self.perturb)


@STRATEGIES.register(
    "shrink-and-perturb",
    options=(),
    reference="Ash and Adams 2020, arXiv 1910.08475, section 4",
)
def shrink_and_perturb(
    learner: Learner,
    pruning: Pruning,
    *,
    shrink: Annotated[float, Ge(0)] = 0.4,
    perturb: Annotated[float, Ge(0)] = 0.1,
) -> AnytimeStrategy:
    """The weights are shrunk and perturbed before each megabatch: a warm start that can still learn.

    At the start of megabatch t, from the second on:

    1. take the best-validation weights of t - 1;
    2. theta <- shrink * theta + p;
    3. train on the replayed data.

    The paper writes p ~ N(0, sigma ** 2). Its authors' code takes ``perturb`` times a fresh initialisation instead,
    with these defaults, and so does this: the noise then fits each layer's width and kind, as one sigma cannot. All
    parameters take part, biases and batch norm too. The batch-norm statistics are mixed in the same way (the authors'
    code starts them anew; they are estimated again within a few batches either way), so that both ends are exact:
    shrink 1 and perturb 0 is ``dense``, shrink 0 and perturb 1 is ``from-scratch`` (unless momentum is carried over,
    which from-scratch forgets).
    """
    return AnytimeStrategy(learner=learner, plugins=[ShrinkAndPerturb(learner.make_model, shrink, perturb)])
