"""Half of the weights go at every megabatch."""

from dataclasses import replace
from typing import Annotated

from annotated_types import Gt, Lt

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.plugin import PruningPlugin
from strategies.registry import STRATEGIES


@STRATEGIES.register("halving", version=2, options=("score", "scope"), reference="nobody 2026")
def halving(learner: Learner, pruning: Pruning, *, kept: Annotated[float, Gt(0), Lt(1)] = 0.5) -> AnytimeStrategy:
    """Half of the weights go at every megabatch, however many there are."""
    parts = replace(pruning.parts(learner), schedule=lambda t: kept**t)
    return AnytimeStrategy(learner=learner, plugins=[PruningPlugin(parts)])
