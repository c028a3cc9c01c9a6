"""Members of an ensemble in one module, whose prediction is the mean of theirs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def log_mean_probability(outputs: Sequence[Tensor]) -> Tensor:
    """log(1/N sum_i softmax(outputs_i)), shape (batch, classes), from N tensors of logits of that shape.

    As logits it gives the mean probabilities back: ``argmax`` is the ensemble's prediction and cross-entropy the
    negative logarithm of its probability for the label.
    """
    return torch.stack([logits.log_softmax(1) for logits in outputs]).logsumexp(0) - math.log(len(outputs))


class Members(nn.Module):
    """Networks of one task; the output is the logarithm of the mean of their probabilities."""

    def __init__(self, members: Iterable[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """The logits of each member."""
        return [member(x) for member in self.members]

    def forward(self, x: Tensor) -> Tensor:
        """Log of the mean probability of each class, shape (batch, classes)."""
        return log_mean_probability(self.outputs(x))

    def separate_networks(self) -> dict[str, nn.Module]:
        """Each member under its name in this module; see :class:`strategies.pruning.masks.SeparateNetworks`."""
        return {f"members.{i}": member for i, member in enumerate(self.members)}
