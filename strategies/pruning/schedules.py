"""Density schedules: which density a pruner brings the network to at the start of megabatch t.

A schedule is a frozen dataclass that is called with t = 0, 1, ... and answers with a density in (0, 1], or with
None where it leaves the masks alone. Density is the kept fraction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

BASE = 0.8
"""Kept fraction of one pruning step; APP's densities are powers of it (arXiv 2204.01640, section 3)."""


class Schedule(Protocol):
    """Density at the start of megabatch ``t`` (from 0), or None for no pruning there."""

    def __call__(self, t: int, /) -> float | None: ...


def density_of(tau: float) -> float:
    """Final density 0.8 ** tau: 0.366 for the default tau of 4.5."""
    return float(BASE**tau)


def tau_of(density: float) -> float:
    """Inverse of :func:`density_of`.

    Raises:
        ValueError: ``density`` is not in (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"density is the kept fraction and lies in (0, 1]; got {density}")
    return math.log(density) / math.log(BASE)


@dataclass(frozen=True)
class Progressive:
    """APP's schedule: d_t = 0.8 ** s_t with s = linspace(1, tau, B) (arXiv 2204.01640, section 3).

    With one megabatch the density is the target's, 0.8 ** tau (a plain linspace would stop at 0.8). For a
    target above 0.8 (tau < 1) the schedule stays at the target from the start.
    """

    tau: float
    megabatches: int

    def __call__(self, t: int, /) -> float:
        """Density at the start of megabatch ``t``, 0 <= t < B; the target from there on."""
        start = min(1.0, self.tau)
        progress = min(1.0, t / (self.megabatches - 1)) if self.megabatches > 1 else 1.0
        return density_of(start + (self.tau - start) * progress)


@dataclass(frozen=True)
class OneShot:
    """Prune once, at the start of the first megabatch, straight to ``density``."""

    density: float

    def __call__(self, t: int, /) -> float | None:
        """``density`` at t = 0, afterwards None."""
        return self.density if t == 0 else None
