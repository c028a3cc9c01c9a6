"""Training that can be left between two steps of an experience, and gone on with in another process."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from avalanche.training.templates import SupervisedTemplate


class Watcher(Protocol):
    """Is told whenever a training is where it can be left: nothing of a step or an epoch is half done."""

    def after_step(self, strategy: SupervisedTemplate) -> None:
        """Between two steps of an epoch, or after its last one."""

    def after_epoch(self, strategy: SupervisedTemplate) -> None:
        """Between two epochs, or after the last one of an experience."""


@runtime_checkable
class Positioned(Protocol):
    """Batches of an epoch that can begin in its middle."""

    def skip(self, batches: int) -> None:
        """Let the next iteration be the last one once more, without its first ``batches``."""


class Continuable(SupervisedTemplate):
    """Avalanche's template, told apart into what a training has done and what is left of it.

    Attributes:
        watcher: is told when the training can be left; None where nobody asks.
        within_epoch: whether a step of the epoch under way has been taken.
    """

    # No __init__: see strategies.learning.execution.Executed.
    watcher: Watcher | None = None
    within_epoch = False
    _stop_training: bool

    def __getstate__(self) -> dict[str, Any]:
        """All but the watcher, which belongs to the process."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "watcher"}

    @property
    def is_under_way(self) -> bool:
        """Whether the training on an experience has begun and has not ended."""
        return self.is_training and self.experience is not None

    def finish_training(self) -> None:
        """Do what is left of the training on an experience that was left between two steps or epochs.

        Raises:
            RuntimeError: it was left within an epoch, and its batches cannot begin there.
        """
        if self.within_epoch:
            if not isinstance(self.dataloader, Positioned):
                raise RuntimeError(f"{type(self.dataloader).__name__} cannot begin in the middle of an epoch")
            self.dataloader.skip(self.clock.train_epoch_iterations)
            self.training_epoch()
            self._after_training_epoch()
        for _ in range(self.clock.train_exp_epochs, self.train_epochs):
            self._before_training_epoch()
            if self._stop_training:
                self._stop_training = False
                break
            self.training_epoch()
            self._after_training_epoch()
        self._after_training_exp()
        self._after_training()
        self._train_cleanup()

    def _after_training_iteration(self, **kwargs: Any) -> None:
        super()._after_training_iteration(**kwargs)
        self.within_epoch = True
        if self.watcher is not None and isinstance(self.dataloader, Positioned):
            self.watcher.after_step(self)

    def _after_training_epoch(self, **kwargs: Any) -> None:
        super()._after_training_epoch(**kwargs)
        self.within_epoch = False
        if self.watcher is not None:
            self.watcher.after_epoch(self)
