"""Unstructured pruning: any weight may go."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from strategies.pruning.distributions import Distribution
from strategies.pruning.masks import Masks
from strategies.pruning.structures import Structure, select
from strategies.registry import STRUCTURES


@STRUCTURES.register("unstructured")
class Unstructured(Structure):
    """Any weight may go: exactly round(density * n) weights stay."""

    def select(
        self,
        model: nn.Module,
        scores: Mapping[str, Tensor],
        density: float,
        distribution: Distribution,
        within: Masks | None = None,
    ) -> Masks:
        """The highest scores of each layer, as many as ``distribution`` gives it."""
        return select(scores, density, distribution, within)
