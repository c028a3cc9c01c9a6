"""Pareto fronts: what nothing else beats in two things at once."""

from __future__ import annotations

import math
from collections.abc import Mapping


def front(points: Mapping[int, tuple[float, float]]) -> list[int]:
    """Keys of the points that no other point is as good as in both coordinates and better than in one.

    Lower is better in both. Points that are not finite are on no front. Ordered by the first coordinate.
    """
    found: list[int] = []
    lowest = math.inf
    finite = {key: point for key, point in points.items() if all(map(math.isfinite, point))}
    for key, (first, second) in sorted(finite.items(), key=lambda item: (item[1], item[0])):
        if second < lowest or (found and points[found[-1]] == (first, second)):
            found.append(key)
            lowest = second
    return found
