"""Structures: which sets of weights can be pruned together.

A structure turns scores and a density into masks. Unstructured pruning takes any weight; N:M keeps the N best of each
M consecutive input channels; filters removes whole channels; a file each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from strategies.pruning.distributions import Distribution
from strategies.pruning.masks import Masks, keep_largest
from strategies.registry import n_and_m, structure_entry


class Structure(ABC):
    """How scores and a density become masks.

    Attributes:
        final_density: the density that masks of this structure end at, whatever was asked for; None: the one asked for.
    """

    final_density: float | None = None

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


def structure_named(structure: str) -> Structure:
    """The structure by its name, or N:M by its numbers.

    Raises:
        UnknownName: there is none of that name, or it is N:M without numbers or with impossible ones.
    """
    made: Structure = structure_entry(structure).target(*n_and_m(structure))
    return made


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
