"""SparCL: sparse continual learning on the edge: weights, data and gradients (Wang et al. 2022, arXiv 2209.09476)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.learning.removal import DataRemoval
from strategies.pruning.distributions import Counts
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.regrow import (
    RegrowingPlugin,
    gradient_sizes,
    grown,
    in_proportion,
    kept_per_layer,
    shrunk,
    steps_of,
)
from strategies.pruning.scores import Scores
from strategies.registry import STRATEGIES


class TaskAwareMasking(RegrowingPlugin):
    """Wider masks at the start of a megabatch; masks that shrink by importance and grow at random within it.

    Attributes:
        ready: False while the masks are wider than they should be.
        trained: of the kept weights those whose gradients count at most steps; None where all do.
    """

    def __init__(
        self,
        parts: PruningParts,
        *,
        alpha: float,
        beta: float,
        intra: float,
        inter: float,
        every: int,
        gradients: float = 1.0,
        sampled: int = 1,
    ):
        super().__init__(parts)
        self.alpha = alpha
        self.beta = beta
        self.intra = intra
        self.inter = inter
        self.every = every
        self.gradients = gradients
        self.sampled = sampled
        self.ready = True
        self.trained: Masks | None = None
        self._settled: Counts = {}
        self._earlier = 0
        self._epochs = range(0)
        self._step: int | None = None

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start of a megabatch: the first masks, or wider ones if there will be a step at which they shrink again."""
        begun = self.masks is not None
        super().before_training_exp(strategy)
        kept = self.masks
        assert kept is not None
        self._settled = kept_per_layer(kept)
        # Replay puts the newest samples last.
        self._earlier = len(strategy.adapted_dataset) - len(strategy.experience.dataset)
        self._epochs = range(self.every, strategy.train_epochs, self.every)
        self._step = None if self._epochs else steps_of(strategy) // 2 or None
        if begun and (self._epochs or self._step):
            wide = self._changed(self.inter)
            self.exchange(strategy, kept, grown(kept, self.drawn(strategy, step=0), wide))
            self.ready = False
        if self.gradients < 1:
            self.choose_trained(kept, *self.gradient_sizes(strategy, 0))

    def before_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """If it is time to: shrink by importance below the density, and grow back to it at random."""
        clock, step = strategy.clock, strategy.clock.train_exp_iterations
        begins = clock.train_epoch_iterations == 0 and clock.train_exp_epochs in self._epochs
        if not begins and step != self._step:
            return
        assert self.masks is not None
        sizes = self.gradient_sizes(strategy, step)
        importance = self.importance(strategy, *sizes)
        kept = shrunk(self.masks, importance, self._changed(-self.intra))
        self.exchange(strategy, kept, grown(kept, self.drawn(strategy, step), self._settled))
        self.ready = True
        if self.gradients < 1:
            self.choose_trained(kept, *sizes)

    def before_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Dynamic gradient masking: the others have no gradient, but for one step in every ``sampled``."""
        if self.trained is None or strategy.clock.train_exp_iterations % self.sampled == 0:
            return
        for name, weight in prunable_weights(strategy.model).items():
            if weight.grad is not None:
                weight.grad.mul_(self.trained[name])

    def gradient_sizes(self, strategy: SupervisedTemplate, step: int) -> tuple[Scores, Scores | None]:
        """Sizes of gradients on samples of the newest megabatch, and of what replay brings from earlier ones."""
        newest = gradient_sizes(strategy.model, self.sample(strategy, strategy.experience.dataset, step))
        if not self._earlier:
            return newest, None
        earlier = strategy.adapted_dataset.subset(list(range(self._earlier)))
        return newest, gradient_sizes(strategy.model, self.sample(strategy, earlier, step))

    def importance(self, strategy: SupervisedTemplate, now: Scores, before: Scores | None) -> Scores:
        """Of weights: equation 1."""
        return continual_weight_importance(prunable_weights(strategy.model), now, before, self.alpha, self.beta)

    def choose_trained(self, older: Masks, now: Scores, before: Scores | None) -> None:
        """Of each layer's kept weights the ``gradients`` most important ones, by equation 3.

        Those that have just been grown, which are not among the ``older`` ones, go first: they start at zero, and would
        stay there.
        """
        assert self.masks is not None
        importance = continual_gradient_importance(now, before, self.alpha, self.beta)
        new = {name: mask & ~older[name] for name, mask in self.masks.items()}
        importance = {name: size.masked_fill(new[name], torch.inf) for name, size in importance.items()}
        counts = {name: round(self.gradients * kept) for name, kept in kept_per_layer(self.masks).items()}
        self.trained = shrunk(self.masks, importance, counts)

    def _changed(self, density: float) -> Counts:
        """Counts of each layer when the density of all layers together is changed by ``density``.

        It is never more than halved: a network sparser than ``intra`` would lose all its weights at once.
        """
        assert self.masks is not None
        settled = sum(self._settled.values())
        total = max(settled + round(density * self.masks.size), settled // 2)
        return in_proportion(self._settled, min(total, self.masks.size), self.masks)


def continual_weight_importance(
    weights: Mapping[str, Tensor],
    now: Mapping[str, Tensor],
    before: Mapping[str, Tensor] | None,
    alpha: float,
    beta: float,
) -> Scores:
    """CWI = abs(w) + alpha abs(dL(D_t)/dw) + beta abs(dL(M)/dw), equation 1; without a memory M the last is left out.

    ``now`` and ``before`` are sizes of gradients on the data of this megabatch and of the memory.
    """
    gradients = continual_gradient_importance(now, before, alpha, beta)
    return {name: weight.detach().abs() + gradients[name] for name, weight in weights.items()}


def continual_gradient_importance(
    now: Mapping[str, Tensor], before: Mapping[str, Tensor] | None, alpha: float, beta: float
) -> Scores:
    """CGI = alpha abs(dL(D_t)/dw) + beta abs(dL(M)/dw), equation 3; without a memory M the last is left out."""
    if before is None:
        return {name: alpha * size for name, size in now.items()}
    return {name: alpha * size + beta * before[name] for name, size in now.items()}


@STRATEGIES.register(
    "SparCL",
    options=("density", "scope", "score_fraction"),
    defaults={"scope": "local"},
    version=2,
    reference="Wang et al. 2022, arXiv 2209.09476, equations 1 and 3, and their code",
)
def sparcl(
    learner: Learner,
    pruning: Pruning,
    *,
    alpha: Annotated[float, Ge(0)] = 0.5,
    beta: Annotated[float, Ge(0)] = 0.5,
    intra: Annotated[float, Ge(0), Le(1)] = 0.01,
    inter: Annotated[float, Ge(0), Le(1)] = 0.01,
    every: Annotated[int, Ge(1)] = 5,
    removed: Annotated[float, Ge(0), Lt(1)] = 0.3,
    stages: Annotated[int, Ge(1)] = 4,
    gradients: Annotated[float, Gt(0), Le(1)] = 0.8,
    sampled: Annotated[int, Ge(1)] = 30,
) -> AnytimeStrategy:
    """SparCL: masks that shrink by importance for old and new data, easy data left out, and few gradients.

    1. Start from a random mask with density d, the same in every layer.
    2. Task-aware dynamic masking. At the start of each megabatch but the first, widen it to d + ``inter`` with random
       weights (inter-task). After each ``every`` epochs, shrink it to d - ``intra`` by the lowest continual weight
       importance abs(w) + alpha abs(dL(D_t)/dw) + beta abs(dL(M)/dw), and grow it back to d at random (intra-task).
       The first of these ends the wider phase, whose epochs are never handed over.
    3. Dynamic data removal. After each ``every`` epochs, ``stages`` times at the most, leave out samples of the newest
       megabatch, those that were predicted wrong least often since the last time; after the last stage that there is
       time for ``removed`` of them are left out. Gaps are measured on all of them.
    4. Dynamic gradient masking. Of each layer's kept weights the ``gradients`` most important ones, by alpha
       abs(dL(D_t)/dw) + beta abs(dL(M)/dw), have a gradient, those first that have just been grown; they are chosen
       anew with the masks. At every ``sampled``-th step all kept weights have one.

    On an ALMA stream a task is a megabatch, D_t a sample of it (``score_fraction`` of one), and M a sample of what
    replay brings from earlier megabatches; without replay the third term is absent. All megabatches have all classes,
    so that the paper's single-head loss on D_t is the ordinary one. A megabatch of no more than ``every`` epochs has
    one adjustment and one removal, half way, and no adjustment removes more than half of the weights. The masks widen
    and shrink in proportion in all layers, grown weights start at zero with fresh momentum, and all convolutions are
    pruned, where the authors' configuration spares stem and shortcuts. Wrong predictions are counted after each epoch,
    on images as they are, where the authors' code counts, in training, how often a sample was unlearned. A weight
    without a gradient is still moved by momentum and weight decay, which the authors have not. What sparse gradients
    save is not part of the FLOPs that are reported. The defaults are what the authors' code uses for 75 % sparsity: it
    merges the two gradient terms into one of weight 0.5, removes 3,000 of 10,000 samples in four stages, and has
    gradients for a fifth of all weights. ``removed`` 0 and ``gradients`` 1 leave the masks alone.
    """
    drawn = replace(pruning, score="random", schedule="one_shot", structure="unstructured")
    masking = TaskAwareMasking(
        drawn.parts(learner),
        alpha=alpha,
        beta=beta,
        intra=intra,
        inter=inter,
        every=every,
        gradients=gradients,
        sampled=sampled,
    )
    removal = DataRemoval(removed, stages=stages, every=every, seed=learner.seed)
    return AnytimeStrategy(learner=learner, plugins=[masking, removal])
