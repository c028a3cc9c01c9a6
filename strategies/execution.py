"""How a network is run: in which precision, compiled or not. The function that it computes is the same."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn


@dataclass(frozen=True)
class Execution:
    """How forward and backward passes of training, validation and testing are run.

    Attributes:
        precision: ``fp32``, or ``bf16``: convolutions and matrix products in bfloat16, by autocast; weights, gradients,
            batch norm's statistics, loss and optimiser stay in float32. Scores of pruning are always taken in fp32.
        compiled: whether training batches of a fixed shape run through ``torch.compile`` (with CUDA graphs on a GPU).
    """

    precision: str = "fp32"
    compiled: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Context in which the network's operations take the precision."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


class Executed(SupervisedTemplate):
    """Avalanche's template with forward passes that are run as ``execution`` says; behind another template, a mixin.

    Tests run in inference mode. Logits are float32 in bf16, too. A compiled network gets batches whose shape
    the batch before them had in the same epoch, or an earlier one; all others, such as the last of an epoch, run as
    they are, so that nothing is compiled twice for them.
    """

    # No __init__: Avalanche checks arguments against the bases of each class that has one, and would refuse those of a
    # template that stands in front.
    execution = Execution()
    _compiled: tuple[nn.Module, Any] | None = None
    _fixed_shapes: frozenset[torch.Size] = frozenset()
    _last_shape: torch.Size | None = None

    def forward(self) -> Tensor:
        """Logits of the current mini-batch, shape (batch, classes)."""
        with self.execution.autocast(self.device):
            if not self.is_training:
                with torch.inference_mode():
                    output = super().forward()
            elif self.execution.compiled and self._has_fixed_shape():
                output = self._compiled_model()(self.mb_x)
            else:
                output = super().forward()
        return output.float() if output.dtype == torch.bfloat16 else output

    def _has_fixed_shape(self) -> bool:
        shape = self.mb_x.shape
        if self.clock.train_epoch_iterations > 0 and shape == self._last_shape:
            self._fixed_shapes |= {shape}
        self._last_shape = shape
        return shape in self._fixed_shapes

    def _compiled_model(self) -> Any:
        if self._compiled is None or self._compiled[0] is not self.model:
            # With CUDA graphs an output lives until the next step, which is as long as anyone looks at it.
            mode = "reduce-overhead" if self.device.type == "cuda" else None
            self._compiled = (self.model, torch.compile(self.model, mode=mode, dynamic=False))
        return self._compiled[1]


def execution_of(strategy: SupervisedTemplate) -> Execution:
    """How ``strategy`` runs its network; in fp32 if it does not say."""
    return getattr(strategy, "execution", Execution())
