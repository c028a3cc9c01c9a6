"""The dense baseline."""

from __future__ import annotations

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.registry import STRATEGIES


@STRATEGIES.register("dense", options=(), reference="Caccia et al. 2021, arXiv 2106.09563")
def dense(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """The ALMA learner without pruning: the baseline of every sparse method.

    It is what ALMA calls fine-tuning from the previous megabatch, a warm start: at megabatch t go on from the
    best-validation weights of t - 1 and train on the replayed data. Waiting, ALMA's other choice, is an option of the
    stream: with ``--wait w`` it trains at every w-th megabatch only, on all that has arrived since.
    ``from-scratch`` is the same without the warm start.
    """
    return AnytimeStrategy(learner=learner)
