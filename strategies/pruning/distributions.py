"""Distributions: how many weights each layer keeps, once a density for the whole network is given.

A distribution maps (scores, density, capacity) to a count per layer. Counts always add up to exactly
round(density * n). ``capacity`` is how many weights of each layer may be kept at all: all of them, or, for
nested masks, those that are still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

import torch
from torch import Tensor

from strategies.pruning.masks import kept_count, ranked
from strategies.registry import DISTRIBUTIONS

Counts = dict[str, int]


class Distribution(Protocol):
    """Kept weights per layer; they sum to round(density * n) or, where that is less, to the capacity."""

    def __call__(self, scores: Mapping[str, Tensor], density: float, capacity: Counts, /) -> Counts: ...


@DISTRIBUTIONS.register("global")
def global_ranking(scores: Mapping[str, Tensor], density: float, capacity: Counts, /) -> Counts:
    """All layers compete: the highest scores of the whole network are kept, ties to the earlier weight.

    Weights beyond a layer's capacity must score -inf (see :func:`strategies.pruning.plugin.select`).
    """
    flat = torch.cat([ranked(score) for score in scores.values()])
    total = min(kept_count(density, flat.numel()), sum(capacity.values()))
    kept = torch.argsort(flat, descending=True, stable=True)[:total]
    edges = torch.cumsum(torch.tensor([score.numel() for score in scores.values()]), 0)
    layer = torch.bucketize(kept.cpu(), edges, right=True)
    counts = torch.bincount(layer, minlength=len(edges)).tolist()
    return dict(zip(scores, counts, strict=True))


@DISTRIBUTIONS.register("local")
def uniform(scores: Mapping[str, Tensor], density: float, capacity: Counts, /) -> Counts:
    """Uniform: every layer keeps the same fraction, up to rounding."""
    return apportion({name: float(score.numel()) for name, score in scores.items()}, density, capacity, scores)


@DISTRIBUTIONS.register("erk", reference="Evci et al. 2020, arXiv 1911.11134, section 3 (1)")
def erdos_renyi_kernel(scores: Mapping[str, Tensor], density: float, capacity: Counts, /) -> Counts:
    """Erdos-Renyi-Kernel: a layer's density follows (in + out + kh + kw) / (in * out * kh * kw).

    Small layers stay denser. What a saturated layer cannot take goes to the others (Evci et al. 2020, RigL,
    section 3 (1)); without that, 0.2965 is reached where 0.366 was asked.
    """
    return apportion({name: float(sum(score.shape)) for name, score in scores.items()}, density, capacity, scores)


@DISTRIBUTIONS.register("custom", options=("layer_density",), test_config={"layer_density": {"*": 0.5}})
@dataclass(frozen=True)
class PerLayer:
    """Densities in proportion to what is given for each layer (--layer-density), 1 for the others.

    The numbers are relative: they are scaled so that the whole network has the density that the schedule asks for,
    and what a full layer cannot take goes to the others. Keys are layer names or patterns of them
    (``blocks.8.*``); of several that match, the last one counts.
    """

    layer_density: Mapping[str, float]

    def __call__(self, scores: Mapping[str, Tensor], density: float, capacity: Counts, /) -> Counts:
        """Kept weights per layer."""
        shares = {name: score.numel() * self.relative(name) for name, score in scores.items()}
        return apportion(shares, density, capacity, scores)

    def relative(self, weight: str) -> float:
        """What is given for the layer of this weight."""
        matching = [value for pattern, value in self.layer_density.items() if matches(pattern, weight)]
        return matching[-1] if matching else 1.0


def matches(pattern: str, weight: str) -> bool:
    """Whether ``pattern`` names the layer that ``weight`` (``blocks.0.conv1.weight``) belongs to."""
    return fnmatchcase(weight.removesuffix(".weight"), pattern)


def unmatched(patterns: Iterable[str], weights: Iterable[str]) -> list[str]:
    """Patterns that name none of the layers of ``weights``."""
    names = list(weights)
    return [pattern for pattern in patterns if not any(matches(pattern, name) for name in names)]


def apportion(shares: Mapping[str, float], density: float, capacity: Counts, scores: Mapping[str, Tensor]) -> Counts:
    """Divide round(density * n) kept weights in proportion to ``shares``, no layer beyond its capacity.

    Saturated layers keep their capacity and the rest is divided among the others in the same proportion;
    fractions are rounded by largest remainder, so that the sum is exact.
    """
    total = min(kept_count(density, sum(s.numel() for s in scores.values())), sum(capacity.values()))
    free = dict(shares)
    counts: Counts = {}
    while True:
        left = total - sum(counts.values())
        scale = left / sum(free.values()) if free else 0.0
        saturated = [name for name in free if free[name] * scale >= capacity[name]]
        if not saturated:
            break
        for name in saturated:
            counts[name] = capacity[name]
            del free[name]
    exact = {name: share * scale for name, share in free.items()}
    counts |= {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: exact[name] - int(exact[name]), reverse=True)
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return {name: counts[name] for name in scores}
