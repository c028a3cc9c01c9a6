"""Writers: each writes one kind of file about a run that has ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from avalanche.training.templates import SupervisedTemplate

from benchmark.config.run_config import RunConfig
from benchmark.streams.loading.images import StreamData
from strategies.pruning.masks import Masks
from strategies.pruning.plugin import PruningPlugin


@dataclass(frozen=True)
class Finished:
    """A run whose training is over: its configuration, the strategy with the last predictor, and its images."""

    config: RunConfig
    strategy: SupervisedTemplate
    data: StreamData

    @property
    def masks(self) -> Masks | None:
        """What the strategy's pruning keeps; None if nothing was pruned."""
        return next((p.masks for p in self.strategy.plugins if isinstance(p, PruningPlugin)), None)


class ArtifactWriter(ABC):
    """Writes one kind of file at the end of a run."""

    def watching(self, strategy: SupervisedTemplate, device: str) -> AbstractContextManager[object]:
        """A context in which the strategy trains, for what has to be seen while it does."""
        return nullcontext()

    @abstractmethod
    def write(self, run: Finished, folder: Path) -> str | None:
        """Write into ``folder``; a line for the reader that may hold ``{place}``, the address of the run's files.

        Raises:
            ValueError: there is nothing to write; the message says why.
        """
