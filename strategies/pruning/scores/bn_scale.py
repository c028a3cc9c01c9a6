"""Batch norm's scales as the importance of whole filters (network slimming)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from strategies.pruning.channels import following_norms
from strategies.pruning.masks import prunable_weights
from strategies.pruning.scores import Batch, Scores
from strategies.registry import SCORES


def check_scales(model: nn.Module) -> None:
    """Make sure that batch norm follows a prunable layer directly.

    Raises:
        ValueError: it follows none, or the network cannot be traced.
    """
    layers = {name.removesuffix(".weight") for name in prunable_weights(model)}
    if following_norms(model).keys().isdisjoint(layers):
        raise ValueError("bn_scale reads the scales of batch norm, and this network has none: use magnitude")


@SCORES.register("bn_scale", samples=0, check=check_scales, reference="Liu et al. 2017, arXiv 1708.06519, section 3")
def bn_scale(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """abs(gamma) of the batch norm that follows, for every weight of the filter. Reads no data.

    Network slimming without its L1 penalty on the scales during training, so the scales are as training leaves them.
    Every weight has the whole abs(gamma), so that a filter's mean is abs(gamma) however many weights it has: the
    paper ranks the scales of all layers against each other. A layer that no batch norm follows directly has no scale
    to learn; its filters count as those of a batch norm at initialisation, abs(gamma) = 1. Made for the structure
    ``filters``: any other structure finds all weights of a filter tied.

    Raises:
        ValueError: no prunable layer is followed by batch norm, or the network cannot be traced.
    """
    check_scales(model)
    norms = following_norms(model)
    weights = prunable_weights(model)
    scores = {name: torch.ones_like(weight).detach() for name, weight in weights.items()}
    for name, score in scores.items():
        if (norm := norms.get(name.removesuffix(".weight"))) is not None:
            score *= norm.weight.detach().abs().reshape(-1, *[1] * (score.dim() - 1))
    return scores
