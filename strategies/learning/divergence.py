"""Divergence: a run whose loss or weights stop being finite ends there, and is no result."""

from __future__ import annotations

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate


class Diverged(ArithmeticError):
    """Loss or weights are no longer finite; the message says at which megabatch and epoch."""


class DivergenceGuard(SupervisedPlugin):
    """Looks at the end of each epoch whether its losses and the weights it left are all finite.

    Losses are added up on the device, so that nothing waits for them within an epoch.

    Raises:
        Diverged: they are not.
    """

    def before_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Forget the last epoch's losses."""
        self._losses = torch.zeros((), device=strategy.device)

    def after_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """A sum is finite only if all of its terms are."""
        self._losses += strategy.loss.detach().sum()

    def after_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Stop a run that goes nowhere."""
        finite = [parameter.detach().isfinite().all() for parameter in strategy.model.parameters()]
        what = {"loss": self._losses.isfinite(), "weights": torch.stack(finite).all()}
        for name, is_finite in what.items():
            if not is_finite:
                experience = strategy.experience
                megabatch = getattr(experience, "last_megabatch", experience.current_experience + 1)
                epoch = strategy.clock.train_exp_epochs + 1
                verb = "is" if name == "loss" else "are"
                raise Diverged(
                    f"diverged at megabatch {megabatch}, epoch {epoch}: the {name} {verb} not finite; lower --lr"
                )
