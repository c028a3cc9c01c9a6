"""APP-reference: APP as the authors' public code trains it, defects included."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.distributions import global_ranking
from strategies.pruning.masks import prunable_weights
from strategies.pruning.plugin import PruningPlugin, select
from strategies.pruning.schedules import Progressive
from strategies.pruning.scores import Batch, snip
from strategies.registry import STRATEGIES


class ReferencePruning(PruningPlugin):
    """The pruning step of the authors' code.

    Two defects make it another method than the paper's. (1) From the second megabatch on, the checkpoint's
    convolutions do not load into the scorer (their keys differ and ``strict=False`` hides it), so SNIP scores
    freshly initialised convolutions beside trained batch norm and a trained classifier. (2) Each mask is
    ranked over all weights, not nested, but PyTorch's ``CustomFromMask`` keeps the intersection of all masks.
    Hence the applied density falls like a product of the scheduled ones. And the scoring set is always the
    first fifth of the first megabatch.
    """

    def __init__(self, make_model: Callable[[int], nn.Module], schedule: Progressive, sample_fraction: float, seed: int):
        super().__init__(
            score=snip,
            distribution=global_ranking,
            schedule=schedule,
            sample_fraction=sample_fraction,
            nested=True,
            seed=seed,
        )
        self.make_model = make_model
        self._first_megabatch: AvalancheDataset | None = None

    def prune(self, strategy: SupervisedTemplate, density: float) -> None:
        """Intersect the masks so far with a new, global one at ``density``."""
        if self._first_megabatch is None:
            self._first_megabatch = strategy.experience.dataset
        t = strategy.clock.train_exp_counter
        scored = strategy.model if self.masks is None else self._with_fresh_weights(strategy.model, t)
        new = select(self.score(scored, self.scoring_batches(strategy)), density, self.distribution)
        self.use(new if self.masks is None else new & self.masks, strategy.model)

    def scoring_batches(self, strategy: SupervisedTemplate) -> Iterator[Batch]:
        """The first samples of the first megabatch, at every megabatch."""
        assert self._first_megabatch is not None
        size = max(1, round(self.sample_fraction * len(self._first_megabatch)))
        return self.batches_of(strategy, self._first_megabatch, range(size))

    @torch.no_grad()
    def _with_fresh_weights(self, model: nn.Module, t: int) -> nn.Module:
        scored = copy.deepcopy(model)
        fresh = prunable_weights(self.make_model(t))
        for name, weight in prunable_weights(scored).items():
            weight.copy_(fresh[name])
        return scored


@STRATEGIES.register(
    "APP-reference", options=("tau", "score_fraction"), reference="the public code of Wadia et al. 2022"
)
def app_reference(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """APP as the authors' public code trains it: fresh convolutions are scored, masks intersect."""
    schedule = Progressive(pruning.tau, learner.megabatches)
    return AnytimeStrategy(
        learner=learner,
        plugins=[ReferencePruning(learner.make_model, schedule, pruning.score_fraction, learner.seed)],
    )
