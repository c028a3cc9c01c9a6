"""APP-reference: APP as the authors' public code trains it, defects included."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace

from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.distributions import global_ranking
from strategies.pruning.masks import prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin, sample_size
from strategies.pruning.scores import Batch, Scores, weights_and_gradients
from strategies.pruning.scores.snip import snip
from strategies.pruning.structures import select
from strategies.registry import STRATEGIES


class ReferencePruning(PruningPlugin):
    """The pruning step of the authors' code.

    Two defects make it another method than the paper's. (1) From the second megabatch on, the checkpoint's
    convolutions do not load into the scorer (their keys differ and ``strict=False`` hides it), so SNIP scores
    freshly initialised convolutions beside trained batch norm and a trained classifier; the old masks do load, and
    the scored network computes through them. (2) Each mask is
    ranked over all weights, not nested, but PyTorch's ``CustomFromMask`` keeps the intersection of all masks.
    Hence the applied density falls like a product of the scheduled ones. And the scoring set is always the
    first fifth of the first megabatch.
    """

    def __init__(self, parts: PruningParts, make_model: Callable[[int], nn.Module]):
        super().__init__(parts)
        self.make_model = make_model
        self._first_megabatch: AvalancheDataset | None = None

    def prune(self, strategy: SupervisedTemplate, density: float) -> None:
        """Intersect the masks so far with a new, global one at ``density``."""
        if self._first_megabatch is None:
            self._first_megabatch = strategy.experience.dataset
            self._sample_size = sample_size(strategy.experience, self.parts.sample_fraction)
        batches = self.scoring_batches(strategy)
        if self.masks is None:
            self.use(select(snip(strategy.model, batches), density, global_ranking), strategy.model)
            return
        scores = self._scores_of_fresh_weights(strategy.model, strategy.clock.train_exp_counter, batches)
        kept = select(scores, density, global_ranking) & self.masks
        kept.warn_of_empty_layers()
        self.use(kept, strategy.model)

    def scoring_batches(self, strategy: SupervisedTemplate) -> Iterable[Batch]:
        """The first samples of the first megabatch, at every megabatch."""
        assert self._first_megabatch is not None
        return self.batches_of(strategy, self._first_megabatch, range(self._sample_size))

    def _scores_of_fresh_weights(self, model: nn.Module, t: int, batches: Iterable[Batch]) -> Scores:
        """SNIP of fresh convolutions, computed through the old masks: nonzero for masked weights, too."""
        assert self.masks is not None
        scored = copy.deepcopy(model)
        fresh = {name: weight.detach() for name, weight in prunable_weights(self.make_model(t)).items()}
        scored.load_state_dict(fresh, strict=False)
        self.masks.apply_(scored)
        gradients = weights_and_gradients(scored, batches)
        return {name: (fresh[name].to(grad.device) * grad).abs() for name, (_, grad) in gradients.items()}


@STRATEGIES.register(
    "APP-reference",
    options=("density", "score_fraction", "known_length"),
    reference="the public code of Wadia et al. 2022",
)
def app_reference(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """APP as the authors' public code trains it: fresh convolutions are scored, masks intersect."""
    parts = replace(pruning, score="snip", schedule="exponent", scope="global", structure="unstructured").parts(learner)
    return AnytimeStrategy(
        learner=replace(learner, ties="first"), plugins=[ReferencePruning(parts, learner.make_model)]
    )
