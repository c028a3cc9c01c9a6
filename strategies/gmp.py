"""GMP: gradual magnitude pruning (Zhu and Gupta 2017, arXiv 1710.01878)."""

from __future__ import annotations

from dataclasses import replace

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.plugin import PruningPlugin
from strategies.registry import STRATEGIES


@STRATEGIES.register(
    "GMP",
    options=("density", "scope", "structure", "nested", "control", "known_length"),
    reference="Zhu and Gupta 2017, arXiv 1710.01878, equation 1",
)
def gmp(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """Gradual magnitude pruning: the smallest weights go, many at first and few at the end.

    At the start of megabatch t of B (from 0):

    1. rank the weights of the best-validation model of megabatch t - 1 by their magnitude;
    2. keep the largest, down to the sparsity s_f (1 - (1 - t / (B - 1)) ** 3): dense at t = 0, s_f at the last;
    3. train on the replayed data.

    The paper prunes every few hundred steps of one training; here the steps of its schedule are the megabatches. With
    ``--no-nested`` a pruned weight keeps its last value beside the mask and can come back, as in the paper's code.
    """
    gradual = replace(pruning, score="magnitude", schedule="cubic")
    return AnytimeStrategy(learner=learner, plugins=[PruningPlugin(gradual.parts(learner))])
