"""The parts that a pruner is put together from: score x distribution x schedule x structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from strategies.learning.recipe import Control
from strategies.pruning.distributions import Distribution, global_ranking
from strategies.pruning.schedules import Schedule
from strategies.pruning.scores import Score
from strategies.pruning.structures import Structure
from strategies.pruning.structures.unstructured import Unstructured
from strategies.registry import Scoring


@dataclass(frozen=True)
class PruningParts:
    """How a :class:`strategies.pruning.plugin.PruningPlugin` prunes; another one is made with ``dataclasses.replace``.

    Attributes:
        score: what ranks the weights.
        schedule: density at the start of each megabatch.
        scoring: how the score is used.
        distribution: how the density is shared among the layers.
        structure: what is pruned together.
        sample_fraction: samples a scoring uses, as a fraction of one megabatch.
        nested: whether a pruned weight stays pruned for ever.
        control: what the pruner is checked against instead of being run as it is.
        make_model: ``make_model(k)``, the model with its k-th initialisation, for the control that draws weights anew.
        seed: of the samples and of everything else that is drawn.
    """

    score: Score
    schedule: Schedule
    scoring: Scoring = field(default_factory=Scoring)
    distribution: Distribution = global_ranking
    structure: Structure = field(default_factory=Unstructured)
    sample_fraction: float = 0.2
    nested: bool = True
    control: Control = "none"
    make_model: Callable[[int], nn.Module] | None = None
    seed: int = 0
