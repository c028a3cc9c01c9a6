"""SET: sparse evolutionary training (Mocanu et al. 2018, arXiv 1707.04780)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Gt, Le
from avalanche.training.templates import SupervisedTemplate

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.regrow import PruneAndRegrow
from strategies.pruning.scores import Scores
from strategies.registry import STRATEGIES


class SparseEvolution(PruneAndRegrow):
    """Grows at random, between two optimiser steps."""

    def preference_at_start(self, strategy: SupervisedTemplate) -> Scores:
        """Random numbers."""
        return self.drawn(strategy, step=0)

    def before_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Update the masks if it is time to."""
        if self.due(strategy):
            step = strategy.clock.train_exp_iterations
            self.update(strategy, self.drawn(strategy, step), step)


@STRATEGIES.register(
    "SET",
    options=("density", "scope"),
    defaults={"scope": "erk"},
    reference="Mocanu et al. 2018, arXiv 1707.04780, algorithm 2; as in Evci et al. 2020, arXiv 1911.11134, table 1",
)
def sparse_evolutionary_training(
    learner: Learner,
    pruning: Pruning,
    *,
    every: Annotated[int, Ge(0)] = 100,
    fraction: Annotated[float, Ge(0), Le(1)] = 0.3,
    until: Annotated[float, Gt(0), Le(1)] = 0.75,
) -> AnytimeStrategy:
    """Sparse evolutionary training: the smallest weights go, random ones come, at one density for ever.

    1. Start from a random mask with the final density, shared among layers by ERK.
    2. After each ``every`` optimiser steps, until ``until`` of a megabatch's steps, drop the smallest abs(w) of each
       layer: a fraction f_k = fraction / 2 (1 + cos(pi k / (until * steps))) of its weights at step k.
    3. Grow as many at random, at zero and with fresh momentum, among all that are not kept after the drop.

    Densities on a board count nonzero weights, so a weight that was grown and never got a gradient is missing there.
    With ``every`` = 0 the masks change once a megabatch instead, at its start from the second one on, by ``fraction``.

    Differs from Mocanu et al. as Evci et al. have it: they exchange a constant 0.3 after each epoch, and drop positive
    and negative weights apart. Differs from both on an ALMA stream: steps are counted within the megabatch, whose
    learning rate starts anew, so that nothing depends on the number of megabatches; a megabatch too short for
    ``every`` steps has one update in the middle of the time before its deadline; and a layer exchanges no more weights
    than it has pruned, so that a full one, as ERK makes of small layers, is left alone.
    """
    drawn = replace(pruning, score="random", schedule="one_shot", structure="unstructured")
    plugin = SparseEvolution(drawn.parts(learner), every=every, fraction=fraction, until=until)
    return AnytimeStrategy(learner=learner, plugins=[plugin])
