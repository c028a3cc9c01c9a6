"""IMP: iterative magnitude pruning with weight rewinding (Frankle and Carbin 2019; Frankle et al. 2020)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from annotated_types import Ge
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.registry import STRATEGIES


class Rewinding(PruningPlugin):
    """Puts weights, biases and batch norm back to what they were after ``rewind_to`` megabatches, and then prunes."""

    def __init__(self, parts: PruningParts, *, rewind_to: int):
        super().__init__(parts)
        self.rewind_to = rewind_to
        self._early: dict[str, Tensor] | None = None

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Remember the weights when the time has come."""
        if strategy.clock.train_exp_counter == self.rewind_to:
            self._early = {name: value.clone() for name, value in strategy.model.state_dict().items()}
        super().before_training_exp(strategy)

    def prune(self, strategy: SupervisedTemplate, density: float) -> None:
        """Choose by the magnitude of the trained weights; what stays starts again from its early value."""
        chosen = self.choose(strategy, density, within=self.masks)
        if self.parts.control == "reinitialise":
            self.draw_anew(strategy, chosen)
        elif self._early is not None:
            strategy.model.load_state_dict(self._early)
            # Momentum of the weights that training has left behind must not push the early ones.
            strategy.optimizer.state.clear()
        self.use(chosen, strategy.model)


@STRATEGIES.register(
    "IMP",
    options=("density", "scope", "structure", "control", "known_length"),
    reference="Frankle and Carbin 2019, arXiv 1803.03635, appendix B (1); Frankle et al. 2020, arXiv 1912.05671",
)
def imp(learner: Learner, pruning: Pruning, *, rewind_to: Annotated[int, Ge(0)] = 0) -> AnytimeStrategy:
    """Iterative magnitude pruning with weight rewinding: lottery tickets along the stream.

    1. Train the dense network on the first megabatch.
    2. At the start of every later megabatch remove the same fraction of the remaining weights, those of the smallest
       magnitude: the density goes from 1 to d, d_t = d ** (t / (B - 1)).
    3. Rewind what is left to its value after ``rewind_to`` megabatches (0: the initialisation), and train on the
       replayed data.

    What is carried from megabatch to megabatch is the mask alone, so that each training pays for a start from scratch.
    Before megabatch ``rewind_to`` weights are pruned and not rewound; a learner that waits counts its trainings.
    """
    parts = replace(pruning, score="magnitude", nested=True).parts(learner)
    parts = replace(parts, schedule=Progressive(pruning.density, learner.megabatches, first=1))
    return AnytimeStrategy(learner=learner, plugins=[Rewinding(parts, rewind_to=rewind_to)])
