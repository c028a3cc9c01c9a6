"""Roles that a plugin may have beside Avalanche's hooks; a plugin has one by having its attributes."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class PartOfPredictor(Protocol):
    """Has state that belongs to the weights, such as masks: it is selected and restored with them."""

    def snapshot(self) -> Any:
        """The state that belongs to the weights as they are now; not changed afterwards."""

    def restore(self, state: Any, /) -> None:
        """Go back to a snapshot whose weights have just been restored."""


@runtime_checkable
class Readiness(Protocol):
    """Knows when the weights are no predictor yet, for instance because they are denser than they should be.

    Attributes:
        ready: false where an epoch that ends now is to be handed over only if the megabatch has no other.
    """

    @property
    def ready(self) -> bool: ...


@runtime_checkable
class ScoresSamples(Protocol):
    """Runs samples forward and backward beside training, to score weights.

    Attributes:
        scored_samples: how many, over the whole run; in passes of ordinary training.
    """

    @property
    def scored_samples(self) -> float: ...


@runtime_checkable
class ForwardsSamples(Protocol):
    """Runs samples forward, and no more, to train with: a teacher's answers, statistics of batch norm.

    Attributes:
        forwarded_samples: how many, over the whole run.
    """

    @property
    def forwarded_samples(self) -> int: ...
