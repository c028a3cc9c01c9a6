"""Density schedules: which density a pruner brings the network to at the start of megabatch t.

A schedule is called with t = 0, 1, ... and answers with a density in (0, 1], or with None where it leaves the masks
alone. Density is the kept fraction. The registered ones are made from (tau, megabatches): 0.8 ** tau is the final
density, ``megabatches`` is B, or None where the learner is not told how long the stream will be.

With B = 1 every schedule is at its final density at once. Without B, those that move approach it for ever instead: see
:func:`progress`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from strategies.registry import SCHEDULES

BASE = 0.8
"""Kept fraction of one pruning step; APP's densities are powers of it (arXiv 2204.01640, section 3)."""

HALFWAY = 2
"""Megabatch (from 0) at which a schedule of unknown length is half way to its final density."""


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


def progress(t: int, megabatches: int | None) -> float:
    """How far a schedule has come at megabatch ``t`` (from 0): 0 at the first megabatch, 1 at the last, 1 if B = 1.

    Where B is not known it is t / (t + 2): half way at the third megabatch, 0.82 of the way at the tenth, 0.98 at the
    hundredth. That serves a stream of any length, and gives up two things: the final density is approached and never
    met, and on a long stream most of the pruning happens early.
    """
    if megabatches is None:
        return t / (t + HALFWAY)
    return min(1.0, t / (megabatches - 1)) if megabatches > 1 else 1.0


@SCHEDULES.register("exponent", reference="Wadia et al. 2022, arXiv 2204.01640, section 3")
@dataclass(frozen=True)
class Progressive:
    """APP's: d_t = 0.8 ** s_t with s = linspace(1, tau, B).

    With one megabatch the density is the target's, 0.8 ** tau (a plain linspace would stop at 0.8). For a target above
    0.8 (tau < 1) the schedule stays at the target from the start. ``start`` is s at the first megabatch: 1 prunes a
    fifth of the initial network, 0 leaves it dense.
    """

    tau: float
    megabatches: int | None
    start: float = 1.0

    def __call__(self, t: int, /) -> float:
        """Density at the start of megabatch ``t``, 0 <= t < B; the target from there on."""
        start = min(self.start, self.tau)
        return density_of(start + (self.tau - start) * progress(t, self.megabatches))


@SCHEDULES.register("cubic", reference="Zhu and Gupta 2017, arXiv 1710.01878, equation 1")
@dataclass(frozen=True)
class Cubic:
    """GMP's: the sparsity rises as s_f (1 - (1 - t / (B - 1)) ** 3), fast at first, from dense.

    It is s_f + (s_i - s_f)(1 - (t - t_0) / (n dt)) ** 3 with initial sparsity s_i = 0 at t_0 = 0 and one pruning step
    a megabatch.
    """

    tau: float
    megabatches: int | None

    def __call__(self, t: int, /) -> float:
        """Density at the start of megabatch ``t``."""
        sparsity = 1 - density_of(self.tau)
        return 1 - sparsity * (1 - (1 - progress(t, self.megabatches)) ** 3)


@SCHEDULES.register("linear")
@dataclass(frozen=True)
class Linear:
    """The same share of weights goes at every megabatch, from dense to the final density."""

    tau: float
    megabatches: int | None

    def __call__(self, t: int, /) -> float:
        """Density at the start of megabatch ``t``."""
        return 1 - (1 - density_of(self.tau)) * progress(t, self.megabatches)


@SCHEDULES.register("one_shot")
@dataclass(frozen=True)
class OneShot:
    """Prune once, at the start of the first megabatch, straight to the final density."""

    tau: float
    megabatches: int | None = None

    def __call__(self, t: int, /) -> float | None:
        """The final density at t = 0, afterwards None."""
        return density_of(self.tau) if t == 0 else None


@SCHEDULES.register("constant")
@dataclass(frozen=True)
class Constant:
    """The final density at every megabatch: without nesting, the mask is chosen anew each time."""

    tau: float
    megabatches: int | None = None

    def __call__(self, t: int, /) -> float:
        """The final density."""
        return density_of(self.tau)


@SCHEDULES.register("none")
@dataclass(frozen=True)
class Never:
    """No pruning: the network stays dense."""

    tau: float = 0.0
    megabatches: int | None = None

    def __call__(self, t: int, /) -> None:
        """None at every megabatch."""
