"""gEns: an ensemble that grows by one network at every megabatch (ALMA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from avalanche.benchmarks import CLExperience
from avalanche.models import DynamicModule
from torch import Tensor, nn

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.learning.members import Members
from strategies.registry import STRATEGIES


class GrowingMembers(Members, DynamicModule):
    """Members of which only the newest one learns; Avalanche has a new one added before each training.

    In training mode the output is the newest member's logits and the others compute nothing. They have no gradients,
    so that the optimiser, weight decay included, passes them over, and their batch norm stays in eval mode.
    """

    def __init__(self, make_model: Callable[[int], nn.Module]):
        super().__init__([make_model(0)])
        self.make_model = make_model
        self._trained = False

    def adaptation(self, experience: CLExperience) -> None:
        """Before a training, but the first: freeze all members and add one. Avalanche calls this for tests, too."""
        if not self.training:
            return
        if self._trained:
            self.requires_grad_(False)
            self.members.append(self.make_model(len(self.members)))
            self.train()
        self._trained = True

    def train(self, mode: bool = True) -> Self:
        """Training mode is for the newest member alone."""
        super().train(mode)
        for frozen in self.members[:-1]:
            frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """The newest member's logits in training mode, log of the mean probability of all members otherwise."""
        return self.members[-1](x) if self.training else super().forward(x)


@STRATEGIES.register(
    "growing-ensemble", options=(), task_labels="ignored", reference="Caccia et al. 2021, arXiv 2106.09563 (gEns)"
)
def growing_ensemble(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """ALMA's gEns: a new network for each megabatch joins the frozen earlier ones.

    At megabatch t:

    1. freeze the members so far and add a randomly initialised one;
    2. train it alone on the replayed data;
    3. the predictor is the mean of all members' probabilities; the epoch of the new member that makes the ensemble's
       validation accuracy best is handed over.

    In ALMA the new member sees the newest megabatch only, which is ``--replay none``; with ``full`` it sees everything
    that has arrived. One training costs what it costs for one network, testing and storage grow with t. The training
    accuracy that is recorded is the newest member's, the validation accuracy the ensemble's.
    """
    return AnytimeStrategy(learner=learner, model=GrowingMembers(learner.make_model))
