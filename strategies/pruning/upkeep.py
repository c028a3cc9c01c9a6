"""Keeping entries where they are while an optimiser moves everything: all tensors in one multi-tensor operation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_WHOLE_NUMBERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an entry -> the integers of that size."""


class HeldAtZero:
    """Tensors with entries that have to stay zero, such as pruned weights and their momentum.

    Calling it sets those entries to zero in place, without waiting for the device. The bits of every entry are
    multiplied, as a whole number, by 1 or 0: kept entries keep their bits, and an entry that has diverged becomes zero,
    where the floating-point product nan * 0 would stay nan. ``masked_fill_`` does the same one tensor at a time, and
    on a CPU many times slower.

    Args:
        held: pairs of a tensor and a boolean tensor of its shape, True where it is held at zero.
    """

    def __init__(self, held: Iterable[tuple[Tensor, Tensor]]):
        self._bits: list[Tensor] = []
        self._factors: list[Tensor] = []
        shared: dict[tuple[object, ...], Tensor] = {}
        # Held together, so that no two of the masks can have one identity after the other.
        pairs = list(held)
        for tensor, zero in pairs:
            bits = tensor.detach().view(_WHOLE_NUMBERS[tensor.element_size()])
            # A weight and its momentum share one factor, laid out in memory as they are.
            key = (id(zero), bits.dtype, bits.stride())
            if key not in shared:
                shared[key] = torch.empty_like(bits).copy_(~zero)
            self._bits.append(bits)
            self._factors.append(shared[key])

    @torch.no_grad()
    def __call__(self) -> None:
        """Set the held entries to zero."""
        if self._bits:
            torch._foreach_mul_(self._bits, self._factors)


class HeldAsTheyAre(HeldAtZero):
    """Tensors with entries that have to keep the values that they have now, such as weights of an earlier task.

    Calling it puts these values back in place, bit for bit, whatever became of them.

    Args:
        held: pairs of a tensor and a boolean tensor of its shape, True where it is held.
    """

    def __init__(self, held: Iterable[tuple[Tensor, Tensor]]):
        super().__init__(held)
        pairs = zip(self._bits, self._factors, strict=True)
        self._values = [bits * (1 - factor) for bits, factor in pairs]

    @torch.no_grad()
    def __call__(self) -> None:
        """Put the held entries back."""
        super().__call__()
        if self._bits:
            torch._foreach_add_(self._bits, self._values)
