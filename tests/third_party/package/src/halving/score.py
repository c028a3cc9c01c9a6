"""Weights in the order in which they are stored."""

import torch

from strategies.pruning.masks import prunable_weights
from strategies.registry import SCORES


@SCORES.register("first_come")
def first_come(model, batches, /):
    """The first weights of each layer stay."""
    return {
        name: torch.arange(w.numel(), 0, -1.0, device=w.device).reshape(w.shape)
        for name, w in prunable_weights(model).items()
    }
