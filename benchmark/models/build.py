"""A model by name, with reproducible initialisations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmark.registry import MODELS
from strategies.seeds import derived_seed


def model_factory(
    name: str, *, classes: int, channels: int, resolution: int, seed: int, width: float = 1.0
) -> Callable[[int], nn.Module]:
    """``factory(k)``: the model with its k-th random initialisation; the global random state stays as it was.

    Args:
        name: of the model.
        classes, channels, resolution: of the images.
        seed: of the run.
        width: multiple of its own width, of a model that has several.

    Raises:
        UnknownName: no such model.
    """
    entry = MODELS.load(name)
    shape = (classes, channels, resolution, *((width,) if entry.traits.widths else ()))

    def make(draw: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(seed, "initialisation", draw))
            model: nn.Module = entry.target(*shape)
        if entry.traits.classifier:
            model.classifier_name = entry.traits.classifier  # type: ignore[assignment]
        return model.to(memory_format=torch.channels_last)

    return make
