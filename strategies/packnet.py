"""PackNet: tasks are packed into one network by pruning (Mallya and Lazebnik 2018, arXiv 1711.05769)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Interval
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.masks import keep_largest, kept_count, prunable_weights
from strategies.pruning.regrow import steps_of
from strategies.pruning.schedules import progress
from strategies.pruning.task_masks import TaskMasks
from strategies.pruning.upkeep import HeldAtZero
from strategies.registry import STRATEGIES


@dataclass(frozen=True)
class Packed:
    """Share of the weights that tasks 0 to t use: 1 - (1 - d) ** ((t + 1) / T), d after the last of T tasks.

    Each task then keeps the same fraction of what is free, 1 - (1 - d) ** (1 / T). Where T is not known, the exponent
    is that of schedules that are not told the length: a third at the first task, approaching 1.
    """

    density: float
    tasks: int | None

    def __call__(self, t: int, /) -> float:
        """The share after task ``t``, from 0."""
        reached = progress(t + 1, None if self.tasks is None else self.tasks + 1)
        # Written out at the end, where the power would be off by a rounding.
        return self.density if reached == 1 else 1 - (1 - self.density) ** reached


class Packing(TaskMasks):
    """Prunes the weights that a task has trained, late in its training, and leaves the rest to later tasks.

    Attributes:
        share: of the weights that tasks up to t use.
        retrain: the last part of the optimiser steps of a task, in which what it keeps is trained further.
        ready: whether the task is down to what it keeps; epochs before are handed over only if there are no others.
    """

    def __init__(self, share: Packed, retrain: float):
        super().__init__()
        self.share = share
        self.retrain = retrain
        self.ready = False
        self._prunes_at = 0
        self._held_at_zero: HeldAtZero | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made anew at the next step."""
        return {**super().__getstate__(), "_held_at_zero": None}

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """All free weights are trained at first; those that an earlier task gave up start at zero."""
        super().before_training_exp(strategy)
        self.ready = False
        self._held_at_zero = None
        steps = steps_of(strategy)
        # At least one step before and, above all, one after.
        self._prunes_at = min(max(1, round((1 - self.retrain) * steps)), steps - 1)

    def before_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """When it is time to, keep the largest of the weights that no earlier task uses, in each layer."""
        if strategy.clock.train_exp_iterations != self._prunes_at:
            return
        assert self.used is not None
        density = self.share(strategy.clock.train_exp_counter)
        weights = prunable_weights(strategy.model)
        # What is used already comes first, so that a count is that of the union.
        sizes = {name: w.detach().abs().masked_fill(self.used[name], torch.inf) for name, w in weights.items()}
        masks = keep_largest(sizes, {name: kept_count(density, w.numel()) for name, w in weights.items()})
        masks.apply_(strategy.model)
        self.masks[self.task] = masks
        self.ready = True

    def after_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Frozen weights go back to their values, those that were given up to zero, with their momentum."""
        super().after_update(strategy)
        if not self.ready:
            return
        if self._held_at_zero is None:
            self._held_at_zero = HeldAtZero(self._given_up(strategy))
        self._held_at_zero()

    def _given_up(self, strategy: SupervisedTemplate) -> list[tuple[Tensor, Tensor]]:
        weights, held = prunable_weights(strategy.model), []
        for name, mask in self.masks[self.task].items():
            free, weight = ~mask, weights[name]
            state = strategy.optimizer.state.get(weight, {}).values()
            own = [t for t in (weight, *state) if torch.is_tensor(t) and t.shape == weight.shape]
            held += [(tensor, free) for tensor in own]
        return held


@STRATEGIES.register(
    "PackNet-masks",
    options=("density", "known_length"),
    memory="own",
    replays="none",
    task_labels="needed",
    test_config={"stream": "split_digits", "scenario": "task-incremental"},
    reference="Mallya and Lazebnik 2018, arXiv 1711.05769",
)
def packnet(
    learner: Learner, pruning: Pruning, *, retrain: Annotated[float, Interval(gt=0, lt=1)] = 0.3
) -> AnytimeStrategy:
    """PackNet on our masks: each task keeps a part of the weights that are free, and nothing ever changes them again.

    For task t of T:

    1. train the weights that no earlier task keeps; those that one keeps take part as they are;
    2. of the trained ones keep the largest of each layer, the same fraction of them at each task, and set the rest to
       zero: they are free for later tasks;
    3. train what is kept for the last ``retrain`` of the steps, and hand over the best epoch of these.

    An image is answered with the weights that its task and earlier ones keep, and the head of its task. Biases and
    batch norm, statistics included, are the first task's. No image is replayed, and nothing is forgotten.

    The paper's fraction is .5 or .25 whatever T; here it is 1 - (1 - d) ** (1 / T), so that all tasks together keep
    the density d, to be compared with others at that size. Over five tasks the paper's .25 is d = .763, and with d = 1
    the first task takes all. Round(d_t n) of the n weights of a layer are in use after task t. The paper retrains for
    10 epochs after 20, at a tenth of the rate; here the rate goes on as the recipe has it.

    ``PackNet`` is Avalanche's. This one takes networks with batch norm, can be left and gone on with between two steps,
    prunes to a density, has zeros in place of weights that no task uses, and weighs its masks.
    """
    plugin = Packing(Packed(pruning.density, learner.megabatches), retrain)
    return AnytimeStrategy(learner=replace(learner, replay="none"), plugins=[plugin])
