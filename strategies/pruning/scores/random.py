"""Random scores: the control."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import nn

from strategies.pruning.masks import prunable_weights
from strategies.pruning.scores import Batch, Scores
from strategies.registry import SCORES


@SCORES.register("random", samples=0)
def random(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """U(0, 1): the control that every score has to beat.

    Reads no data. The draw is seeded by the weights, so that it repeats with the run's seed, differs from one
    megabatch to the next and leaves the global generator alone.
    """
    weights = prunable_weights(model)
    digest = zlib.crc32(b"".join(w.detach().cpu().contiguous().numpy().tobytes() for w in weights.values()))
    generator = torch.Generator().manual_seed(digest)
    return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in weights.items()}
