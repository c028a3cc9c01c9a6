"""Optimisation within a megabatch: the learning-rate schedule starts anew with every megabatch."""

from __future__ import annotations

from collections.abc import Sequence

from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch.optim.lr_scheduler import MultiStepLR


class MegabatchOptimisation(SupervisedPlugin):
    """Resets the learning rate at each megabatch and multiplies it by ``decay`` at fractions of its epochs.

    With ``milestones`` (0.4, 0.8), 50 epochs decay after the 20th and the 40th. With ``carry_momentum`` the
    optimiser's state survives from one megabatch to the next; without, each megabatch starts with fresh state.
    """

    def __init__(self, *, lr: float, milestones: Sequence[float], decay: float, carry_momentum: bool):
        super().__init__()
        self.lr = lr
        self.milestones = tuple(milestones)
        self.decay = decay
        self.carry_momentum = carry_momentum
        self._schedule: MultiStepLR | None = None

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start of a megabatch: learning rate, schedule and (if fresh) optimiser state begin again."""
        for group in strategy.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self.lr
        if not self.carry_momentum:
            strategy.optimizer.state.clear()
        # A scheduler made here, not once, because each megabatch has a schedule of its own. An epoch count
        # so small that a milestone rounds to 0 must not start at the decayed rate.
        epochs = [max(1, round(fraction * strategy.train_epochs)) for fraction in self.milestones]
        self._schedule = MultiStepLR(strategy.optimizer, epochs, gamma=self.decay)

    def after_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Advance the schedule by one epoch."""
        assert self._schedule is not None
        self._schedule.step()
