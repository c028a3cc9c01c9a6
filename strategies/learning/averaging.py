"""Weight averaging: an average of the weights is handed over, and training goes on from the raw ones."""

from __future__ import annotations

from abc import ABC, abstractmethod

from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

State = dict[str, Tensor]


class WeightAveraging(SupervisedPlugin, ABC):
    """Keeps an average of the weights of each megabatch and lends it to the model between epochs.

    At the end of an epoch the average takes the place of the raw weights: it is what selection validates and keeps,
    what metrics see and what is tested. The raw weights return before the next epoch; those of the selected epoch
    are where the next megabatch starts. Each megabatch has an average of its own, because its learning rate starts
    high again and the weights leave the place that they were averaged around.
    """

    def __init__(self) -> None:
        super().__init__()
        self._average: AveragedModel | None = None
        self._raw: State | None = None

    @abstractmethod
    def new_average(self, model: nn.Module) -> AveragedModel:
        """An average that holds nothing yet, for the shape of ``model``."""

    @property
    def average(self) -> AveragedModel:
        """The average of the current megabatch."""
        assert self._average is not None
        return self._average

    @property
    def ready(self) -> bool:
        """Whether there is an average to hand over."""
        return self._average is not None and bool(self._average.n_averaged > 0)

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start a new average; training goes on from raw weights."""
        self._resume(strategy.model)
        self._average = self.new_average(strategy.model)

    def before_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Train on raw weights."""
        self._resume(strategy.model)

    def after_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Put the average, if there is one, in place of the raw weights, before anything looks at the model."""
        self._raw = {name: value.clone() for name, value in strategy.model.state_dict().items()}
        if self.ready:
            strategy.model.load_state_dict(self.average.module.state_dict())

    def snapshot(self) -> State | None:
        """The raw weights behind the average."""
        return self._raw

    def restore(self, raw: State | None) -> None:
        """Go on from these raw weights; their average has just been restored."""
        self._raw = raw

    def _resume(self, model: nn.Module) -> None:
        if self._raw is not None:
            model.load_state_dict(self._raw)
            self._raw = None
