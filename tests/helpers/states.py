"""Copies of a model's state, and a plugin that takes them, or anything else, while a strategy trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor, nn


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The model's state, as it is now."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two states have the same names and the same values, bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def state_of(strategy: Any) -> dict[str, Tensor]:
    """The state of the strategy's model, as it is now."""
    return copied(strategy.model)


class Diary(SupervisedPlugin, supports_distributed=False):
    """What a function of the strategy returned at certain moments.

    Attributes:
        started, ended: at the start and the end of each megabatch.
        steps, epochs: after each update and each epoch, a list a megabatch.
    """

    def __init__(self, note: Callable[[Any], Any] = state_of):
        super().__init__()
        self.note = note
        self.started: list[Any] = []
        self.ended: list[Any] = []
        self.steps: list[list[Any]] = []
        self.epochs: list[list[Any]] = []

    def before_training_exp(self, strategy, *args, **kwargs):
        self.started.append(self.note(strategy))
        self.steps.append([])
        self.epochs.append([])

    def after_update(self, strategy, *args, **kwargs):
        self.steps[-1].append(self.note(strategy))

    def after_training_epoch(self, strategy, *args, **kwargs):
        self.epochs[-1].append(self.note(strategy))

    def after_training_exp(self, strategy, *args, **kwargs):
        self.ended.append(self.note(strategy))
