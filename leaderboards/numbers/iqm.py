"""The interquartile mean over the runs of several streams, with a stratified bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

RESAMPLES = 2000

SEED = 0
"""Of the resamples: the same runs have the same interval."""


@dataclass(frozen=True)
class Interval:
    """A value and where its 95 % interval begins and ends; None where a stream has one run, and nothing is drawn."""

    value: float
    low: float | None
    high: float | None


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the middle half of the last axis; where a quarter cuts a value, the rest of it counts in part."""
    n = values.shape[-1]
    places = np.arange(n)
    weights = np.clip(np.minimum(places + 1, 0.75 * n) - np.maximum(places, 0.25 * n), 0, None)
    return np.asarray(np.sort(values, axis=-1) @ (weights / weights.sum()), dtype=np.float64)


def iqm(streams: Sequence[Sequence[float]], confidence: float = 0.95) -> Interval:
    """Interquartile mean of all runs together, and its interval from resamples within each stream.

    Agarwal et al. (2021, arXiv 2108.13264), but for the percentiles: with a few runs a stream those of the resamples
    cover 88 % where they say 95. Here they are as far out as Hesterberg (2015, The American Statistician 69, section
    4.3) has it: n of the narrowness is that of the shortest stream, the t quantile has a degree of freedom less a
    stream than there are runs.

    Args:
        streams: values of the runs of each; streams of more runs have more weight.
        confidence: of the interval.

    Raises:
        ValueError: there are no values.
    """
    if not streams or not all(map(len, streams)):
        raise ValueError("an interquartile mean needs a value of each stream")
    values = [np.asarray(one, dtype=np.float64) for one in streams]
    middle = float(interquartile_mean(np.concatenate(values)))
    shortest = min(map(len, values))
    if shortest < 2:
        return Interval(middle, None, None)
    rng = np.random.default_rng(SEED)
    drawn = [one[rng.integers(0, len(one), (RESAMPLES, len(one)))] for one in values]
    freedom = sum(len(one) - 1 for one in values)
    reach = math.sqrt(shortest / (shortest - 1)) * special.stdtrit(freedom, (1 + confidence) / 2)
    tail = float(special.ndtr(-reach))
    low, high = np.quantile(interquartile_mean(np.concatenate(drawn, axis=1)), [tail, 1 - tail])
    return Interval(middle, float(low), float(high))
