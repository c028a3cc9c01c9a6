"""A network for each task in one set of weights: a mask a task, and what an earlier task uses never moves again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from operator import or_
from typing import Any

import torch
from avalanche.benchmarks import DatasetExperience
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from strategies.pruning.masks import Masks, classifier_of, prunable_weights
from strategies.pruning.upkeep import HeldAsTheyAre

Weights = Mapping[str, Tensor]
"""Name of a prunable weight -> its values."""


class TaskMasks(SupervisedPlugin):
    """Keeps what earlier tasks use as it is, and tests each task with its own mask.

    A subclass says in ``masks`` which prunable weights the network of a task has. Weights in the mask of an earlier
    task may take part in later ones and do not move, by gradient, momentum or weight decay. Whatever else tasks share,
    biases and batch norm with its statistics, is learnt with the first task and frozen after it; a head is of one task
    anyway. So no earlier task ever answers differently.

    In a test the weights outside of the mask of the experience's task are zero in the model; after it, the model
    has the bits that it had. A task that has not been learnt is tested with all that others use.

    Attributes:
        masks: task -> the weights of its network.
        used: at a training, the weights that earlier tasks use.
        is_first: whether the training is, or was, that of the first task.
    """

    def __init__(self) -> None:
        super().__init__()
        self.masks: dict[int, Masks] = {}
        self.used: Masks | None = None
        self.is_first = True
        self.task = 0
        self._frozen: HeldAsTheyAre | None = None
        self._lent: tuple[Weights, Weights] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made anew before the next step: it looks at the bits of the weights."""
        return {**self.__dict__, "_frozen": None}

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Note what earlier tasks use, and freeze what has no mask once there is an earlier task."""
        self.task = task_of(strategy.experience)
        self.is_first = not self.masks
        self.used = self.union(strategy.model)
        self._frozen = None
        if not self.is_first:
            for parameter in shared_parameters(strategy.model).values():
                parameter.requires_grad_(False)

    def before_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """From the second task on, batch norm has the statistics of the first one, in training too."""
        if not self.is_first:
            for module in strategy.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def before_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Remember the values of frozen weights, unless that was done at an earlier step."""
        if self._frozen is None and not self.is_first:
            assert self.used is not None
            weights = prunable_weights(strategy.model)
            self._frozen = HeldAsTheyAre([(weights[name], mask) for name, mask in self.used.items()])

    def after_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Momentum and weight decay have moved frozen weights: put them back."""
        if self._frozen is not None:
            self._frozen()

    def before_eval(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Remember the weights of training, and those that masks are put on."""
        self._lent = copies(prunable_weights(strategy.model)), self.stored(strategy.model)

    def before_eval_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Put the network of the experience's task in place."""
        assert self._lent is not None
        masks = self.masks.get(task_of(strategy.experience)) if self.masks else None
        put_(strategy.model, self._lent[1], masks or self.union_or_all(strategy.model))

    def after_eval(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Put the weights of training back."""
        assert self._lent is not None
        put_(strategy.model, self._lent[0])
        self._lent = None

    @contextmanager
    def handed_over(self, model: nn.Module) -> Iterator[None]:
        """Context in which ``model`` has the weights that any task uses; all of them before the first training."""
        training = copies(prunable_weights(model))
        put_(model, self.stored(model), self.union_or_all(model))
        try:
            yield
        finally:
            put_(model, training)

    def stored(self, model: nn.Module) -> Weights:
        """The values that the masks of all tasks are put on: copies of those in the model, unless overridden."""
        return copies(prunable_weights(model))

    def union(self, model: nn.Module) -> Masks:
        """The weights that some task uses."""
        nothing = Masks({n: torch.zeros_like(w, dtype=torch.bool) for n, w in prunable_weights(model).items()})
        return reduce(or_, self.masks.values(), nothing)

    def union_or_all(self, model: nn.Module) -> Masks:
        """The same, or all weights where no task has been learnt."""
        return self.union(model) if self.masks else Masks.full(prunable_weights(model))


def copies(weights: Weights) -> Weights:
    """Copies that are no part of a graph."""
    return {name: weight.detach().clone() for name, weight in weights.items()}


@torch.no_grad()
def put_(model: nn.Module, values: Weights, masks: Masks | None = None) -> None:
    """Give the prunable weights of ``model`` these values, bit for bit, and zero where ``masks`` do not keep them."""
    for name, weight in prunable_weights(model).items():
        weight.copy_(values[name])
        if masks is not None:
            weight.masked_fill_(~masks[name], 0)


def shared_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What tasks share and no mask speaks of: all parameters but prunable weights and those of the classifier."""
    heads, prunable = f"{classifier_of(model)}.", prunable_weights(model)
    return {n: p for n, p in model.named_parameters() if n not in prunable and not n.startswith(heads)}


def task_of(experience: DatasetExperience) -> int:
    """The task of an experience.

    Raises:
        ValueError: it has none, or several.
    """
    tasks = list(getattr(experience, "task_labels", ()))
    if len(tasks) != 1:
        raise ValueError(f"a mask for each task needs experiences of one task each, not of {len(tasks)}")
    return int(tasks[0])
