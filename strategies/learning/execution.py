"""How a network is run: in which precision, compiled or not. The function that it computes is the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from avalanche.models import MultiTaskModule
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Execution:
    """How forward and backward passes of training, validation and testing are run.

    Attributes:
        precision: ``fp32``, or ``bf16``: convolutions and matrix products in bfloat16, by autocast; weights, gradients,
            batch norm's statistics, loss and optimiser stay in float32. Scores of pruning take passes of their own, in
            fp32; only where RigL reads the gradient of a training step it is that of the step. What Avalanche's
            plugins compute beside training (LwF's teacher, DER's stored logits, EWC's importances) is in fp32.
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
    _compiled: tuple[Any, Any] | None = None
    _fixed_shapes: frozenset[torch.Size] = frozenset()
    _last_shape: torch.Size | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the compiled network, which is compiled anew when it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != "_compiled"}

    def forward(self) -> Tensor:
        """Logits of the current mini-batch, shape (batch, classes)."""
        with self.execution.autocast(self.device), torch.inference_mode(not self.is_training):
            return self.predict()

    def predict(self) -> Tensor:
        """What the network makes of the current mini-batch: logits (batch, classes). To be overridden, not called."""
        if isinstance(self.model, MultiTaskModule):
            # It takes task labels beside the images.
            return in_float32(super().forward())
        return in_float32(self.through(self.model))

    def through(self, network: Callable[[Tensor], T]) -> T:
        """What ``network`` makes of the current mini-batch, compiled where that was asked for and pays."""
        if self.is_training and self.execution.compiled and self._has_fixed_shape():
            return self._compiled_form(network)(self.mb_x)
        return network(self.mb_x)

    def _has_fixed_shape(self) -> bool:
        shape = self.mb_x.shape
        if self.clock.train_epoch_iterations > 0 and shape == self._last_shape:
            self._fixed_shapes |= {shape}
        self._last_shape = shape
        return shape in self._fixed_shapes

    def _compiled_form(self, network: Callable[[Tensor], T]) -> Callable[[Tensor], T]:
        if self._compiled is None or self._compiled[0] != network:
            # With CUDA graphs an output lives until the next step, which is as long as anyone looks at it.
            mode = "reduce-overhead" if self.device.type == "cuda" else None
            self._compiled = (network, torch.compile(network, mode=mode, dynamic=False))
        return self._compiled[1]


def in_float32(logits: Tensor) -> Tensor:
    """Logits of a bf16 pass as float32, others as they are: a softmax in bfloat16 would lose probabilities."""
    return logits.float() if logits.dtype == torch.bfloat16 else logits


def execution_of(strategy: SupervisedTemplate) -> Execution:
    """How ``strategy`` runs its network; in fp32 if it does not say."""
    return getattr(strategy, "execution", Execution())
