"""Scores: how much each weight matters. The highest are kept.

A score maps (model, batches) to one tensor per prunable weight, of the weight's shape, and leaves no trace:
parameters, gradients, batch-norm statistics, train/eval modes and the global random state stay as they were,
bit for bit. Batches are pairs (inputs, targets): ``inputs`` a tuple of tensors for ``model(*inputs)``,
``targets`` of shape (batch,). A score may read the batches several times, and must find the same ones every time.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from strategies.pruning.masks import prunable_weights
from strategies.registry import SCORES

Batch = tuple[tuple[Tensor, ...], Tensor]
Scores = dict[str, Tensor]


class Score(Protocol):
    """Score of every prunable weight; see the module's docstring."""

    def __call__(self, model: nn.Module, batches: Iterable[Batch], /) -> Scores: ...


@dataclass(frozen=True)
class Scoring:
    """How a score is used: the traits of its registration that say more than the function itself.

    Attributes:
        rounds: the weights are pruned in this many rounds, scored anew in each; the density falls exponentially.
        revives: between rounds all weights compete again. The score is then called with ``masks``, those of the round
            before, and the dense model.
        samples: how many samples the score reads at most; None: as many as the strategy's scoring sample has.
        balanced: the sample holds every class equally often, as far as it can.
        passes: cost of a sample each time the score reads it, in forward and backward passes of ordinary training.
    """

    rounds: int = 1
    revives: bool = False
    samples: int | None = None
    balanced: bool = False
    passes: float = 1.0


@SCORES.register("magnitude", samples=0, reference="Han et al. 2015, arXiv 1506.02626")
def magnitude(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """abs(w): the largest weights stay. Reads no data."""
    return {name: weight.detach().abs() for name, weight in prunable_weights(model).items()}


@SCORES.register("random", samples=0)
def random(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """U(0, 1): the control that every score has to beat.

    Reads no data. The draw is seeded by the weights, so that it repeats with the run's seed, differs from one
    megabatch to the next and leaves the global generator alone.
    """
    weights = prunable_weights(model)
    digest = zlib.crc32(b"".join(w.detach().cpu().contiguous().numpy().tobytes() for w in weights.values()))
    generator = torch.Generator().manual_seed(digest)
    return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in weights.items()}


@SCORES.register("snip", reference="Lee et al. 2019, arXiv 1810.02340, equation 6")
def snip(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """abs(w * sum_b g_b): connection sensitivity (SNIP).

    The signed gradients of all batches are summed before the absolute value, so that one batch of 2n samples
    equals two of n. The gradient is taken with respect to the weights of the network as it stands: a pruned
    weight is zero and scores exactly zero, hence is not revived.
    """
    return {name: (weight * grad).abs() for name, (weight, grad) in weights_and_gradients(model, batches).items()}


@SCORES.register("taylor", reference="Molchanov et al. 2019, arXiv 1906.10771, equation 8")
def taylor_fo(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """(w * sum_b g_b) ** 2: first-order Taylor expansion of the loss change.

    For single weights this is SNIP squared, so a global ranking by it keeps the same weights as SNIP.
    """
    return {name: (weight * grad) ** 2 for name, (weight, grad) in weights_and_gradients(model, batches).items()}


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
