"""Density schedules: which density a pruner brings the network to at the start of megabatch t.

A schedule is called with t = 0, 1, ... and answers with a density in (0, 1], or with None where it leaves the masks
alone. Density is the kept fraction. The registered ones are made from (density, megabatches): the density to end at,
and B, or None where the learner is not told how long the stream will be.

With B = 1 every schedule is at its final density at once. Without B, those that move approach it for ever instead: see
:func:`progress`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strategies.registry import SCHEDULES

STEP = 0.8
"""Kept fraction of one pruning step; APP's densities are powers of it (arXiv 2204.01640, section 3)."""

FINAL_DENSITY = STEP**4.5
"""What pruners end at unless told otherwise: APP's tau of 4.5, "about a third of the size" (arXiv 2204.01640)."""

HALFWAY = 2
"""Megabatch (from 0) at which a schedule of unknown length is half way to its final density."""


class Schedule(Protocol):
    """Density at the start of megabatch ``t`` (from 0), or None for no pruning there."""

    def __call__(self, t: int, /) -> float | None: ...


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
    """APP's: d_t = 0.8 ** s_t with s = linspace(1, tau, B), where 0.8 ** tau is the final density.

    That is a geometric sequence from 0.8 to the final density. With one megabatch the density is the final one (a plain
    linspace would stop at 0.8). For a final density above 0.8 the schedule stays there from the start. ``first`` is
    the density at the first megabatch: 0.8 prunes a fifth of the initial network, 1 leaves it dense.
    """

    density: float
    megabatches: int | None
    first: float = STEP

    def __call__(self, t: int, /) -> float:
        """Density at the start of megabatch ``t``, 0 <= t < B; the final one from there on."""
        reached, first = progress(t, self.megabatches), max(self.first, self.density)
        # Written out at the end, where the power would be off by a rounding.
        return self.density if reached == 1 else max(self.density, first * (self.density / first) ** reached)


@SCHEDULES.register("cubic", reference="Zhu and Gupta 2017, arXiv 1710.01878, equation 1")
@dataclass(frozen=True)
class Cubic:
    """GMP's: the sparsity rises as s_f (1 - (1 - t / (B - 1)) ** 3), fast at first, from dense.

    It is s_f + (s_i - s_f)(1 - (t - t_0) / (n dt)) ** 3 with initial sparsity s_i = 0 at t_0 = 0 and one pruning step
    a megabatch.
    """

    density: float
    megabatches: int | None

    def __call__(self, t: int, /) -> float:
        """Density at the start of megabatch ``t``."""
        return 1 - (1 - self.density) * (1 - (1 - progress(t, self.megabatches)) ** 3)


@SCHEDULES.register("linear")
@dataclass(frozen=True)
class Linear:
    """The same share of weights goes at every megabatch, from dense to the final density."""

    density: float
    megabatches: int | None

    def __call__(self, t: int, /) -> float:
        """Density at the start of megabatch ``t``."""
        return 1 - (1 - self.density) * progress(t, self.megabatches)


@SCHEDULES.register("one_shot")
@dataclass(frozen=True)
class OneShot:
    """Prune once, at the start of the first megabatch, straight to the final density."""

    density: float
    megabatches: int | None = None

    def __call__(self, t: int, /) -> float | None:
        """The final density at t = 0, afterwards None."""
        return self.density if t == 0 else None


@SCHEDULES.register("constant")
@dataclass(frozen=True)
class Constant:
    """The final density at every megabatch: without nesting, the mask is chosen anew each time."""

    density: float
    megabatches: int | None = None

    def __call__(self, t: int, /) -> float:
        """The final density."""
        return self.density


@SCHEDULES.register("none")
@dataclass(frozen=True)
class Never:
    """No pruning: the network stays dense."""

    density: float = 1.0
    megabatches: int | None = None

    def __call__(self, t: int, /) -> None:
        """None at every megabatch."""
