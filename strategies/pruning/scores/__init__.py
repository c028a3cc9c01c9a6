"""Scores: how much each weight matters. The highest are kept.

A score maps (model, batches) to one tensor per prunable weight, of the weight's shape, and leaves no trace:
parameters, gradients, batch-norm statistics, train/eval modes and the global random state stay as they were,
bit for bit. Batches are pairs (inputs, targets): ``inputs`` a tuple of tensors for ``model(*inputs)``,
``targets`` of shape (batch,). A score may read the batches several times, and must find the same ones every time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from strategies.pruning.masks import prunable_weights

Batch = tuple[tuple[Tensor, ...], Tensor]
Scores = dict[str, Tensor]


class Score(Protocol):
    """Score of every prunable weight; see the module's docstring."""

    def __call__(self, model: nn.Module, batches: Iterable[Batch], /) -> Scores: ...


def weights_and_gradients(model: nn.Module, batches: Iterable[Batch]) -> dict[str, tuple[Tensor, Tensor]]:
    """Each prunable weight beside the gradient of the mean cross-entropy over all samples of all batches.

    The model runs in training mode: at initialisation, batch norm's running statistics say nothing yet.

    Raises:
        ValueError: there is no sample to score with, or the model's output carries no gradient.
    """
    with scratch_copy(model) as copied:
        weights = prunable_weights(copied)
        samples = 0
        for inputs, targets in batches:
            # The sum over samples, divided once at the end, is exact for batches of unequal size.
            F.cross_entropy(output_of(copied, inputs), targets, reduction="sum").backward()
            samples += len(targets)
        if samples == 0:
            raise ValueError("a gradient score needs at least one sample")
        return {
            name: (weight.detach(), torch.zeros_like(weight) if weight.grad is None else weight.grad / samples)
            for name, weight in weights.items()
        }


def output_of(model: nn.Module, inputs: tuple[Tensor, ...], parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """What ``model``, or the same network with other ``parameters``, makes of ``inputs``: logits (batch, classes).

    Raises:
        ValueError: the output carries no gradient.
    """
    output = functional_call(model, dict(parameters or {}), inputs)
    if not torch.is_tensor(output) or not output.requires_grad:
        raise ValueError(f"{type(model).__name__} gives no gradient to score its weights by: use magnitude")
    return output


@contextmanager
def scratch_copy(model: nn.Module) -> Iterator[nn.Module]:
    """A copy of ``model`` in training mode without gradients, and a global random state that is put back.

    Working on a copy keeps the original bit-identical without bookkeeping of what a forward pass may touch.
    """
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), torch.enable_grad():
        copied = copy.deepcopy(model).train()
        copied.zero_grad(set_to_none=True)
        copied.requires_grad_(True)
        yield copied
