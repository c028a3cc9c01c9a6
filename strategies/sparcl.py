"""SparCL: sparse continual learning on the edge, its masks (Wang et al. 2022, arXiv 2209.09476)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Le
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.distributions import Counts
from strategies.pruning.masks import prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.regrow import (
    RegrowingPlugin,
    gradient_sizes,
    grown,
    in_proportion,
    kept_per_layer,
    shrunk,
    steps_of,
    update_steps,
)
from strategies.pruning.scores import Scores
from strategies.registry import STRATEGIES


class TaskAwareMasking(RegrowingPlugin):
    """Wider masks at the start of a megabatch; masks that shrink by importance and grow at random within it.

    Attributes:
        ready: False while the masks are wider than they should be.
    """

    def __init__(self, parts: PruningParts, *, alpha: float, beta: float, intra: float, inter: float, every: int):
        super().__init__(parts)
        self.alpha = alpha
        self.beta = beta
        self.intra = intra
        self.inter = inter
        self.every = every
        self.ready = True
        self._settled: Counts = {}
        self._updates = range(0)

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start of a megabatch: the first masks, or wider ones if there will be a step at which they shrink again."""
        begun = self.masks is not None
        super().before_training_exp(strategy)
        assert self.masks is not None
        self._settled = kept_per_layer(self.masks)
        self._updates = update_steps(steps_of(strategy), self.every * len(strategy.dataloader))
        if begun and self._updates:
            wide = self._changed(self.inter)
            self.exchange(strategy, self.masks, grown(self.masks, self.drawn(strategy, step=0), wide))
            self.ready = False

    def before_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """If it is time to: shrink by importance below the density, and grow back to it at random."""
        step = strategy.clock.train_exp_iterations
        if step not in self._updates:
            return
        assert self.masks is not None
        kept = shrunk(self.masks, self.importance(strategy, step), self._changed(-self.intra))
        self.exchange(strategy, kept, grown(kept, self.drawn(strategy, step), self._settled))
        self.ready = True

    def importance(self, strategy: SupervisedTemplate, step: int) -> Scores:
        """Importance on samples of the newest megabatch and of what replay brings from earlier ones, if it does."""
        model, newest, replayed = strategy.model, strategy.experience.dataset, strategy.adapted_dataset
        now, before = gradient_sizes(model, self.sample(strategy, newest, step)), None
        # Replay puts the newest samples last.
        earlier = range(len(replayed) - len(newest))
        if earlier:
            before = gradient_sizes(model, self.sample(strategy, replayed.subset(list(earlier)), step))
        return continual_weight_importance(prunable_weights(model), now, before, self.alpha, self.beta)

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
    importance = {name: weight.detach().abs() + alpha * now[name] for name, weight in weights.items()}
    return importance if before is None else {name: i + beta * before[name] for name, i in importance.items()}


@STRATEGIES.register(
    "SparCL",
    options=("density", "scope", "score_fraction"),
    defaults={"scope": "local"},
    reference="Wang et al. 2022, arXiv 2209.09476, task-aware dynamic masking, equation 1",
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
) -> AnytimeStrategy:
    """SparCL's task-aware dynamic masks: they shrink by importance for old and new data and grow at random.

    1. Start from a random mask with density d, the same in every layer.
    2. At the start of each megabatch but the first, widen it to d + ``inter`` with random weights (inter-task).
    3. After each ``every`` epochs, shrink it to d - ``intra`` by the lowest continual weight importance
       abs(w) + alpha abs(dL(D_t)/dw) + beta abs(dL(M)/dw), and grow it back to d at random (intra-task). The first
       of these ends the wider phase, whose epochs are never handed over.

    This is the paper's task-aware dynamic masking alone: its dynamic data removal and dynamic gradient masking are left
    out. On an ALMA stream a task is a megabatch, D_t a sample of it (``score_fraction`` of one), and M a sample of what
    replay brings from earlier megabatches; without replay the third term is absent. All megabatches have all classes,
    so that the paper's single-head loss on D_t is the ordinary one. A megabatch of no more than ``every`` epochs has
    one adjustment, half way, and none removes more than half of the weights. The masks widen and shrink in proportion
    in all layers, grown weights start at zero with fresh momentum, and all convolutions are pruned, where the authors'
    configuration spares stem and shortcuts. The defaults are what that code uses for 75 % sparsity; it merges the two
    gradient terms into one of weight 0.5.
    """
    drawn = replace(pruning, score="random", schedule="one_shot", structure="unstructured")
    plugin = TaskAwareMasking(drawn.parts(learner), alpha=alpha, beta=beta, intra=intra, inter=inter, every=every)
    return AnytimeStrategy(learner=learner, plugins=[plugin])
