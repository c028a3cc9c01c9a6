"""Predictions of a strategy's model on a data set, outside Avalanche's evaluation loop.

Model selection and gap metrics need accuracies in the middle of training; ``strategy.eval`` there would run
every plugin's and metric's evaluation hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.models.utils import avalanche_forward
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from strategies.learning.execution import execution_of


def eval_batches(strategy: SupervisedTemplate, dataset: AvalancheDataset, batch_size: int) -> Iterable[list[Tensor]]:
    """Batches [x, y, task] of ``dataset`` as it is: in order, through the strategy's own loader if it has one."""
    own = getattr(strategy, "loader", None)
    if own is not None:
        return own.eval_batches(dataset, batch_size)
    # A loader without a generator of its own draws from the global one, and would change what comes after.
    options: dict[str, Any] = {"batch_size": batch_size, "generator": torch.Generator()}
    if getattr(dataset, "collate_fn", None) is not None:
        options["collate_fn"] = dataset.collate_fn
    return DataLoader(dataset, **options)


def train_batches(strategy: SupervisedTemplate, dataset: AvalancheDataset, batch_size: int) -> Iterable[list[Tensor]]:
    """Batches [x, y, task] of ``dataset`` augmented as in training, through the strategy's own loader if it has one.

    The draws are fixed by the learner's seed and the megabatch; without a loader they are Avalanche's, from the global
    random state, which is put back.
    """
    own = getattr(strategy, "loader", None)
    if own is not None:
        return own.train_batches(dataset, batch_size, strategy.clock.train_exp_counter)
    with torch.random.fork_rng():
        return list(eval_batches(strategy, dataset.train(), batch_size))


def count_correct(strategy: SupervisedTemplate, dataset: AvalancheDataset) -> int:
    """How many samples of ``dataset``, in eval transforms and eval mode, the strategy's model gets right.

    The model's train/eval modes are put back; batch norm is not updated.
    """
    return correct_and_loss(strategy, dataset)[0]


@torch.inference_mode()
def correct_and_loss(
    strategy: SupervisedTemplate, dataset: AvalancheDataset, batches: Iterable[list[Tensor]] | None = None
) -> tuple[int, float]:
    """Right predictions on ``dataset``, as :func:`count_correct` has them, and the sum of the cross-entropies.

    ``batches`` takes the place of those of the data set as it is.
    """
    correct = torch.zeros((), dtype=torch.long, device=strategy.device)
    loss = torch.zeros((), dtype=torch.float64, device=strategy.device)
    for output, y in _answers(strategy, dataset, batches):
        correct += (output.argmax(1) == y).sum()
        loss += F.cross_entropy(output.float(), y, reduction="none").sum(dtype=torch.float64)
    return int(correct), float(loss)


@torch.inference_mode()
def which_are_correct(strategy: SupervisedTemplate, dataset: AvalancheDataset) -> Tensor:
    """Whether each sample is predicted right, as :func:`count_correct` has it; boolean (n,), on the CPU."""
    return torch.cat([output.argmax(1) == y for output, y in _answers(strategy, dataset)]).cpu()


def _answers(
    strategy: SupervisedTemplate, dataset: AvalancheDataset, batches: Iterable[list[Tensor]] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and classes, batch by batch; the model's modes are put back afterwards."""
    modes = {module: module.training for module in strategy.model.modules()}
    strategy.model.eval()
    with execution_of(strategy).autocast(strategy.device):
        if batches is None:
            batches = eval_batches(strategy, dataset.eval(), max(strategy.eval_mb_size, 1))
        for x, y, *task in batches:
            x, y = x.to(strategy.device), y.to(strategy.device)
            yield (avalanche_forward(strategy.model, x, task[0]) if task else strategy.model(x)), y
    for module, training in modes.items():
        module.training = training
