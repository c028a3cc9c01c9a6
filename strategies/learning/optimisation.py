"""Optimisation within a megabatch: the learning-rate schedule starts anew with every megabatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from strategies.learning.recipe import LearningRateSchedule

ScheduleFactory = Callable[[Optimizer, int], LRScheduler | None]
"""(optimiser, epochs of a megabatch) -> a schedule that is stepped once an epoch; None for a constant rate."""


def schedule_factory(name: LearningRateSchedule, *, milestones: Sequence[float], decay: float) -> ScheduleFactory:
    """The schedule of a recipe.

    Args:
        name: multistep, cosine (Loshchilov and Hutter 2017, arXiv 1608.03983, one cycle a megabatch) or constant.
        milestones: of multistep, fractions of the epochs: with (0.4, 0.8), 50 epochs decay after the 20th and the 40th.
        decay: of multistep, the factor of each decay.
    """

    def make(optimizer: Optimizer, epochs: int) -> LRScheduler | None:
        match name:
            case "multistep":
                # An epoch count so small that a milestone rounds to 0 must not start at the decayed rate.
                steps = [max(1, round(fraction * epochs)) for fraction in milestones]
                return MultiStepLR(optimizer, steps, gamma=decay)
            case "cosine":
                return CosineAnnealingLR(optimizer, T_max=epochs)
            case "constant":
                return None

    return make


class MegabatchOptimisation(SupervisedPlugin):
    """Puts the learning rate back to its start at each megabatch, where its schedule begins anew.

    The start is the rate that the optimiser was made with. Without a ``schedule`` the rate is left alone, as befits an
    optimiser that a strategy brings. With ``carry_momentum`` the optimiser's state survives from one megabatch to
    the next; without, each megabatch starts with fresh state.
    """

    def __init__(self, schedule: ScheduleFactory | None, *, carry_momentum: bool):
        super().__init__()
        self.schedule = schedule
        self.carry_momentum = carry_momentum
        self._running: LRScheduler | None = None

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start of a megabatch: learning rate, schedule and (if fresh) optimiser state begin again."""
        if not self.carry_momentum:
            strategy.optimizer.state.clear()
        if self.schedule is not None:
            for group in strategy.optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"])
            # A scheduler made here, not once, because each megabatch has a schedule of its own.
            self._running = self.schedule(strategy.optimizer, strategy.train_epochs)

    def after_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Advance the schedule by one epoch."""
        if self._running is not None:
            self._running.step()
