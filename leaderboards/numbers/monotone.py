"""Whether a curve rises and falls beyond noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import isotonic_regression

EXACT = 13
"""Seeds up to which all choices of signs are gone through."""

DRAWS = 9999
"""Choices of signs that are drawn where there are more seeds."""


@dataclass(frozen=True)
class Departure:
    """How far a mean curve is from being monotone.

    Attributes:
        rms: root mean square distance to the nearest curve that only rises, or only falls; in units of the curve.
        p: that chance alone gives as much, if the mean curve is that nearest one; None for fewer than two curves.
    """

    rms: float
    p: float | None


def departure(curves: Sequence[Sequence[float]]) -> Departure:
    """The test of one curve a seed: least squares to a monotone mean, and a wild bootstrap over seeds.

    The nearest monotone curve is that of isotonic regression (Barlow et al. 1972), rising or falling. Under it curves
    are drawn again with the residual of each seed from it, whole, with its own sign or the other one (Wu 1986, with
    Rademacher's weights), so that what is alike in neighbouring megabatches and unlike in scatter stays so. What was
    observed is one of these draws: of n seeds no p is below 1 / 2^n.

    Args:
        curves: one a seed, all of one length.
    """
    values = np.asarray(curves, dtype=float)
    seeds = len(values)
    mean = values.mean(axis=0)
    nearest = min((_monotone(mean, rising) for rising in (True, False)), key=lambda fit: _distance(mean, fit))
    rms = _distance(mean, nearest)
    if seeds < 2:
        return Departure(rms, None)
    if seeds <= EXACT:
        signs = np.array(list(product([1.0, -1.0], repeat=seeds)))
    else:
        signs = np.vstack([np.ones(seeds), np.random.default_rng(0).choice([-1.0, 1.0], size=(DRAWS, seeds))])
    drawn = nearest + signs @ (values - nearest) / seeds
    distances = [min(_distance(one, _monotone(one, rising)) for rising in (True, False)) for one in drawn]
    # Equal up to rounding is as far.
    return Departure(rms, float(np.mean(np.array(distances) >= rms * (1 - 1e-9))))


def _distance(curve: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(((curve - other) ** 2).mean()))


def _monotone(values: np.ndarray, rising: bool) -> np.ndarray:
    return np.asarray(isotonic_regression(values, increasing=rising).x)
