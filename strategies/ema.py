"""EMA: an exponential moving average of the weights is handed over (Polyak averaging with a memory)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.learning.averaging import WeightAveraging
from strategies.registry import STRATEGIES


def warmed_up(decay: float, n: int) -> float:
    """Decay once ``n`` weights are averaged: min(decay, (1 + n) / (10 + n)), which forgets the first steps soon."""
    return min(decay, (1 + n) / (10 + n))


class ExponentialAverage(WeightAveraging):
    """theta_avg <- decay * theta_avg + (1 - decay) * theta after every optimiser step, batch-norm statistics too."""

    def __init__(self, decay: float):
        super().__init__()
        self.decay = decay

    def new_average(self, model: nn.Module) -> AveragedModel:
        """The first step's weights, and its buffers, are taken over as they are."""
        return AveragedModel(model, use_buffers=True)

    def after_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Take the new weights into the average."""
        decay = warmed_up(self.decay, int(self.average.n_averaged))
        self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)
        self.average.update_parameters(strategy.model)
        # A function within a function: it could not be saved with the average that it was made for.
        self.average.multi_avg_fn = None


@STRATEGIES.register(
    "EMA",
    options=(),
    reference="Polyak and Juditsky 1992; Tarvainen and Valpola 2017, arXiv 1703.01780, equation 2",
)
def ema(
    learner: Learner, pruning: Pruning, *, decay: Annotated[float, Interval(ge=0, lt=1)] = 0.999
) -> AnytimeStrategy:
    """The predictor is an exponential moving average of the weights; training goes on from the raw ones.

    1. Train as the dense learner does.
    2. After the n-th step of a megabatch, theta_avg <- d theta_avg + (1 - d) theta with d = min(decay, n / (9 + n));
       after the first one, theta_avg = theta.
    3. At the end of each epoch validate theta_avg, and hand over the best one.
    4. The next megabatch starts from the raw weights of that epoch, with a new average.

    A megabatch can have fewer steps than the average's memory of 1 / (1 - decay): the warm-up of the decay, and the
    new average for each megabatch, keep early weights from lingering. Batch-norm statistics are averaged in the same
    way. The training accuracy that is recorded is that of the raw weights.
    """
    return AnytimeStrategy(learner=learner, plugins=[ExponentialAverage(decay)])
