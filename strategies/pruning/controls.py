"""Controls: what a pruner that knows what it does must beat (Frankle et al. 2021, arXiv 2009.08576, section 5).

If a method does no worse with its masks shuffled within each layer, or with other initial weights, then it has chosen
how many weights each layer keeps and not which; if it does no worse with inverted scores, it has chosen nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from strategies.pruning.masks import Masks
from strategies.pruning.scores import Batch, Score, Scores


@dataclass(frozen=True)
class Inverted:
    """A score turned around: what it ranks lowest is kept."""

    score: Score

    def __call__(self, model: nn.Module, batches: Iterable[Batch], /, **more: Any) -> Scores:
        """Minus the score of every prunable weight."""
        return {name: -score for name, score in self.score(model, batches, **more).items()}


def shuffled(masks: Masks, within: Masks | None, generator: torch.Generator) -> Masks:
    """As many kept weights in each layer, at random places; with ``within``, among the weights kept there."""
    result = {}
    for name, mask in masks.items():
        candidates = torch.ones_like(mask) if within is None else within[name]
        places = candidates.flatten().nonzero().ravel()
        chosen = torch.randperm(len(places), generator=generator)[: int(mask.sum())].to(places.device)
        drawn = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
        drawn[places[chosen]] = True
        result[name] = drawn.reshape(mask.shape)
    return Masks(result)
