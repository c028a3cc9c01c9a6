"""Intervals over seeds and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What scipy.stats.t is made of: the same numbers, without half a second of imports and half a millisecond a test.
from scipy import special

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """Mean over n runs; ``margin`` is half the width of its t interval, None for a single run."""

    mean: float
    margin: float | None
    n: int


LARGE = np.errstate(over="ignore", invalid="ignore")
"""What cannot be computed with values that are too large is infinite, or no number; that is no news."""


@LARGE
def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean and Student t interval; at 3 seeds it covers what it says, where a percentile bootstrap covers .76.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("an estimate needs at least one value")
    array = np.asarray(values, dtype=float)
    n = len(array)
    if n < 2:
        return Estimate(float(array.mean()), None, n)
    margin = special.stdtrit(n - 1, (1 + confidence) / 2) * array.std(ddof=1) / math.sqrt(n)
    return Estimate(float(array.mean()), float(margin), n)


@LARGE
def bands(
    values: NDArray[np.float64], confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """:func:`estimate` of each column at once.

    Args:
        values: (seeds, columns); NaN where a seed has none. Each column has a value.
        confidence: of the intervals.

    Returns:
        Means, margins (NaN where there is one value) and how many values there are, each (columns,).
    """
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    means = np.where(known, values, 0.0).sum(axis=0) / n
    squares = np.where(known, values - means, 0.0) ** 2
    freedom = np.maximum(n - 1, 1)
    margins = special.stdtrit(freedom, (1 + confidence) / 2) * np.sqrt(squares.sum(axis=0) / freedom / n)
    return means, np.where(n > 1, margins, np.nan), n


@dataclass(frozen=True)
class Comparison:
    """Paired difference (a - b) over common seeds and the p value of its t test, Holm-corrected or not."""

    difference: Estimate
    p: float | None


@LARGE
def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Comparison | None:
    """Compare two methods seed by seed; None without a common seed, no p value with fewer than two."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    differences = [a[seed] - b[seed] for seed in seeds]
    if len(seeds) < 2:
        return Comparison(estimate(differences), None)
    if np.allclose(differences, differences[0], rtol=0, atol=1e-12):
        # No variance: the t statistic is infinite, or undefined where the two never differ.
        return Comparison(estimate(differences), 1.0 if abs(differences[0]) < 1e-12 else 0.0)
    t = np.mean(differences) / (np.std(differences, ddof=1) / math.sqrt(len(seeds)))
    return Comparison(estimate(differences), float(2 * special.stdtr(len(seeds) - 1, -abs(t))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several comparisons, in the order given (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(order))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = running
    return [float(p) for p in corrected]
