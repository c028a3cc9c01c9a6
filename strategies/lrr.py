"""LRR: learning-rate rewinding (Renda et al. 2020, arXiv 2003.02389)."""

from __future__ import annotations

from dataclasses import replace

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.registry import STRATEGIES


@STRATEGIES.register(
    "LRR",
    options=("density", "scope", "structure", "control", "known_length"),
    reference="Renda et al. 2020, arXiv 2003.02389, algorithm 1",
)
def lrr(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """Learning-rate rewinding: train, prune the smallest weights, train again from the first learning rate.

    1. Train the dense network on the first megabatch.
    2. At the start of every later megabatch remove the same fraction of the remaining weights, those of the smallest
       magnitude: the density goes from 1 to d, d_t = d ** (t / (B - 1)).
    3. Keep the values of the others, rewind the learning rate, and train on the replayed data.

    The learning rate of an ALMA learner starts anew with every megabatch, so that rewinding it needs no code here.
    With one megabatch there is no training before the pruning: it is then magnitude pruning at initialisation.
    """
    parts = replace(pruning, score="magnitude", nested=True).parts(learner)
    parts = replace(parts, schedule=Progressive(pruning.density, learner.megabatches, first=1))
    return AnytimeStrategy(learner=learner, plugins=[PruningPlugin(parts)])
