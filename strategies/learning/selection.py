"""Model selection: within each megabatch, the epoch with the best validation accuracy is handed over."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from strategies.learning.evaluation import correct_and_loss
from strategies.learning.recipe import Ties
from strategies.learning.replay import Memory
from strategies.learning.roles import PartOfPredictor, Readiness


class BestValidation(SupervisedPlugin):
    """Keeps the weights of the best validation epoch; that model is tested, and training goes on from it.

    The validation part of a megabatch is the attribute ``valid_dataset`` of its experience; ``memory`` says
    which earlier parts are used beside it. ``ties`` says which of equally good epochs wins (of equal losses, the last):
    with few validation images most epochs tie, and the first of them comes from before the rate has decayed. An
    epoch after which a plugin is not ready (:class:`strategies.learning.roles.Readiness`) is selected only if the
    megabatch has no other.

    Attributes:
        epoch: the selected epoch of the current megabatch, from 0.
        correct, samples: right predictions of the selected model, out of how many validation images.
        epochs_correct: right predictions after each epoch of the current megabatch.
        evaluated_samples: validation images run forward over the whole run.
    """

    def __init__(self, memory: Memory, ties: Ties = "last"):
        super().__init__()
        self.memory = memory
        self.ties = ties
        self.epoch = 0
        self.correct = 0
        self.samples = 0
        self.epochs_correct: list[int] = []
        self.evaluated_samples = 0
        self._validation: AvalancheDataset | None = None
        self._best: dict[str, Tensor] | None = None
        self._merit: tuple[bool, int, float] = (False, -1, 0.0)
        self._snapshots: list[tuple[PartOfPredictor, Any]] = []

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Take in the validation part of the new megabatch and forget the old megabatch's best."""
        self._validation = self.memory.observe(strategy.experience.valid_dataset)
        self.samples = len(self._validation)
        self.epochs_correct = []
        self._best = None

    @torch.no_grad()
    def after_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Validate, and keep a copy of the weights if no earlier epoch of this megabatch was better."""
        assert self._validation is not None
        correct, loss = self.validate(strategy, self._validation)
        self.evaluated_samples += self.samples
        self.epochs_correct.append(correct)
        ready = all(plugin.ready for plugin in strategy.plugins if isinstance(plugin, Readiness))
        merit = (ready, correct, -loss if self.ties == "loss" else 0.0)
        if self._best is None or merit > self._merit or (merit == self._merit and self.ties != "first"):
            self.correct = correct
            self.epoch = len(self.epochs_correct) - 1
            self._merit = merit
            self._snapshots = [(p, p.snapshot()) for p in strategy.plugins if isinstance(p, PartOfPredictor)]
            self._best = {name: value.clone() for name, value in strategy.model.state_dict().items()}

    def validate(self, strategy: SupervisedTemplate, dataset: AvalancheDataset) -> tuple[int, float]:
        """Right predictions on the validation images, and the sum of their losses."""
        return correct_and_loss(strategy, dataset)

    def after_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Hand over the best epoch's weights."""
        if self._best is not None:
            strategy.model.load_state_dict(self._best)
        for plugin, state in self._snapshots:
            plugin.restore(state)
        self._best = None
        self._snapshots = []
        self._validation = None
