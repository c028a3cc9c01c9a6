"""Anytime OSP: one-shot pruning at initialisation (arXiv 2204.01640, section 4, baselines)."""

from __future__ import annotations

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import OneShot, density_of
from strategies.registry import DISTRIBUTIONS, SCORES, STRATEGIES


@STRATEGIES.register(
    "OSP", options=("score", "tau", "scope", "score_fraction"), reference="Wadia et al. 2022, arXiv 2204.01640"
)
def osp(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """Anytime one-shot pruning: one mask at initialisation, from the first megabatch, fixed for ever."""
    return AnytimeStrategy(
        learner=learner,
        plugins=[
            PruningPlugin(
                score=SCORES.load(pruning.score).target,
                distribution=DISTRIBUTIONS.load(pruning.scope).target,
                schedule=OneShot(density_of(pruning.tau)),
                sample_fraction=pruning.score_fraction,
                seed=learner.seed,
            )
        ],
    )
