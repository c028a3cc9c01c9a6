"""The pruning plugin: scores, prunes and keeps pruned weights at zero, under any Avalanche strategy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import DatasetExperience
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import SupervisedPlugin
from avalanche.models import MultiTaskModule
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from strategies.learning.evaluation import eval_batches
from strategies.learning.replay import training_mixture
from strategies.pruning.controls import Inverted, shuffled
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.rounds import choose, zero_pruned_
from strategies.pruning.scores import Batch
from strategies.pruning.upkeep import HeldAtZero
from strategies.seeds import numpy_generator, torch_generator

SCORING_BATCH = 128
"""Samples a scoring pass takes at once; a scoring set is cut into near-equal parts of at most this size."""


class PruningPlugin(SupervisedPlugin):
    """Prunes at the start of a megabatch and keeps the pruned weights at zero through every optimiser step.

    The plugin reads the density from the schedule, draws samples from the data that the strategy is about to train on
    (its adapted data set: after our replay; Avalanche's Replay and DER add theirs later), as many as
    ``sample_fraction`` of one megabatch, scores the weights on them and keeps exactly round(density * n), or what
    the structure makes of it. With ``nested`` a pruned weight never comes back. Without it, every pruned weight is
    first given back the value it had when it was pruned, and all weights are ranked anew.

    Attributes:
        parts: score, schedule, distribution, structure and so on.
        masks: what is kept now; None before the first pruning.
        scored_samples: how many samples have been run forward and backward for scoring, over the whole run; a score
            that costs more than that counts a sample several times.
    """

    def __init__(self, parts: PruningParts):
        super().__init__()
        self.parts = parts
        self.masks: Masks | None = None
        self.scored_samples = 0.0
        self._values_when_pruned: dict[str, Tensor] = {}
        self._held_at_zero: HeldAtZero | None = None
        self._upheld = False

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made anew from the masks at the next step: it looks at the bits of the weights."""
        return {**self.__dict__, "_held_at_zero": None}

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Prune if the schedule asks for it; Avalanche has prepared data, model and optimiser by now."""
        if self.masks is not None:
            # Avalanche models may grow between megabatches; what is new is dense until the next pruning.
            self.use(self.masks.fitted(prunable_weights(strategy.model)), strategy.model)
        density = self.parts.schedule(strategy.clock.train_exp_counter)
        if density is not None:
            self.prune(strategy, density)

    def after_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Momentum and weight decay have moved pruned weights: put them, and their momentum, back to zero."""
        if self.masks is None:
            return
        if self._held_at_zero is None:
            self._held_at_zero = HeldAtZero(self._tensors_to_hold(strategy))
        self._held_at_zero()
        self._upheld = True

    def after_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """The same for strategies that step their optimiser without saying so, as MER's inner updates do."""
        if not self._upheld:
            self.after_update(strategy)
        self._upheld = False

    def snapshot(self) -> Masks | None:
        """The masks that belong to the weights as they are; see :class:`strategies.learning.roles.PartOfPredictor`."""
        return self.masks

    def restore(self, masks: Masks | None) -> None:
        """Go back to masks whose weights have just been restored."""
        self.masks = masks
        self._held_at_zero = None

    def prune(self, strategy: SupervisedTemplate, density: float) -> None:
        """Bring the network to ``density``, the kept fraction of all prunable weights."""
        if self.masks is not None and not self.parts.nested:
            self._give_back(strategy.model)
        chosen = self.choose(strategy, density, within=self.masks if self.parts.nested else None)
        self.draw_anew(strategy, chosen)
        if not self.parts.nested:
            held = (*chosen, *self.parts.structure.silenced(strategy.model, chosen))
            self._values_when_pruned = {name: strategy.model.get_parameter(name).detach().clone() for name in held}
        self.use(chosen, strategy.model)

    def draw_anew(self, strategy: SupervisedTemplate, chosen: Masks) -> None:
        """For the control that asks for it, if anything is pruned: other initial weights, and a fresh optimiser."""
        if self.parts.control != "reinitialise" or chosen.nonzeros == chosen.size:
            return
        if self.parts.make_model is None:
            raise ValueError("the control 'reinitialise' needs parts with make_model, which makes the weights")
        # The 0th initialisation is the one that training began from.
        fresh = self.parts.make_model(1 + strategy.clock.train_exp_counter)
        strategy.model.load_state_dict(fresh.state_dict())
        strategy.optimizer.state.clear()

    def choose(self, strategy: SupervisedTemplate, density: float, within: Masks | None = None) -> Masks:
        """Masks of ``density`` by the plugin's score; nothing is pruned yet."""
        inverted = self.parts.control == "invert"
        chosen = choose(
            strategy.model,
            self.scoring_batches(strategy),
            density,
            score=Inverted(self.parts.score) if inverted else self.parts.score,
            scoring=self.parts.scoring,
            distribution=self.parts.distribution,
            structure=self.parts.structure,
            within=within,
        )
        return self.shuffled_if_asked(strategy, chosen, within)

    def shuffled_if_asked(self, strategy: SupervisedTemplate, chosen: Masks, within: Masks | None = None) -> Masks:
        """The masks as they were chosen, or shuffled within each layer for the control that asks for it."""
        if self.parts.control != "shuffle":
            return chosen
        generator = torch_generator(self.parts.seed, "shuffled masks", strategy.clock.train_exp_counter)
        return shuffled(chosen, within, generator)

    def use(self, masks: Masks, model: nn.Module) -> None:
        """Make ``masks`` the current ones and apply them to ``model``."""
        zero_pruned_(model, masks, self.parts.structure)
        self.masks = masks
        self._held_at_zero = None

    def scoring_batches(self, strategy: SupervisedTemplate) -> Iterable[Batch]:
        """What the score reads of the data that the strategy is about to train on."""
        return self.sample(
            strategy, strategy.adapted_dataset, at_most=self.parts.scoring.samples, balanced=self.parts.scoring.balanced
        )

    def sample(
        self,
        strategy: SupervisedTemplate,
        dataset: AvalancheDataset,
        *position: int,
        at_most: int | None = None,
        balanced: bool = False,
    ) -> Iterable[Batch]:
        """A seeded sample of ``dataset``, without augmentation, as large as ``sample_fraction`` of one megabatch.

        ``position`` tells the draws of one megabatch apart; ``balanced`` takes every class equally often. Of what is
        trained on the rest is drawn as training does (:func:`strategies.learning.replay.training_mixture`).
        """
        size = min(len(dataset), sample_size(strategy.experience, self.parts.sample_fraction))
        if at_most is not None:
            size = min(size, at_most)
        rng = numpy_generator(self.parts.seed, "scoring sample", strategy.clock.train_exp_counter, *position)
        if balanced:
            return self.batches_of(strategy, dataset, balanced_draw(np.asarray(list(dataset.targets)), size, rng))
        if dataset is strategy.adapted_dataset:
            return self.batches_of(strategy, dataset, training_mixture(strategy, size, rng))
        return self.batches_of(strategy, dataset, rng.choice(len(dataset), size, replace=False).tolist())

    def batches_of(
        self, strategy: SupervisedTemplate, dataset: AvalancheDataset, positions: Sequence[int]
    ) -> Iterable[Batch]:
        """The samples at ``positions`` of ``dataset``, without augmentation, on the strategy's device.

        The batches are made, and counted as scored, only when a score reads them, and every time: magnitude reads
        none, a score in rounds all of them in each round.
        """
        return _Batches(self, strategy, dataset, positions)

    @torch.no_grad()
    def _give_back(self, model: nn.Module) -> None:
        assert self.masks is not None
        pruned = {name: ~mask for name, mask in self.masks.items()} | self.parts.structure.silenced(model, self.masks)
        parameters = dict(model.named_parameters())
        for name, where in pruned.items():
            value = self._values_when_pruned.get(name)
            if value is not None and value.shape == parameters[name].shape:
                parameters[name].copy_(torch.where(where, value, parameters[name]))

    def _tensors_to_hold(self, strategy: SupervisedTemplate) -> list[tuple[Tensor, Tensor]]:
        """Weights, and optimiser state of a weight's shape, each with the mask of what is pruned."""
        assert self.masks is not None
        held: list[tuple[Tensor, Tensor]] = []
        parameters = dict(strategy.model.named_parameters())
        weights = {name: ~mask for name, mask in self.masks.items()}
        for name, pruned in (weights | self.parts.structure.silenced(strategy.model, self.masks)).items():
            weight = parameters[name]
            # Avalanche's streaming LDA has no optimiser.
            state = {} if strategy.optimizer is None else strategy.optimizer.state.get(weight, {})
            own = [t for t in (weight, *state.values()) if torch.is_tensor(t) and t.shape == weight.shape]
            held += [(tensor, pruned) for tensor in own]
        return held


class _Batches:
    """Batches that are made anew, and counted as scored, whenever they are iterated."""

    def __init__(
        self, plugin: PruningPlugin, strategy: SupervisedTemplate, dataset: AvalancheDataset, positions: Sequence[int]
    ):
        self.plugin = plugin
        self.strategy = strategy
        self.dataset = dataset
        self.positions = np.asarray(positions)

    def __iter__(self) -> Iterator[Batch]:
        strategy = self.strategy
        for part in np.array_split(self.positions, -(-len(self.positions) // SCORING_BATCH)):
            for x, y, *task in eval_batches(strategy, self.dataset.subset(part.tolist()).eval(), len(part)):
                # Avalanche's multi-task models take the task labels beside the input.
                inputs = (x, task[0]) if task and isinstance(strategy.model, MultiTaskModule) else (x,)
                self.plugin.scored_samples += len(y) * self.plugin.parts.scoring.passes
                yield tuple(i.to(strategy.device) for i in inputs), y.to(strategy.device)


def sample_size(experience: DatasetExperience, fraction: float) -> int:
    """Samples that are ``fraction`` of one megabatch, at least 1; a learner that waits gets several at once."""
    return max(1, round(fraction * len(experience.dataset) / getattr(experience, "megabatches", 1)))


def balanced_draw(targets: np.ndarray, size: int, rng: np.random.Generator) -> list[int]:
    """``size`` positions out of ``targets``, every class as often as the others, as long as it has samples left."""
    order = rng.permutation(len(targets))
    # The first sample of each class in this order, then the second of each, and so on.
    rank = np.zeros(len(targets), dtype=int)
    for label in np.unique(targets):
        own = order[targets[order] == label]
        rank[own] = np.arange(len(own))
    return order[np.argsort(rank[order], kind="stable")][:size].tolist()
