"""SNIP and the first-order Taylor expansion: weight times gradient."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from strategies.pruning.scores import Batch, Scores, weights_and_gradients
from strategies.registry import SCORES


@SCORES.register("snip", reference="Lee et al. 2019, arXiv 1810.02340, equation 6")
def snip(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """abs(w * sum_b g_b): connection sensitivity (SNIP).

    The signed gradients of all batches are summed before the absolute value, so that one batch of 2n samples
    equals two of n. The gradient is taken with respect to the weights of the network as it stands: a pruned
    weight is zero and scores exactly zero, hence is not revived.
    """
    return {name: (weight * grad).abs() for name, (weight, grad) in weights_and_gradients(model, batches).items()}


@SCORES.register("taylor", reference="Molchanov et al. 2019, arXiv 1906.10771, equation 8")
def taylor_fo(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """(w * sum_b g_b) ** 2: first-order Taylor expansion of the loss change.

    For single weights this is SNIP squared, so a global ranking by it keeps the same weights as SNIP.
    """
    return {name: (weight * grad) ** 2 for name, (weight, grad) in weights_and_gradients(model, batches).items()}
