"""SWA: stochastic weight averaging (Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from annotated_types import Interval
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.learning.averaging import WeightAveraging
from strategies.learning.evaluation import eval_batches
from strategies.learning.execution import execution_of
from strategies.learning.replay import training_mixture
from strategies.registry import STRATEGIES
from strategies.seeds import numpy_generator


class StochasticAverage(WeightAveraging):
    """The mean of the weights at the end of the later epochs, with batch-norm statistics of its own.

    Attributes:
        start: fraction of a megabatch's epochs before the first one that is averaged.
        seed: of the order of samples, where remembered ones join batches.
        forwarded_samples: samples run forward for batch-norm statistics, over the whole run.
    """

    def __init__(self, start: float, seed: int):
        super().__init__()
        self.start = start
        self.seed = seed
        self.forwarded_samples = 0

    def new_average(self, model: nn.Module) -> AveragedModel:
        """Equal weight for each epoch."""
        return AveragedModel(model)

    def after_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Take the epoch's last weights into the average, if it is late enough, and estimate the statistics anew."""
        if strategy.clock.train_exp_epochs >= int(self.start * strategy.train_epochs):
            self.average.update_parameters(strategy.model)
            with execution_of(strategy).autocast(strategy.device):
                update_bn(self._inputs(strategy), self.average, strategy.device)
        super().after_training_epoch(strategy)

    def _inputs(self, strategy: SupervisedTemplate) -> Iterator[Tensor]:
        dataset = strategy.adapted_dataset
        if strategy.joined:
            clock = strategy.clock
            rng = numpy_generator(self.seed, "statistics", clock.train_exp_counter, clock.train_exp_epochs)
            dataset = dataset.subset(training_mixture(strategy, 2 * (len(dataset) - strategy.joined), rng))
        for x, *_ in eval_batches(strategy, dataset.eval(), strategy.train_mb_size):
            self.forwarded_samples += len(x)
            yield x


@STRATEGIES.register("SWA", options=(), reference="Izmailov et al. 2018, arXiv 1803.05407, algorithm 1")
def swa(learner: Learner, pruning: Pruning, *, start: Annotated[float, Interval(ge=0, lt=1)] = 0.5) -> AnytimeStrategy:
    """Stochastic weight averaging: the predictor is the mean of the weights after each of the later epochs.

    In each megabatch:

    1. train as the dense learner does for the first ``start`` of the epochs;
    2. at the end of every epoch from there on, take the weights into an equally weighted mean;
    3. estimate the mean's batch-norm statistics with one pass over the training data;
    4. hand over the mean with the best validation accuracy; the next megabatch starts from the raw weights of that
       epoch, with a new mean.

    The paper goes on at a constant or cyclical, high learning rate while it averages. Here the rate follows the
    recipe's decay, which all rivals share: the weights that are averaged lie closer together. The pass for batch norm
    reads the data without augmentation, after each averaged epoch, because each could be handed over. Epochs before
    ``start`` are never handed over.
    """
    return AnytimeStrategy(learner=learner, plugins=[StochasticAverage(start, learner.seed)])
