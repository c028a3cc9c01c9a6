"""Structured pruning: whole channels (filters) are removed, together with everything that is coupled to them."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from strategies.pruning.channels import ChannelGroup, channel_groups, kept_channels
from strategies.pruning.distributions import Distribution, global_ranking
from strategies.pruning.masks import Masks, kept_count, ranked
from strategies.pruning.structures import Structure, masked
from strategies.registry import STRUCTURES


class UnreachableDensityWarning(UserWarning):
    """One channel of each group has to stay, and that alone is more than the density asked for."""


@STRUCTURES.register(
    "filters", reference="Li et al. 2017, arXiv 1608.08710; coupled channels: Fang et al. 2023, arXiv 2301.12900"
)
class Filters(Structure):
    """Whole channels go, coupled ones together; removed for good by the slim export.

    A removed channel takes with it its rows in all layers of its group (:class:`ChannelGroup`) and the columns of the
    layers that read it; density counts both. Its biases and batch-norm parameters are held at zero, so that its output
    is exactly zero.

    1. The importance of a channel is the mean score over its rows in all layers that produce it.
    2. Channels are removed from the end of one order over the whole network until no more weights are kept than
       asked for. The density is the largest below the request that a prefix of that order reaches; the best channel
       of each group always stays.
    3. Under the global ranking all channels compete, and the order is by importance. Every other distribution gives
       each layer a number of weights; the fraction that the producers of a group may keep is the group's share. The
       k-th best of n channels comes in the order of k / (n * share), so that all groups keep the same multiple of
       their share, as far as they have channels.

    Of tied channels the earlier ones stay. On a network that is untrained or hardly trained the global order by
    magnitude can cut a whole stage down to one channel, because initial weights are smaller where a layer reads more;
    ``local`` or ``erk`` cannot. A removed channel has no gradient: no score that reads gradients lets it come back.
    """

    def select(
        self,
        model: nn.Module,
        scores: Mapping[str, Tensor],
        density: float,
        distribution: Distribution,
        within: Masks | None = None,
    ) -> Masks:
        """Masks that keep at most round(density * n) weights; channels that ``within`` has removed stay removed.

        Warns:
            UnreachableDensityWarning: the density cannot be reached; the masks have the smallest that can.

        Raises:
            ValueError: the network cannot be traced.
        """
        groups = channel_groups(model)
        before = Masks.full(scores) if within is None else within
        kept = [channels.cpu() for channels in kept_channels(groups, before)]
        group, channel = removal_order(kept, preferences(groups, kept, scores, density, distribution))
        shapes = {name: score.shape for name, score in scores.items()}
        limit = kept_count(density, sum(map(prod, shapes.values())))
        candidates = np.array([int(channels.sum()) for channels in kept], dtype=int)

        def reached(removed: int) -> bool:
            left = candidates - np.bincount(group[:removed], minlength=len(groups))
            return weights_left(groups, left.tolist(), shapes) <= limit

        # The more channels are removed, the fewer weights are left: bisection finds where a walk would stop.
        removed = bisect_left(range(len(group)), True, key=reached)
        if not reached(removed):
            message = f"density {density:.4f} cannot be reached: one channel of each group has to stay"
            warnings.warn(message, UnreachableDensityWarning, stacklevel=2)
        for g, c in zip(group[:removed], channel[:removed], strict=True):
            kept[g][c] = False
        chosen = channel_masks(groups, kept, scores)
        # Masks of another structure may have holes in kept channels, which the count above leaves out of account.
        return chosen if within is None else chosen & within

    def silenced(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Biases and batch-norm parameters of the removed channels."""
        parameters = dict(model.named_parameters())
        groups = channel_groups(model)
        zero: dict[str, Tensor] = {}
        for group, kept in zip(groups, kept_channels(groups, masks), strict=True):
            if not kept.all():
                names = [f"{layer}.bias" for layer in (*group.rows, *group.norms)]
                names += [f"{layer}.weight" for layer in group.norms]
                for name in filter(parameters.__contains__, names):
                    zero[name] = ~kept.repeat_interleave(len(parameters[name]) // group.size)
        return zero


def preferences(
    groups: Sequence[ChannelGroup],
    kept: Sequence[Tensor],
    scores: Mapping[str, Tensor],
    density: float,
    distribution: Distribution,
) -> list[Tensor]:
    """For each group a number for each channel, float64: the order in which channels stay, the highest first."""
    important = [masked(importance(g, scores), channels) for g, channels in zip(groups, kept, strict=True)]
    if distribution is global_ranking:
        return important
    # Whole layers are the capacity: what earlier prunings left of a layer depends on its columns too.
    counts = distribution(scores, density, {name: score.numel() for name, score in scores.items()})
    orders = []
    for group, values in zip(groups, important, strict=True):
        producers = [f"{layer}.weight" for layer in group.rows]
        share = sum(counts[name] for name in producers)
        size = sum(scores[name].numel() for name in producers)
        rank = torch.empty(group.size, dtype=torch.float64)
        rank[values.argsort(descending=True, stable=True)] = torch.arange(1, group.size + 1, dtype=torch.float64)
        # One division of whole numbers, so that equal fractions are equal numbers.
        orders.append(-(rank * size) / (group.size * share))
    return orders


def removal_order(kept: Sequence[Tensor], preference: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """All channels that may still be removed, the first to go first: numbers of their groups, and of the channels.

    The best channel of each group is not among them.
    """
    group = np.repeat(np.arange(len(kept)), [len(channels) for channels in kept])
    channel = np.concatenate([np.arange(len(channels)) for channels in kept] or [group])
    staying = np.argsort(-torch.cat([torch.zeros(0), *preference]).numpy(), kind="stable")
    staying = staying[torch.cat([torch.ones(0, dtype=torch.bool), *kept]).numpy()[staying]]
    _, best = np.unique(group[staying], return_index=True)
    leaving = np.delete(staying, best)[::-1]
    return group[leaving], channel[leaving]


def importance(group: ChannelGroup, scores: Mapping[str, Tensor]) -> Tensor:
    """Mean score of each channel's rows over all layers that produce it: (channels,), float64, on the CPU."""
    rows = [ranked(scores[f"{layer}.weight"]).reshape(group.size, -1) for layer in group.rows]
    # In float64 a sum of lowest float32 numbers, which stand for NaN, stays finite.
    total = torch.stack([of_layer.sum(1, dtype=torch.float64) for of_layer in rows]).sum(0)
    return ranked(total.cpu() / sum(of_layer.shape[1] for of_layer in rows))


def weights_left(groups: Sequence[ChannelGroup], left: Sequence[int], shapes: Mapping[str, torch.Size]) -> int:
    """How many weights are kept in layers of these shapes, when each group has so many channels ``left``."""
    kept = {name: prod(shape) for name, shape in shapes.items()}
    for group, channels in zip(groups, left, strict=True):
        for layer in (*group.rows, *group.columns):
            if (name := f"{layer}.weight") in kept:
                kept[name] = kept[name] // group.size * channels
    return sum(kept.values())


def channel_masks(groups: Sequence[ChannelGroup], kept: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Masks:
    """Masks of the shapes of ``weights`` that remove the rows and columns of channels that are not ``kept``."""
    masks = dict(Masks.full(weights))
    for group, channels in zip(groups, kept, strict=True):
        for dimension, layers in enumerate((group.rows, group.columns)):
            for mask in (masks[name] for layer in layers if (name := f"{layer}.weight") in masks):
                # A flattened map is read by several columns.
                entries = channels.to(mask.device).repeat_interleave(mask.shape[dimension] // group.size)
                mask &= entries.reshape([-1 if d == dimension else 1 for d in range(mask.dim())])
    return Masks(masks)
