"""Anytime OSP: one-shot pruning at initialisation (arXiv 2204.01640, section 4, baselines)."""

from __future__ import annotations

from dataclasses import replace

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.plugin import PruningPlugin
from strategies.registry import STRATEGIES


@STRATEGIES.register(
    "OSP",
    options=("score", "density", "scope", "structure", "score_fraction", "control"),
    reference="Wadia et al. 2022, arXiv 2204.01640, section 4",
)
def osp(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """Anytime one-shot pruning: one mask at initialisation, from the first megabatch, fixed for ever."""
    once = replace(pruning, schedule="one_shot")
    return AnytimeStrategy(learner=learner, plugins=[PruningPlugin(once.parts(learner))])
