"""From a score to masks: at once, or in rounds that score what is left anew."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from strategies.pruning.distributions import Distribution
from strategies.pruning.masks import Masks
from strategies.pruning.scores import Batch, Score
from strategies.pruning.structures import Structure
from strategies.registry import Scoring


def choose(
    model: nn.Module,
    batches: Iterable[Batch],
    density: float,
    *,
    score: Score,
    scoring: Scoring,
    distribution: Distribution,
    structure: Structure,
    within: Masks | None = None,
) -> Masks:
    """Masks that bring ``model`` to ``density``; the model stays as it is.

    With one round the weights are scored once. With K rounds the density falls from that of ``within`` (dense without)
    by the same factor in each, d_0 (d / d_0) ** (k / K), and each round scores the network that the one before has
    left (SynFlow, Tanaka et al. 2020, algorithm 1; iterative SNIP and FORCE, de Jorge et al. 2021, section 4).

    Args:
        model: the network, pruned weights at zero.
        batches: what to score with; iterated anew in every round.
        density: kept fraction of all prunable weights.
        score, scoring: the score and how it is used.
        distribution, structure: how the density is shared out, and what is pruned together.
        within: only weights kept there may stay.
    """
    if scoring.rounds == 1:
        return structure.select(model, score(model, batches), density, distribution, within)
    begin = 1.0 if within is None else max(within.density, density)
    masks, scored = within, model
    for k in range(1, scoring.rounds + 1):
        # The last round is written out: the power would be off by a rounding.
        reached = density if k == scoring.rounds else begin * (density / begin) ** (k / scoring.rounds)
        if scoring.revives:
            scores = score(scored, batches, masks=masks)  # type: ignore[call-arg]
            masks = structure.select(model, scores, reached, distribution, within)
        else:
            masks = structure.select(model, score(scored, batches), reached, distribution, masks)
        scored = copy.deepcopy(model)
        if not scoring.revives:
            masks.apply_(scored)
        silence_(scored, masks, structure)
    assert masks is not None
    return masks


def zero_pruned_(model: nn.Module, masks: Masks, structure: Structure) -> None:
    """Set to zero, in place, the pruned weights and what the structure silences with them."""
    masks.apply_(model)
    silence_(model, masks, structure)


@torch.no_grad()
def silence_(model: nn.Module, masks: Masks, structure: Structure) -> None:
    """Set to zero, in place, what the structure silences with pruned weights: biases and norms of removed channels."""
    for name, pruned in structure.silenced(model, masks).items():
        model.get_parameter(name).masked_fill_(pruned, 0)
