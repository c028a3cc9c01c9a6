"""Pareto fronts: which rows of a board are worth their cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Board

LOSS = "anytime/cer_rate"
"""Metric that costs are weighed against: the rate of cumulative errors."""

COSTS = ("size/bytes_bitmask", "compute/train_flops", "compute/train_flops_if_skipped")
"""Metrics that a low error is paid with."""


@dataclass(frozen=True)
class Front:
    """Rows that no other row beats in both :data:`LOSS` and a cost, by their ranks from the cheapest to the best."""

    cost: Measure
    ranks: Sequence[int]


def fronts(board: Board) -> list[Front]:
    """The fronts of those of :data:`COSTS` in which rows of the board differ."""
    loss = board.glossary.get(LOSS)
    if loss is None:
        return []
    found = []
    for cost in (board.glossary[name] for name in COSTS if name in board.glossary):
        points = {
            number: (row.estimates[cost.key].mean, row.estimates[loss.key].mean)
            for number, row in enumerate(board.rows, start=1)
            if cost.key in row.estimates and loss.key in row.estimates
        }
        if len({spent for spent, _ in points.values()}) > 1:
            found.append(Front(cost, pareto(points)))
    return found


def pareto(points: Mapping[int, tuple[float, float]]) -> list[int]:
    """Those of some points (lower is better, both ways) that no other is at least as good as and better once.

    Ascending in the first coordinate. Equal points stay together; what is no number is left out.
    """
    known = [name for name, point in points.items() if all(map(math.isfinite, point))]
    front: list[int] = []
    lowest = math.inf
    for (_, loss), names in groupby(sorted(known, key=lambda name: points[name]), key=lambda name: points[name]):
        if loss < lowest:
            lowest = loss
            front += names
    return front
