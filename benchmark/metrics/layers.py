"""Density of each layer."""

from __future__ import annotations

import torch
from avalanche.training.templates import SupervisedTemplate

from benchmark.metrics.series import Test, TestMetric
from benchmark.registry import METRICS
from leaderboards.glossary import Measure
from strategies.pruning.masks import Masks, prunable_weights


@METRICS.register(
    "layer_density",
    order=22,
    measures=(
        Measure(
            "density/:layer",
            "Density of a layer",
            "nonzero weights of one prunable layer, from the first megabatch on at which any layer has lost some",
            "fraction",
            position=98,
        ),
    ),
)
class LayerDensity(TestMetric):
    """``density/NNN LAYER``: kept fraction of each prunable layer of the model handed over, numbered from the input on.

    Zeros are counted, whatever was asked for. A network that is never pruned has no such series.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pruned = False

    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """Count the zeros of the model that was just tested."""
        masks = Masks.of(prunable_weights(strategy.model))
        self._pruned = self._pruned or masks.nonzeros < masks.size
        if not self._pruned:
            return {}
        # One answer of the device for all layers.
        kept = torch.stack([mask.sum() for mask in masks.values()]).tolist()
        sizes = [mask.numel() for mask in masks.values()]
        layers = [name.removesuffix(".weight") for name in masks]
        return {
            f"density/{number:03} {layer}": nonzeros / size
            for number, (layer, nonzeros, size) in enumerate(zip(layers, kept, sizes, strict=True), start=1)
        }
