"""A model by name, with reproducible initialisations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmark.registry import MODELS
from strategies.seeds import derived_seed


def model_factory(name: str, *, classes: int, channels: int, resolution: int, seed: int) -> Callable[[int], nn.Module]:
    """``factory(k)``: the model with its k-th random initialisation; the global random state stays as it was.

    Raises:
        UnknownName: no such model.
    """
    entry = MODELS.load(name)

    def make(draw: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(seed, "initialisation", draw))
            model: nn.Module = entry.target(classes, channels, resolution)
        if entry.traits.classifier:
            model.classifier_name = entry.traits.classifier  # type: ignore[assignment]
        return model.to(memory_format=torch.channels_last)

    return make
