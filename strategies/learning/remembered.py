"""What a strategy keeps from one experience to the next beside its network: images, and numbers about weights."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.optim import Optimizer

NOT_KEPT = frozenset(
    {
        *("plugins", "evaluator", "optimizer", "criterion", "_criterion", "clock", "loader", "dataloader", "loss"),
        *("experience", "adapted_dataset", "current_eval_stream", "eval_streams"),
    }
)
"""Attributes of Avalanche's templates that are there for an experience, or are counted elsewhere."""

OF_A_STEP = ("mb", "batch_logits")
"""What names of attributes that are there for a step begin with."""

LABELS = frozenset({"targets", "targets_task_labels", "sample_id"})
"""What every image of a stream has."""

FOR_THE_NEXT_STEP = frozenset(
    {"G", "reference_gradients", "iter_grad", "iter_params", "old_theta", "new_theta", "grad", "trajectory"}
)
"""What Avalanche's GEM, A-GEM, RWalk and SI hold by these names, and make anew in each step or experience."""

NOT_WEIGHED = (EvaluationPlugin, Optimizer)


@dataclass(frozen=True)
class Remembered:
    """What is kept.

    Attributes:
        images: different images, by their ``sample_id``, those for validation included.
        image_bytes: of them, one for each pixel and channel.
        tensor_bytes: of all else: copies of networks, importances of weights, logits, images kept as numbers.
    """

    images: int
    image_bytes: int
    tensor_bytes: int

    @property
    def bytes(self) -> int:
        """Of everything."""
        return self.image_bytes + self.tensor_bytes


def remembered(strategy: SupervisedTemplate, not_of: str) -> Remembered:
    """What ``strategy`` and its plugins hold between two experiences, each tensor and image once.

    The network itself and the state of its optimiser are not counted, nor is what plugins of the package ``not_of``
    hold: they measure.
    """
    found = _Found(strategy.model)
    own = {n: v for n, v in vars(strategy).items() if n not in NOT_KEPT and not n.startswith(OF_A_STEP)}
    found.look_at(own)
    found.look_at([one for one in strategy.plugins if type(one).__module__.partition(".")[0] != not_of])
    logits = sum(found.of_images.values())
    return Remembered(len(found.images), sum(found.images.values()), found.tensor_bytes + logits)


class _Found:
    """Walks through objects of Avalanche and the strategies, and adds up what it comes across."""

    def __init__(self, network: nn.Module):
        self.images: dict[int, int] = {}
        self.of_images: dict[tuple[str, int], int] = {}
        self.tensor_bytes = 0
        self._known: dict[int, object] = {id(network): network}
        own = network.state_dict().values()
        self._counted = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in own}

    def look_at(self, root: object) -> None:
        """Add up what is in ``root``."""
        waiting = [root]
        while waiting:
            value = waiting.pop()
            if id(value) in self._known or isinstance(value, NOT_WEIGHED):
                continue
            # Held, so that no other object can come to have its identity.
            self._known[id(value)] = value
            if isinstance(value, Tensor):
                self._add(value)
            elif isinstance(value, np.ndarray):
                self.tensor_bytes += value.nbytes
            elif isinstance(value, AvalancheDataset):
                self._add_images(value)
            else:
                waiting += _parts(value)

    def _add(self, tensor: Tensor) -> None:
        # A single number counts something, such as samples; masks are weighed with the network, a bit for each weight.
        if not tensor.ndim or tensor.dtype == torch.bool:
            return
        place = tensor.untyped_storage().data_ptr()
        # Of tensors that share numbers the largest one counts.
        self.tensor_bytes += max(0, tensor.nbytes - self._counted.get(place, 0))
        self._counted[place] = max(tensor.nbytes, self._counted.get(place, 0))

    def _add_images(self, dataset: AvalancheDataset) -> None:
        if not len(dataset):
            return
        # Without augmentation an image is as many numbers as it has pixels, times channels.
        size, numbers = math.prod(dataset.eval()[0][0].shape), [int(one) for one in dataset.sample_id]
        self.images |= dict.fromkeys(numbers, size)
        for name, attribute in dataset._data_attributes.items():
            if name not in LABELS and isinstance(attribute[0], Tensor):
                self.of_images |= dict.fromkeys(((name, one) for one in numbers), attribute[0].nbytes)


def _parts(value: Any) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from (part for name, part in value.items() if name not in FOR_THE_NEXT_STEP)
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from value
    elif isinstance(value, nn.Module):
        yield from value.state_dict().values()
    elif type(value).__module__.partition(".")[0] in ("avalanche", "strategies"):
        state = value.__getstate__()
        states: Iterable[object] = state if isinstance(state, tuple) else (state,)
        yield from (one for one in states if isinstance(one, Mapping))
