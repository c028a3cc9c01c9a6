"""Ebb and flow: a mask that swells for new data and shrinks by what mattered for all data. Ours, unpublished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.masks import Masks
from strategies.pruning.parts import PruningParts
from strategies.pruning.regrow import RegrowingPlugin, gradient_sizes, grown, in_proportion, kept_per_layer, steps_of
from strategies.pruning.scores import Scores
from strategies.pruning.scores.snip import snip
from strategies.registry import STRATEGIES, Scoring


class RememberedImportance:
    """Mean importance of each weight over the megabatches since it was grown; one back counts ``memory`` times as much.

    Each measurement is divided by its sum, so that megabatches count alike however large their gradients are.
    """

    def __init__(self, memory: float):
        self.memory = memory
        self._sum: Scores = {}
        self._count: Scores = {}

    def take_in(self, measured: Mapping[str, Tensor]) -> Scores:
        """Add a measurement and return the means."""
        # Gradients of a diverged network say nothing, and must not stay in the mean for ever.
        finite = {name: torch.nan_to_num(score, nan=0, posinf=0) for name, score in measured.items()}
        scale = max(sum(float(score.sum()) for score in finite.values()), torch.finfo(torch.float32).tiny)
        for name, score in finite.items():
            self._sum[name] = self.memory * self._sum.get(name, 0) + score / scale
            self._count[name] = self.memory * self._count.get(name, torch.zeros_like(score)) + 1
        return {name: self._sum[name] / self._count[name] for name in finite}

    def forget(self, masks: Masks) -> None:
        """Forget the weights that are pruned: if they are grown again, they have nothing in common but the place."""
        for name, mask in masks.items():
            self._sum[name] *= mask
            self._count[name] *= mask


class EbbAndFlow(RegrowingPlugin):
    """Swells at the start of a megabatch and shrinks back within it; see :func:`ebb_and_flow`.

    Attributes:
        ready: False while the mask is swollen.
    """

    def __init__(self, parts: PruningParts, *, swell: float, settle: float, memory: float):
        super().__init__(parts)
        self.swell = swell
        self.settle = settle
        self.ready = True
        self._remembered = RememberedImportance(memory)
        self._kept = 0
        self._ebb_after: int | None = None

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start of a megabatch: the first pruning, or the flow."""
        begun = self.masks is not None
        super().before_training_exp(strategy)
        assert self.masks is not None
        # The score was for the first pruning alone; from now on there are only plain gradients, a pass for each sample.
        self.parts = replace(self.parts, scoring=Scoring())
        self._kept = self.masks.nonzeros
        self._ebb_after = max(1, round(self.settle * steps_of(strategy)))
        if begun:
            self.flow(strategy)

    def after_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Pruned weights go back to zero; and the ebb, if it is time to."""
        super().after_update(strategy)
        if strategy.clock.train_exp_iterations + 1 == self._ebb_after:
            self.ebb(strategy)

    def flow(self, strategy: SupervisedTemplate) -> None:
        """Grow ``swell`` of the kept weights where the gradient on new data is largest, in proportion in all layers."""
        assert self.masks is not None
        swollen = min(round((1 + self.swell) * self._kept), self.masks.size)
        counts = in_proportion(kept_per_layer(self.masks), swollen, self.masks)
        preference = gradient_sizes(strategy.model, self.sample(strategy, strategy.experience.dataset, 0))
        self.exchange(strategy, self.masks, grown(self.masks, preference, counts))
        self.ready = False

    def ebb(self, strategy: SupervisedTemplate) -> None:
        """Measure what matters now, add it to what mattered before, and prune back by both."""
        assert self.masks is not None
        now = snip(strategy.model, self.sample(strategy, strategy.adapted_dataset, 1))
        importance = self._remembered.take_in(now)
        density = self._kept / self.masks.size
        settled = self.parts.structure.select(strategy.model, importance, density, self.parts.distribution, self.masks)
        self.exchange(strategy, settled, settled)
        self._remembered.forget(settled)
        self._ebb_after = None
        self.ready = True


@STRATEGIES.register(
    "ebb-and-flow",
    options=("score", "density", "scope", "score_fraction"),
    reference="ours, unpublished; from SNIP (arXiv 1810.02340), RigL (arXiv 1911.11134), SparCL (arXiv 2209.09476)",
)
def ebb_and_flow(
    learner: Learner,
    pruning: Pruning,
    *,
    swell: Annotated[float, Ge(0)] = 0.3,
    settle: Annotated[float, Gt(0), Le(1)] = 0.5,
    memory: Annotated[float, Ge(0), Le(1)] = 0.9,
) -> AnytimeStrategy:
    """Ebb and flow (ours): swell where new data ask for it, shrink by what mattered for all data so far.

    Where APP prunes by one look at one megabatch, without replay it forgets: what earlier data needed scores low on new
    data. Here the density is d at every hand-over, and importance is remembered.

    1. At the first megabatch, prune once at initialisation to d, by the score (SNIP).
    2. Flow: at the start of each later megabatch, grow ``swell`` times as many weights as are kept, at zero and with
       fresh momentum, where the gradient on a sample of the new data is largest; each layer in proportion, since
       gradients of different layers do not compare.
    3. Ebb: after ``settle`` of the megabatch's optimiser steps, measure abs(w g) on a sample of what is trained on, and
       prune back to d by its mean over the megabatches since each weight was grown, the one before counting ``memory``
       times as much, and so on (0: this megabatch alone; 1: all alike). Under ``--scope global`` all layers compete.
    4. Train on to the end at d. Epochs that end in between are not handed over.

    The first megabatch has the measurement of step 3, too, for its data may be gone at the next. Nothing depends on
    the number of megabatches.
    """
    once = replace(pruning, schedule="one_shot", structure="unstructured")
    plugin = EbbAndFlow(once.parts(learner), swell=swell, settle=settle, memory=memory)
    return AnytimeStrategy(learner=learner, plugins=[plugin])
