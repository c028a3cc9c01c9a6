"""Dynamic sparse training: masks that change while the network trains, and weights that come back at zero."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from strategies.pruning.distributions import Counts, apportion
from strategies.pruning.masks import Masks, keep_largest, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.scores import Batch, Scores, weights_and_gradients
from strategies.pruning.structures import masked
from strategies.pruning.upkeep import HeldAtZero
from strategies.seeds import torch_generator


class RegrowingPlugin(PruningPlugin):
    """A pruning plugin whose pruned weights can be grown again: they start at zero, with fresh optimiser state."""

    def exchange(self, strategy: SupervisedTemplate, kept: Masks, grown: Masks) -> None:
        """Drop what is not in ``kept`` and grow what ``grown`` has beyond that.

        A weight that is dropped and grown at once loses its value and its momentum like any other.
        """
        self.use(kept, strategy.model)
        HeldAtZero(self._tensors_to_hold(strategy))()
        self.use(grown, strategy.model)

    def drawn(self, strategy: SupervisedTemplate, step: int) -> Scores:
        """U(0, 1) for every weight, fixed by the seed, the megabatch and the step within it."""
        generator = torch_generator(self.parts.seed, "growth", strategy.clock.train_exp_counter, step)
        weights = prunable_weights(strategy.model)
        return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in weights.items()}


class PruneAndRegrow(RegrowingPlugin):
    """Drops the smallest abs(w) of each layer from time to time and grows as many, by a rule of the subclass.

    With ``every`` = 0 there is one update at the start of each megabatch but the first, which exchanges ``fraction`` of
    the kept weights. Otherwise there is one each ``every`` optimiser steps of a megabatch (:func:`update_steps`),
    and the fraction falls to zero along a cosine within the megabatch (:func:`cosine`).
    """

    def __init__(self, parts: PruningParts, *, every: int, fraction: float, until: float):
        super().__init__(parts)
        self.every = every
        self.fraction = fraction
        self.until = until
        self._deadline = 0.0
        self._updates = range(0)

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start of a megabatch: the first mask, or the update that is due once a megabatch; and when others follow."""
        begun = self.masks is not None
        super().before_training_exp(strategy)
        steps = steps_of(strategy)
        self._deadline = self.until * steps
        self._updates = update_steps(steps, self.every, self.until)
        if self.every == 0 and begun:
            self.update(strategy, self.preference_at_start(strategy), step=0)

    @abstractmethod
    def preference_at_start(self, strategy: SupervisedTemplate) -> Scores:
        """What to grow, the highest first, at the start of a megabatch, when nothing of it was trained on yet."""

    def due(self, strategy: SupervisedTemplate) -> bool:
        """Whether there is an update at the current optimiser step."""
        return strategy.clock.train_exp_iterations in self._updates

    def update(self, strategy: SupervisedTemplate, preference: Scores, step: int) -> None:
        """Drop the smallest weights of each layer and grow as many, those that ``preference`` is highest for."""
        assert self.masks is not None
        fraction = cosine(self.fraction, step, self._deadline)
        magnitudes = {name: w.detach().abs() for name, w in prunable_weights(strategy.model).items()}
        kept = shrunk(self.masks, magnitudes, after_drop(self.masks, fraction))
        self.exchange(strategy, kept, grown(kept, preference, kept_per_layer(self.masks)))


def steps_of(strategy: SupervisedTemplate) -> int:
    """Optimiser steps of the megabatch that the strategy is about to train on."""
    return strategy.train_epochs * len(strategy.dataloader)


def update_steps(steps: int, every: int, until: float = 1.0) -> range:
    """The optimiser steps, of ``steps`` from 0, that masks are updated at: ``every``, 2 ``every`` and so on.

    All come before the deadline, ``until`` of the steps. Where that is too early even for the first, as on few-shot
    streams, there is one update in the middle of the time before it, if there are at least two steps. There is none
    for ``every`` = 0.
    """
    deadline = math.ceil(until * steps)
    if every == 0 or deadline < 2:
        return range(0)
    return range(every, deadline, every) or range(deadline // 2, deadline // 2 + 1)


def cosine(fraction: float, step: float, deadline: float) -> float:
    """Cosine decay fraction / 2 (1 + cos(pi step / deadline)): ``fraction`` at step 0, 0 at the deadline."""
    return fraction / 2 * (1 + math.cos(math.pi * step / deadline))


def gradient_sizes(model: nn.Module, batches: Iterable[Batch]) -> Scores:
    """abs(sum_b g_b) of every prunable weight, of the pruned ones too: how fast the loss would fall if they grew."""
    return {name: grad.abs() for name, (_, grad) in weights_and_gradients(model, batches).items()}


def kept_per_layer(masks: Masks) -> Counts:
    """How many weights each layer keeps."""
    return {name: int(mask.sum()) for name, mask in masks.items()}


def in_proportion(counts: Counts, total: int, masks: Masks) -> Counts:
    """``total`` weights shared among layers in proportion to ``counts``; what a full layer cannot take, others do."""
    # An empty layer has the least of shares, so that there is a place for weights when all the others are full.
    shares = {name: max(float(count), 1e-9) for name, count in counts.items()}
    return apportion(shares, total / masks.size, {name: mask.numel() for name, mask in masks.items()}, masks)


def after_drop(masks: Masks, fraction: float) -> Counts:
    """What each layer keeps when ``fraction`` of its weights is dropped, but no more than it has pruned ones."""
    counts = kept_per_layer(masks)
    return {n: kept - min(round(fraction * kept), masks[n].numel() - kept) for n, kept in counts.items()}


def shrunk(masks: Masks, importance: Mapping[str, Tensor], counts: Counts) -> Masks:
    """The ``counts[name]`` most important of the weights that each layer keeps."""
    return keep_largest({name: masked(score, masks[name]) for name, score in importance.items()}, counts)


def grown(masks: Masks, preference: Mapping[str, Tensor], counts: Counts) -> Masks:
    """All kept weights and the most preferred of the others, ``counts[name]`` in all in each layer."""
    lifted = {
        name: score.clamp(max=torch.finfo(score.dtype).max).masked_fill(masks[name], torch.inf)
        for name, score in preference.items()
    }
    return keep_largest(lifted, counts)
