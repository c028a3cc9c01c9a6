"""From scratch: the model is initialised anew at every megabatch."""

from __future__ import annotations

from collections.abc import Callable

from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.registry import STRATEGIES


class Restart(SupervisedPlugin):
    """Puts a fresh initialisation in place of the weights at the start of each megabatch."""

    def __init__(self, make_model: Callable[[int], nn.Module]):
        super().__init__()
        self.make_model = make_model

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Another draw for each megabatch; nothing of the one before survives, the optimiser's state included."""
        fresh = self.make_model(strategy.clock.train_exp_counter)
        strategy.model.load_state_dict(fresh.state_dict())
        strategy.optimizer.state.clear()


@STRATEGIES.register(
    "from-scratch",
    options=(),
    reference="Caccia et al. 2021, arXiv 2106.09563; Ash and Adams 2020, arXiv 1910.08475, section 2",
)
def from_scratch(learner: Learner, pruning: Pruning) -> AnytimeStrategy:
    """A fresh network at every megabatch, trained on all that is replayed: what a warm start is measured against.

    At the start of megabatch t:

    1. draw a new random initialisation, another one for each t;
    2. train it on the replayed data (with full replay: on everything that has arrived) and keep the best-validation
       weights.

    With ``--replay full`` it is what a learner without a stream would do after each megabatch, for as many epochs as
    the warm-started rivals get for the new data alone.
    """
    return AnytimeStrategy(learner=learner, plugins=[Restart(learner.make_model)])
