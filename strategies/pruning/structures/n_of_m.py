"""N:M sparsity, which some hardware computes at twice the speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from strategies.pruning.distributions import Distribution
from strategies.pruning.masks import Masks, ranked
from strategies.pruning.structures import Structure, masked
from strategies.registry import STRUCTURES


@STRUCTURES.register(
    "n:m",
    reference="Zhou et al. 2021, arXiv 2102.04010; Mishra et al. 2021, arXiv 2104.08378",
    test_config={"structure": "2:4"},
)
@dataclass(frozen=True)
class NofM(Structure):
    """N of each M consecutive input-channel weights stay, at every position of the kernel (given as 2:4).

    The density asked for at the end is N / M, whatever the distribution. On the way there a density d keeps the
    smallest number of each M that is at least d, so that every mask is itself K:M. Where the input channels are no
    multiple of M the last group is smaller, and keeps as many of its weights as the others, if it has them: a first
    layer that reads one channel stays whole.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 0 < self.n <= self.m:
            raise ValueError(f"N:M keeps N of M weights, 0 < N <= M; got {self.n}:{self.m}")

    @property
    def final_density(self) -> float:  # type: ignore[override]
        """N / M."""
        return self.n / self.m

    def select(
        self,
        model: nn.Module,
        scores: Mapping[str, Tensor],
        density: float,
        distribution: Distribution,
        within: Masks | None = None,
    ) -> Masks:
        """The best of each group; of tied weights the earlier ones."""
        # The margin is for densities such as 0.8 ** log(0.5, 0.8), which is 0.5 up to rounding.
        kept = max(self.n, ceil(density * self.m - 1e-9))
        masks = {n: self._of_layer(s if within is None else masked(s, within[n]), kept) for n, s in scores.items()}
        chosen = Masks(masks)
        return chosen if within is None else chosen & within

    def _of_layer(self, score: Tensor, kept: int) -> Tensor:
        channels = score.shape[1]
        # (out, in, kh, kw) -> one row of input channels for each output channel and kernel position.
        rows = ranked(score).reshape(score.shape).movedim(1, -1).reshape(-1, channels)
        padding = -channels % self.m
        groups = torch.nn.functional.pad(rows, (0, padding), value=-torch.inf).reshape(len(rows), -1, self.m)
        order = groups.argsort(dim=-1, descending=True, stable=True)
        best = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :kept], True)
        inner = [score.shape[0], *score.shape[2:], channels]
        return best.reshape(len(rows), -1)[:, :channels].reshape(inner).movedim(-1, 1).contiguous()
