"""Static random sparsity: the control of every method that chooses weights."""

from __future__ import annotations

from dataclasses import replace

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.plugin import PruningPlugin
from strategies.registry import STRATEGIES


@STRATEGIES.register(
    "static-random",
    options=("density", "scope", "structure"),
    defaults={"scope": "erk"},
    reference="Evci et al. 2020, arXiv 1911.11134, section 4 (static); Liu et al. 2022, arXiv 2202.02643",
)
def static_random(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """Random weights at ERK densities, drawn once at initialisation and kept for ever.

    No data and no score: whatever chooses its weights has to be better than this at the same density.
    """
    drawn = replace(pruning, score="random", schedule="one_shot")
    return AnytimeStrategy(learner=learner, plugins=[PruningPlugin(drawn.parts(learner))])
