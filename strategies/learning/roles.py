"""Roles that a plugin may have beside Avalanche's hooks; a plugin has one by having its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn


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


@runtime_checkable
class NetworkPerTask(Protocol):
    """Holds a network for each task in one set of weights: an image is answered by that of its task, if that is told.

    Attributes:
        masks: task -> name of a weight -> which of its entries the network of the task has, boolean. Empty before the
            first training.
    """

    @property
    def masks(self) -> Mapping[int, Mapping[str, Tensor]]: ...

    def handed_over(self, model: nn.Module, /) -> AbstractContextManager[None]:
        """Context in which ``model`` has the weights that any task needs, the others being zero."""


def network_per_task(strategy: SupervisedTemplate) -> NetworkPerTask | None:
    """The plugin of ``strategy`` that holds a network for each task, if there is one."""
    return next((plugin for plugin in strategy.plugins if isinstance(plugin, NetworkPerTask)), None)


def handed_over(strategy: SupervisedTemplate) -> AbstractContextManager[None]:
    """Context in which the model of ``strategy`` has all the weights that are handed over, to be weighed or stored."""
    networks = network_per_task(strategy)
    return nullcontext() if networks is None else networks.handed_over(strategy.model)
