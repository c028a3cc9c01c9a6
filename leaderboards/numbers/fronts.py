"""Pareto fronts: which rows of a board are worth their cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Board

LOSS = "anytime/cer_rate"
"""Metric: the rate of cumulative errors."""

STORED, KEPT = "size/bytes_bitmask", "size/memory_bytes"
"""Metrics: bytes of the network, and of all that a learner keeps between the experiences of a stream that shifts."""

TRAINING = ("compute/train_flops", "compute/train_flops_if_skipped")


@dataclass(frozen=True)
class Front:
    """Rows that no other row beats both in a cost and in a merit, by their ranks from the cheapest to the best."""

    cost: Measure
    merit: Measure
    ranks: Sequence[int]


def fronts(board: Board) -> list[Front]:
    """The fronts of what the board leads with against those costs in which its rows differ.

    Costs are bytes and FLOPs of training: bytes of all that is kept where every row says them, else of the network.
    """
    merit = board.lead
    if merit is None:
        return []
    memory = board.glossary.get(KEPT)
    told = memory is not None and all(memory.key in row.estimates for row in board.rows)
    found = []
    for name in (KEPT if told else STORED, *TRAINING):
        cost = board.glossary.get(name)
        if cost is None:
            continue
        points = {
            number: (row.estimates[cost.key].mean, -merit.better * row.estimates[merit.key].mean)
            for number, row in enumerate(board.rows, start=1)
            if cost.key in row.estimates and merit.key in row.estimates
        }
        if len({spent for spent, _ in points.values()}) > 1:
            found.append(Front(cost, merit, pareto(points)))
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
