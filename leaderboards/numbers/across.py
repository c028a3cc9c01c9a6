"""Across streams: boards of one kind of protocol pooled, and strategies ranked over their streams."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Board, Row
from leaderboards.numbers.iqm import Interval, iqm
from leaderboards.numbers.ranks import Friedman, critical_difference, friedman, ranks
from leaderboards.numbers.report import BASELINE

OF_STREAM = (
    "stream",
    "stream_version",
    "resolution",
    "megabatches",
    "shots",
    "test_shots",
    "stratified",
    "model",
    "model_version",
    "epochs",
    "batch_size",
)
"""Protocol fields that go with a stream: boards of one pool may differ in them, and in nothing else."""


@dataclass(frozen=True)
class Placed:
    """A strategy among the others of a pool.

    Attributes:
        name: of its row.
        ranks: one a stream of the pool, 1 for the best value.
        mean_rank: their mean.
        iqm: interquartile mean over all runs of all streams; see :attr:`Pool.against`. None where it has no common
            seed with the baseline on some stream.
    """

    name: str
    ranks: Sequence[float]
    mean_rank: float
    iqm: Interval | None


@dataclass(frozen=True)
class Pool:
    """Boards of several streams that agree in everything but :data:`OF_STREAM`, and the strategies on all of them.

    Attributes:
        boards: all of them.
        streams: what they are called. Several boards of one stream are averaged, seed by seed, and count once: they
            are not independent.
        data: ``real`` or ``synthetic``.
        shared: protocol fields, as all boards have them.
        measure: what strategies are ranked by: the one that the boards lead with.
        placed: the strategies, the lowest average rank first; none where fewer than two are on every board.
        left_out: names of those that are on some boards alone, or without a seed that all boards of a stream have.
        against: strategy whose value with the same seed is subtracted before the interquartile mean, so that streams
            can be compared; None where it is not in the pool. Values without it are as they are.
        test: whether ranks differ at all; None where :func:`leaderboards.numbers.ranks.friedman` says so.
        critical: difference of average ranks from which on two strategies differ; None as well.
    """

    boards: Sequence[Board]
    streams: Sequence[str]
    data: str
    shared: Mapping[str, Any]
    measure: Measure
    placed: Sequence[Placed]
    left_out: Sequence[str]
    against: str | None
    test: Friedman | None
    critical: float | None


def pools(boards: Sequence[Board]) -> list[Pool]:
    """The pools of two streams or more, the largest first."""
    alike: dict[str, list[Board]] = defaultdict(list)
    for board in boards:
        if board.lead is not None:
            alike[json.dumps([board.data, board.lead.name, _shared(board)], sort_keys=True)].append(board)
    several = [members for members in alike.values() if len({board.label for board in members}) > 1]
    found = [_pool(members, members[0].lead) for members in several if members[0].lead is not None]
    return sorted(found, key=lambda pool: -len(pool.streams))


def _shared(board: Board) -> dict[str, Any]:
    return {name: value for name, value in board.protocol.items() if name not in OF_STREAM}


Values = Mapping[str, Mapping[int, float]]
"""Stream -> seed -> value."""


def _pool(boards: Sequence[Board], measure: Measure) -> Pool:
    first = boards[0]
    streams = list(dict.fromkeys(board.label for board in boards))
    rows: dict[str, list[tuple[Board, Row]]] = defaultdict(list)
    for board in boards:
        for row in board.rows:
            rows[_key(row.variant, row.extra)].append((board, row))
    values: dict[str, Values] = {}
    for key, members in rows.items():
        own = _values(members, measure.name) if len(members) == len(boards) else {}
        if all(own.get(stream) for stream in streams):
            values[key] = own
    left_out = [rows[key][0][1].name for key in rows if key not in values]
    if len(values) < 2:
        values = {}
    sign = -measure.better or 1
    losses = np.array([[sign * fmean(own[s].values()) for own in values.values()] for s in streams], dtype=np.float64)
    of_streams = ranks(losses)
    against = BASELINE if _baseline(values, rows) is not None else None
    placed = []
    for number, key in enumerate(values):
        row, own = rows[key][0][1], values[key]
        base = values.get(_baseline(values, rows, row.extra) or "")
        spread = _iqm(own, base, streams) if base or against is None else None
        placed.append(Placed(row.name, of_streams[:, number].tolist(), float(of_streams[:, number].mean()), spread))
    return Pool(
        boards=boards,
        streams=streams,
        data=first.data,
        shared=_shared(first),
        measure=measure,
        placed=sorted(placed, key=lambda one: (one.mean_rank, one.name)),
        left_out=sorted(set(left_out)),
        against=against,
        test=friedman(losses),
        critical=critical_difference(*losses.shape),
    )


def _key(variant: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    return json.dumps([variant, extra], sort_keys=True)


def _baseline(
    values: Mapping[str, Values],
    rows: Mapping[str, Sequence[tuple[Board, Row]]],
    extra: Mapping[str, Any] | None = None,
) -> str | None:
    """The pooled baseline under some conditions, or under any."""
    for key in values:
        row = rows[key][0][1]
        if row.variant["strategy"] == BASELINE and extra in (None, row.extra):
            return key
    return None


def _values(members: Sequence[tuple[Board, Row]], metric: str) -> Values:
    """Means over the boards of each stream, for the seeds that all of them have; what has diverged is left out."""
    by_stream: dict[str, list[Mapping[int, float]]] = defaultdict(list)
    for board, row in members:
        by_stream[board.label].append(row.by_seed(metric))
    found = {}
    for stream, of_boards in by_stream.items():
        seeds = sorted(set.intersection(*(set(one) for one in of_boards)))
        means = {seed: fmean(one[seed] for one in of_boards) for seed in seeds}
        found[stream] = {seed: mean for seed, mean in means.items() if math.isfinite(mean)}
    return found


def _iqm(own: Values, base: Values | None, streams: Sequence[str]) -> Interval | None:
    if base is None:
        return iqm([list(own[stream].values()) for stream in streams])
    common = [[own[s][seed] - base[s][seed] for seed in own[s] if seed in base[s]] for s in streams]
    return iqm(common) if all(common) else None
