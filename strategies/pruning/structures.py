"""Structures: which sets of weights can be pruned together.

A structure turns scores and a density into masks. Unstructured pruning takes any weight; N:M keeps the N best of each
M consecutive input channels; filters removes whole channels (:mod:`strategies.pruning.filters`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from strategies.pruning.distributions import Distribution
from strategies.pruning.masks import Masks, keep_largest, ranked
from strategies.registry import STRUCTURES


class Structure(ABC):
    """How scores and a density become masks."""

    @abstractmethod
    def select(
        self,
        model: nn.Module,
        scores: Mapping[str, Tensor],
        density: float,
        distribution: Distribution,
        within: Masks | None = None,
    ) -> Masks:
        """Masks of ``density``, chosen by score; with ``within``, only weights kept there are candidates (nested)."""

    def silenced(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Further parameters that are zero under these masks: name -> boolean tensor, True where it is zero."""
        return {}


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


@STRUCTURES.register(
    "n:m",
    reference="Zhou et al. 2021, arXiv 2102.04010; Mishra et al. 2021, arXiv 2104.08378",
    test_config={"structure": "2:4"},
)
@dataclass(frozen=True)
class NofM(Structure):
    """N of each M consecutive input-channel weights stay, at every position of the kernel (given as 2:4).

    The density asked for at the end is N / M, whatever the distribution. On the way there a density d keeps the
    smallest number of each M that is at least d, so that every mask is itself K:M. Where the input channels are no
    multiple of M the last group is smaller, and keeps as many of its weights as the others, if it has them: a first
    layer that reads one channel stays whole.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 0 < self.n <= self.m:
            raise ValueError(f"N:M keeps N of M weights, 0 < N <= M; got {self.n}:{self.m}")

    def select(
        self,
        model: nn.Module,
        scores: Mapping[str, Tensor],
        density: float,
        distribution: Distribution,
        within: Masks | None = None,
    ) -> Masks:
        """The best of each group; of tied weights the earlier ones."""
        # The margin is for densities such as 0.8 ** log(0.5, 0.8), which is 0.5 up to rounding.
        kept = max(self.n, ceil(density * self.m - 1e-9))
        masks = {n: self._of_layer(s if within is None else masked(s, within[n]), kept) for n, s in scores.items()}
        chosen = Masks(masks)
        return chosen if within is None else chosen & within

    def _of_layer(self, score: Tensor, kept: int) -> Tensor:
        channels = score.shape[1]
        # (out, in, kh, kw) -> one row of input channels for each output channel and kernel position.
        rows = ranked(score).reshape(score.shape).movedim(1, -1).reshape(-1, channels)
        padding = -channels % self.m
        groups = torch.nn.functional.pad(rows, (0, padding), value=-torch.inf).reshape(len(rows), -1, self.m)
        order = groups.argsort(dim=-1, descending=True, stable=True)
        best = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :kept], True)
        inner = [score.shape[0], *score.shape[2:], channels]
        return best.reshape(len(rows), -1)[:, :channels].reshape(inner).movedim(-1, 1).contiguous()


def select(
    scores: Mapping[str, Tensor], density: float, distribution: Distribution, within: Masks | None = None
) -> Masks:
    """Masks that keep exactly round(density * n) of the n scored weights, chosen by ``distribution``.

    With ``within``, only weights kept there are candidates (nested masks); where fewer are left than asked for,
    all of them stay.
    """
    capacity = {name: score.numel() for name, score in scores.items()}
    if within is not None:
        scores = {name: masked(score, within[name]) for name, score in scores.items()}
        capacity = {name: int(within[name].sum()) for name in scores}
    return keep_largest(scores, distribution(scores, density, capacity))


def masked(score: Tensor, candidates: Tensor) -> Tensor:
    """``score`` with -inf where a weight is no candidate; no candidate scores as low as that."""
    return score.clamp(min=torch.finfo(score.dtype).min).masked_fill(~candidates, -torch.inf)
