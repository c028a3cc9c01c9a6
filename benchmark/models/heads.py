"""Other heads than a network's own, whatever network it is: one for each task, and one that grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from avalanche.benchmarks.scenarios import CLExperience
from avalanche.models import DynamicModule, MultiTaskModule
from torch import Tensor, nn

from benchmark.errors import UsageError
from strategies.pruning.masks import classifier_of

NO_CLASS = -1e6
"""Logit of what is no class of the task, or none yet: its probability is zero in float32. Avalanche's -1000 is not
enough where logits are divided by a temperature, as GraSP does by 200."""


class TaskHeads(MultiTaskModule):
    """A network whose linear classifier is cut into one head for each task.

    The head of a task begins as the rows of its classes in the classifier that the network was made with. Outputs keep
    the numbers of the classes: logits (batch, classes), where all but those of the image's task are
    :data:`NO_CLASS`. A head that no image of a batch asks for is not run and has no gradient.

    Attributes:
        classifier_name: all heads together are the classifier, which is not pruned.
        features: the network without its classifier.
        heads: a linear layer a task.
    """

    classifier_name = "heads"

    def __init__(self, network: nn.Module, tasks: Sequence[Sequence[int]]):
        """Take ``network`` apart; ``tasks`` are the classes of each task, all classes among them.

        Raises:
            UsageError: its classifier is no single linear layer.
        """
        super().__init__()
        name, classifier = _linear_classifier(
            network, "which a head for each task is made of: choose another --model, or --protocol class-incremental"
        )
        _replace(network, name, nn.Identity())
        self.features = network
        self.tasks = tuple(tuple(task) for task in tasks)
        self.classes = classifier.out_features
        self.heads = nn.ModuleList(_rows(classifier, task) for task in self.tasks)

    def forward(
        self, x: Tensor, task_labels: Tensor | int | Literal["all"] | None = "all"
    ) -> Tensor | dict[int, Tensor]:
        """Logits of the images' tasks.

        Args:
            x: images (batch, channels, height, width).
            task_labels: of the images, int64 (batch,), or one for all; ``all``, the default, gives the logits of all
                heads; None, as Avalanche has it, a dictionary with the answers of each task met so far.
        """
        if task_labels is None:
            return self.forward_all_tasks(x)
        if isinstance(task_labels, str):
            return self.all_heads(x)
        hidden = self.features(x)
        if isinstance(task_labels, int):
            return self._filled(hidden, {task_labels: slice(None)})
        found = task_labels.unique().tolist()
        rows = {task: (task_labels == task).nonzero()[:, 0] for task in found} if len(found) > 1 else {}
        return self._filled(hidden, rows or {task: slice(None) for task in found})

    def all_heads(self, x: Tensor) -> Tensor:
        """Logits of all classes, as if no task had been told."""
        return self._filled(self.features(x), {task: slice(None) for task in range(len(self.tasks))})

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Logits as if all images were of one task."""
        return self._filled(self.features(x), {task_label: slice(None)})

    def _filled(self, hidden: Tensor, rows: dict[int, Tensor | slice]) -> Tensor:
        """The logits of some rows of ``hidden`` by the head of each task."""
        logits: Tensor | None = None
        for task, own in rows.items():
            answers = self.heads[task](hidden[own])
            if logits is None:
                logits = answers.new_full((len(hidden), self.classes), NO_CLASS)
            columns = torch.tensor(self.tasks[task], device=hidden.device)
            whole = torch.arange(len(hidden), device=hidden.device)[own]
            logits = logits.index_put((whole[:, None], columns[None, :]), answers)
        assert logits is not None
        return logits


class GrowingHead(nn.Linear, DynamicModule):
    """A linear classifier that answers for the classes that training has met so far, as if it grew with them.

    Logits of others are :data:`NO_CLASS`, so that their probability is zero, and their rows have no gradient: training
    goes as if rows were added when a class comes, each with the values that the fixed head's have then where nothing
    but weight decay has touched them. A head that was told of no experience answers for all classes. What it was told
    is no part of its state dict, which is that of the plain network: weights that are put in from elsewhere, such as
    fresh ones, do not change it. Avalanche's ``IncrementalClassifier`` does the same by adding rows.
    """

    told: Tensor

    def __init__(self, linear: nn.Linear):
        # Its initial values are those of the layer: none are drawn.
        with torch.random.fork_rng(devices=[]):
            super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias
        told = torch.ones(linear.out_features, dtype=torch.bool, device=linear.weight.device)
        self.register_buffer("told", told, persistent=False)

    def adaptation(self, experience: CLExperience) -> None:
        """Answer for the classes of this and earlier experiences from now on, if it is trained on."""
        if self.training:
            self.told.fill_(False)
            self.told[list(experience.classes_seen_so_far)] = True

    def forward(self, input: Tensor) -> Tensor:
        """Logits (batch, classes) of features (batch, width)."""
        return super().forward(input).masked_fill(~self.told, NO_CLASS)


def with_growing_head(network: nn.Module) -> nn.Module:
    """``network``, its linear classifier put into a :class:`GrowingHead`.

    Raises:
        UsageError: its classifier is no single linear layer.
    """
    name, classifier = _linear_classifier(network, "which could grow: choose another --model, or leave out --head")
    _replace(network, name, GrowingHead(classifier))
    return network


def _linear_classifier(network: nn.Module, otherwise: str) -> tuple[str, nn.Linear]:
    """Name and module of the classifier of ``network``; ``otherwise`` is what the message says where there is none."""
    name = classifier_of(network) or ""
    classifier = network.get_submodule(name)
    if not name or not isinstance(classifier, nn.Linear):
        raise UsageError(f"{type(network).__name__} has no single linear layer as its classifier, {otherwise}")
    return name, classifier


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)


@torch.no_grad()
def _rows(classifier: nn.Linear, classes: Sequence[int]) -> nn.Linear:
    """The part of a classifier that answers for some classes."""
    has_bias = classifier.bias is not None
    # Its initial values are those of the rows: none are drawn.
    with torch.random.fork_rng(devices=[]):
        head = nn.Linear(classifier.in_features, len(classes), bias=has_bias)
    head.weight.copy_(classifier.weight[list(classes)])
    if has_bias:
        head.bias.copy_(classifier.bias[list(classes)])
    return head
