"""RigL: rigging the lottery (Evci et al. 2020, arXiv 1911.11134)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from avalanche.training.templates import SupervisedTemplate

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.masks import prunable_weights
from strategies.pruning.regrow import PruneAndRegrow, gradient_sizes
from strategies.pruning.scores import Scores
from strategies.registry import STRATEGIES


class RiggedLottery(PruneAndRegrow):
    """Grows where the gradient is largest, in place of an optimiser step.

    Attributes:
        ready: False while the grown weights are still at zero, because no step has followed the update.
    """

    ready = True

    def preference_at_start(self, strategy: SupervisedTemplate) -> Scores:
        """Gradients on a scoring sample."""
        return gradient_sizes(strategy.model, self.sample(strategy, strategy.adapted_dataset))

    def before_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Update the masks if it is time to, by the gradients of this batch, which then move no weight."""
        self.ready = not self.due(strategy)
        if self.ready:
            return
        # Pruned weights are zeros in dense tensors: their gradients are there, unmasked, after any backward pass.
        weights = prunable_weights(strategy.model)
        sizes = {n: torch.zeros_like(w) if w.grad is None else w.grad.abs() for n, w in weights.items()}
        self.update(strategy, sizes, strategy.clock.train_exp_iterations)
        strategy.optimizer.zero_grad(set_to_none=True)


@STRATEGIES.register(
    "RigL",
    options=("density", "scope", "score_fraction"),
    defaults={"scope": "erk"},
    reference="Evci et al. 2020, arXiv 1911.11134, algorithm 1",
)
def rigged_lottery(
    learner: Learner,
    pruning: Pruning,
    *,
    every: Annotated[int, Ge(0)] = 100,
    fraction: Annotated[float, Ge(0), Le(1)] = 0.3,
    until: Annotated[float, Gt(0), Le(1)] = 0.75,
) -> AnytimeStrategy:
    """Rigging the lottery: the smallest weights go, those with the largest gradient come, at one density for ever.

    1. Start from a random mask with the final density, shared among layers by ERK.
    2. Every ``every`` optimiser steps, until ``until`` of a megabatch's steps, drop the smallest abs(w) of each layer:
       a fraction f_k = fraction / 2 (1 + cos(pi k / (until * steps))) of its weights at step k.
    3. Grow as many at zero, with fresh momentum, where abs(gradient) of the dense layer on this batch is largest, among
       all that are not kept after the drop. The batch takes no optimiser step.

    With ``every`` = 0 the masks change once a megabatch instead, at its start from the second one on, by ``fraction``;
    the gradient is then taken on a sample of ``score_fraction`` of a megabatch. Otherwise no sample is scored, and
    ``score_fraction`` changes nothing. Densities on a board count nonzero weights, so a weight that was grown and never
    got a gradient is missing there.

    Differs from the paper on an ALMA stream: steps are counted within the megabatch, whose learning rate starts anew,
    so that nothing depends on the number of megabatches; a megabatch too short for ``every`` steps has one update in
    the middle of the time before its deadline; and a layer exchanges no more weights than it has pruned, so that a
    full one, as ERK makes of small layers, is left alone. A weight that is dropped and grown again by the same update
    starts at zero, as the paper has it; the authors' code lets it keep its value. An epoch that ends with an update is
    not handed over, if there is another one.
    """
    drawn = replace(pruning, score="random", schedule="one_shot", structure="unstructured")
    plugin = RiggedLottery(drawn.parts(learner), every=every, fraction=fraction, until=until)
    return AnytimeStrategy(learner=learner, plugins=[plugin])
