"""Ranks of methods over several streams: the Friedman test and critical differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy  # SciPy imports its parts when they are used: scipy.stats takes half a second
from numpy.typing import NDArray
from scipy import special

LEAST_STREAMS = 6
"""From so many on ranks are tested: with fewer the approximations are off, and hardly anything could be shown."""


@dataclass(frozen=True)
class Friedman:
    """The test that methods do not differ, by their ranks on several streams.

    Attributes:
        statistic: F of Iman and Davenport.
        freedom: its degrees of freedom.
        p: its p value.
    """

    statistic: float
    freedom: tuple[int, int]
    p: float


def ranks(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of (streams, methods) within each stream: 1 is the lowest loss, equal ones share their mean rank."""
    return np.asarray(scipy.stats.rankdata(losses, axis=1), dtype=np.float64)


def friedman(losses: NDArray[np.float64]) -> Friedman | None:
    """Friedman's test with the F distribution of Iman and Davenport (1980), as Demsar (2006, JMLR 7, section 3.2.2).

    The chi-squared distribution would be too careful with few streams.

    Args:
        losses: (streams, methods), a mean over runs each.

    Returns:
        None with fewer than three methods, or fewer than :data:`LEAST_STREAMS` streams.
    """
    n, k = losses.shape
    if k < 3 or n < LEAST_STREAMS:
        return None
    freedom = k - 1, (k - 1) * (n - 1)
    if (losses == losses[:, :1]).all():
        return Friedman(0.0, freedom, 1.0)
    chi2 = float(scipy.stats.friedmanchisquare(*losses.T).statistic)
    room = n * (k - 1) - chi2
    # All streams have the same order: the statistic is infinite.
    statistic = (n - 1) * chi2 / room if room > 1e-9 else math.inf
    return Friedman(statistic, freedom, float(special.fdtrc(*freedom, statistic)))


def critical_difference(streams: int, methods: int, level: float = 0.05) -> float | None:
    """How far apart average ranks of two methods have to be to differ, for all pairs at once (Nemenyi 1963).

    q / sqrt(2) sqrt(k (k + 1) / (6 N)) with the studentised range q (Demsar 2006, JMLR 7, section 3.2.2).

    Returns:
        None with fewer than two methods, or fewer than :data:`LEAST_STREAMS` streams.
    """
    if methods < 2 or streams < LEAST_STREAMS:
        return None
    q = float(scipy.stats.studentized_range.ppf(1 - level, methods, math.inf))
    return q / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * streams))
