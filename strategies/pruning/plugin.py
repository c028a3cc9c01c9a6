"""The pruning plugin: scores, prunes and keeps pruned weights at zero, under any Avalanche strategy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from avalanche.benchmarks import DatasetExperience
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import SupervisedPlugin
from avalanche.models import MultiTaskModule
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from strategies.evaluation import eval_batches
from strategies.pruning.distributions import Distribution
from strategies.pruning.masks import Masks, keep_largest, prunable_weights
from strategies.pruning.schedules import Schedule
from strategies.pruning.scores import Batch, Score
from strategies.seeds import numpy_generator

SCORING_BATCH = 128
"""Samples a scoring pass takes at once; a scoring set is cut into near-equal parts of at most this size."""


class PruningPlugin(SupervisedPlugin):
    """Prunes at the start of a megabatch and keeps the pruned weights at zero through every optimiser step.

    The plugin reads the density from ``schedule``, draws samples from the data that the strategy is about
    to train on (after replay), as many as ``sample_fraction`` of one megabatch, scores the weights on them and
    keeps exactly round(density * n). With ``nested`` a pruned weight never comes back. Without it, every pruned
    weight is first given back the value it had when it was pruned, and all weights are ranked anew.

    Attributes:
        masks: what is kept now; None before the first pruning.
        scored_samples: how many samples have been run forward and backward for scoring, over the whole run.
    """

    def __init__(
        self,
        *,
        score: Score,
        distribution: Distribution,
        schedule: Schedule,
        sample_fraction: float = 0.2,
        nested: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        self.score = score
        self.distribution = distribution
        self.schedule = schedule
        self.sample_fraction = sample_fraction
        self.nested = nested
        self.seed = seed
        self.masks: Masks | None = None
        self.scored_samples = 0
        self._values_when_pruned: dict[str, Tensor] = {}
        self._held_at_zero: list[tuple[Tensor, Tensor]] | None = None
        self._upheld = False

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Prune if the schedule asks for it; Avalanche has prepared data, model and optimiser by now."""
        if self.masks is not None:
            # Avalanche models may grow between megabatches; what is new is dense until the next pruning.
            self.use(self.masks.fitted(prunable_weights(strategy.model)), strategy.model)
        density = self.schedule(strategy.clock.train_exp_counter)
        if density is not None:
            self.prune(strategy, density)

    def after_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Momentum and weight decay have moved pruned weights: put them, and their momentum, back to zero."""
        if self.masks is None:
            return
        if self._held_at_zero is None:
            self._held_at_zero = self._tensors_to_hold(strategy)
        for tensor, pruned in self._held_at_zero:
            # Filled, not multiplied: a diverged weight times zero would stay NaN.
            tensor.masked_fill_(pruned, 0)
        self._upheld = True

    def after_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """The same for strategies that step their optimiser without saying so, as MER's inner updates do."""
        if not self._upheld:
            self.after_update(strategy)
        self._upheld = False

    def prune(self, strategy: SupervisedTemplate, density: float) -> None:
        """Bring the network to ``density``, the kept fraction of all prunable weights."""
        weights = prunable_weights(strategy.model)
        if self.masks is not None and not self.nested:
            self._give_back(weights)
        scores = self.score(strategy.model, self.scoring_batches(strategy))
        chosen = select(scores, density, self.distribution, within=self.masks if self.nested else None)
        if not self.nested:
            self._values_when_pruned = {name: w.detach().clone() for name, w in weights.items()}
        self.use(chosen, strategy.model)

    def use(self, masks: Masks, model: nn.Module) -> None:
        """Make ``masks`` the current ones and apply them to ``model``."""
        masks.apply_(model)
        self.masks = masks
        self._held_at_zero = None

    def scoring_batches(self, strategy: SupervisedTemplate) -> Iterator[Batch]:
        """A seeded sample, without augmentation, of the data that the strategy is about to train on."""
        dataset = strategy.adapted_dataset
        size = min(len(dataset), sample_size(strategy.experience, self.sample_fraction))
        rng = numpy_generator(self.seed, "scoring sample", strategy.clock.train_exp_counter)
        return self.batches_of(strategy, dataset, rng.choice(len(dataset), size, replace=False).tolist())

    def batches_of(
        self, strategy: SupervisedTemplate, dataset: AvalancheDataset, positions: Sequence[int]
    ) -> Iterator[Batch]:
        """The samples at ``positions`` of ``dataset``, without augmentation, on the strategy's device.

        The batches are made, and counted as scored, only when a score reads them: magnitude reads none.
        """
        for part in np.array_split(np.asarray(positions), -(-len(positions) // SCORING_BATCH)):
            for x, y, *task in eval_batches(strategy, dataset.subset(part.tolist()).eval(), len(part)):
                # Avalanche's multi-task models take the task labels beside the input.
                inputs = (x, task[0]) if task and isinstance(strategy.model, MultiTaskModule) else (x,)
                self.scored_samples += len(y)
                yield tuple(i.to(strategy.device) for i in inputs), y.to(strategy.device)

    @torch.no_grad()
    def _give_back(self, weights: Mapping[str, nn.Parameter]) -> None:
        assert self.masks is not None
        for name, weight in weights.items():
            value = self._values_when_pruned.get(name)
            if value is not None and value.shape == weight.shape:
                weight.copy_(torch.where(self.masks[name], weight, value))

    def _tensors_to_hold(self, strategy: SupervisedTemplate) -> list[tuple[Tensor, Tensor]]:
        """Weights, and optimiser state of a weight's shape, each with the mask of what is pruned."""
        assert self.masks is not None
        held: list[tuple[Tensor, Tensor]] = []
        for name, weight in prunable_weights(strategy.model).items():
            # Avalanche's streaming LDA has no optimiser.
            state = {} if strategy.optimizer is None else strategy.optimizer.state.get(weight, {})
            own = [t for t in (weight.data, *state.values()) if torch.is_tensor(t) and t.shape == weight.shape]
            pruned = ~self.masks[name]
            held += [(tensor, pruned) for tensor in own]
        return held


def sample_size(experience: DatasetExperience, fraction: float) -> int:
    """Samples that are ``fraction`` of one megabatch, at least 1; a learner that waits gets several at once."""
    return max(1, round(fraction * len(experience.dataset) / getattr(experience, "megabatches", 1)))


def select(
    scores: Mapping[str, Tensor], density: float, distribution: Distribution, within: Masks | None = None
) -> Masks:
    """Masks that keep exactly round(density * n) of the n scored weights, chosen by ``distribution``.

    With ``within``, only weights kept there are candidates (nested masks); where fewer are left than asked for,
    all of them stay.
    """
    capacity = {name: score.numel() for name, score in scores.items()}
    if within is not None:
        # No candidate may score as low as those that are excluded.
        lowest = {name: torch.finfo(score.dtype).min for name, score in scores.items()}
        scores = {n: s.clamp(min=lowest[n]).masked_fill(~within[n], -torch.inf) for n, s in scores.items()}
        capacity = {name: int(within[name].sum()) for name in scores}
    return keep_largest(scores, distribution(scores, density, capacity))
