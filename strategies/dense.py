"""The dense baseline."""

from __future__ import annotations

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.registry import STRATEGIES


@STRATEGIES.register("dense", options=(), reference="Caccia et al. 2021, arXiv 2106.09563")
def dense(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """The ALMA learner without pruning: the baseline of every sparse method."""
    return AnytimeStrategy(learner=learner)
