"""Magnitudes: the size of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from strategies.pruning.masks import prunable_weights
from strategies.pruning.scores import Batch, Scores
from strategies.registry import SCORES


@SCORES.register("magnitude", samples=0, reference="Han et al. 2015, arXiv 1506.02626")
def magnitude(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """abs(w): the largest weights stay. Reads no data."""
    return {name: weight.detach().abs() for name, weight in prunable_weights(model).items()}


@SCORES.register("l2", samples=0, reference="He et al. 2018, arXiv 1808.06866, equation 2 with p = 2")
def l2(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """Squared weights: their sum is the filter's squared L2 norm (magnitude's sum is the L1 norm). Reads no data."""
    return {name: weight.detach() ** 2 for name, weight in prunable_weights(model).items()}
