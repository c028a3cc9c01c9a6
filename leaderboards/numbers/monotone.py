"""Whether a curve rises and falls beyond noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

DRAWS = 9999
"""Of the bootstrap, so that p has four digits."""


@dataclass(frozen=True)
class Departure:
    """How far a mean curve is from being monotone.

    Attributes:
        rms: root mean square distance to the nearest curve that only rises, or only falls; in units of the curve.
        p: that chance alone gives as much, if the mean curve is that nearest one; None for fewer than two curves.
    """

    rms: float
    p: float | None


def departure(curves: Sequence[Sequence[float]], draws: int = DRAWS) -> Departure:
    """The test of one curve a seed: least squares to a monotone mean, and a wild bootstrap over seeds.

    The nearest monotone curve is that of isotonic regression (Barlow et al. 1972), rising or falling. Under it curves
    are drawn again with the residual of each seed, whole, with its own sign or the other one (Wu 1986, with
    Rademacher's weights), so that what is alike in neighbouring megabatches and unlike in scatter stays so. With n
    seeds there are 2 to the power of n - 1 draws that differ: five cannot give a p below .06.

    Args:
        curves: one a seed, all of one length.
        draws: of the bootstrap; they are the same at each call.
    """
    values = np.asarray(curves, dtype=float)
    seeds, length = values.shape
    mean = values.mean(axis=0)
    nearest = min(
        (_monotone(mean, rising) for rising in (True, False)), key=lambda fit: float(((mean - fit) ** 2).sum())
    )
    rms = float(np.sqrt(((mean - nearest) ** 2).mean()))
    if seeds < 2:
        return Departure(rms, None)
    residuals = (values - mean) * np.sqrt(seeds / (seeds - 1))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(draws, seeds))
    as_far = 0
    for drawn in nearest + signs @ residuals / seeds:
        distance = min(((drawn - _monotone(drawn, rising)) ** 2).sum() for rising in (True, False))
        # Equal up to rounding is as far.
        as_far += np.sqrt(distance / length) >= rms * (1 - 1e-9)
    return Departure(rms, (1 + int(as_far)) / (1 + draws))


def _monotone(values: np.ndarray, rising: bool) -> np.ndarray:
    return np.asarray(isotonic_regression(values, increasing=rising).x)
