"""Progressive skeletonization: iterative SNIP and FORCE (de Jorge et al. 2021, arXiv 2006.09081)."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import nn

from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.scores import Batch, Scores, weights_and_gradients
from strategies.pruning.scores.snip import snip
from strategies.registry import SCORES

ROUNDS = 10
"""Default of the authors' code; the commands that it gives for the paper's extreme sparsities (95 % and more) take 60,
at six times the cost."""


@SCORES.register("iterative_snip", reference="de Jorge et al. 2021, arXiv 2006.09081, section 4", rounds=ROUNDS)
def iterative_snip(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """abs(w * sum_b g_b), scored anew in each of 10 rounds; what is pruned stays pruned (iterative SNIP).

    In round k of K the density is d^(k / K), and the network that round k - 1 has left is scored. The same samples are
    used in every round.
    """
    return snip(model, batches)


@SCORES.register("force", reference="de Jorge et al. 2021, arXiv 2006.09081, section 4", rounds=ROUNDS, revives=True)
def force(model: nn.Module, batches: Iterable[Batch], /, masks: Masks | None = None) -> Scores:
    """abs(w * g(w * mask)): sensitivity in the pruned network, where pruned weights may come back (FORCE).

    In round k of K, with density d^(k / K):

    1. g: gradient of the loss at the weights as the masks of round k - 1 leave them, for pruned weights, too;
    2. score: abs(w * g) with the dense weights w, so that a pruned weight is scored by what it would bring back.

    Without masks, in the first round, that is SNIP. Weights that were pruned before the first round, at an earlier
    megabatch, are zero in ``model`` itself and score zero.

    Args:
        model: the dense network.
        batches: what to score with.
        masks: what the round before kept; None keeps all.
    """
    masked = copy.deepcopy(model)
    if masks is not None:
        masks.apply_(masked)
    dense = prunable_weights(model)
    return {n: (dense[n].detach() * grad).abs() for n, (_, grad) in weights_and_gradients(masked, batches).items()}
