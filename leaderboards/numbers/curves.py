"""Curves: what the rows of boards measured after each megabatch, over seeds, and seed by seed beside a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaderboards.numbers.boards import Board, Row
from leaderboards.numbers.statistics import estimates_of
from leaderboards.sources.collect import Records
from leaderboards.sources.rows import METRIC

ACCURACY, ERRORS = "test/accuracy", "test/errors"

MATRIX = "continual/matrix"
"""Series of the accuracy matrix of a stream of T experiences: R[i][j], from 1, at step (i - 1) T + j."""

METRICS = (
    *(ACCURACY, ERRORS, "anytime/cer", "anytime/cer_rate", "gap/clean", "gap/reference", "size/density"),
    *("continual/accuracy", "continual/first", MATRIX),
)
"""Metrics that are read as series. ``test/errors`` is what a megabatch adds to CER."""

Series = Mapping[tuple[str, str], Mapping[int, float]]
"""Id of a run and metric -> megabatch -> value."""


@dataclass(frozen=True)
class Curve:
    """One metric over the stream: of each megabatch that any seed has a value of, ascending, the mean over seeds.

    Attributes:
        steps: megabatches, from 1.
        means: one a step.
        margins: half the width of the 95 % t interval of the mean; None where there is one seed.
        seeds: how many seeds each mean is of.
    """

    steps: Sequence[int]
    means: Sequence[float]
    margins: Sequence[float | None]
    seeds: Sequence[int]

    @property
    def last(self) -> float:
        """Mean of the last megabatch."""
        return self.means[-1]


def read_series(records: Records, boards: Iterable[Board], metrics: Sequence[str] = METRICS) -> Series:
    """The series of all runs of some boards, each source asked once; of some of :data:`METRICS`.

    Raises:
        BoardError: a source cannot be read.
    """
    boards = list(boards)
    # Most stores have no stream that shifts, and each metric that is asked for takes its time.
    metrics = [name for name in metrics if any(METRIC + name in board.runs.columns for board in boards)]
    return series_of(records, [run_id for board in boards for run_id in board.runs.run_id.tolist()], metrics)


def series_of(records: Records, wanted: Sequence[str], metrics: Sequence[str]) -> Series:
    """The series of runs, by their ids; see :func:`read_series`."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for source in records.sources:
        for run_id, metric, step, value in source.series(wanted, metrics):
            found.setdefault((run_id, metric), {})[step] = value
    return found


def curves(row: Row, board: Board, series: Series) -> dict[str, Curve]:
    """Metric -> the curve of a row of the board, for those of :data:`METRICS` that its runs have series of."""
    return _curves(_by_seed(row, series), board)


def differences(row: Row, baseline: Row, board: Board, series: Series) -> dict[str, Curve]:
    """Metric -> curve of the paired differences, row minus baseline, over the seeds that both have."""
    ours, theirs = _by_seed(row, series), _by_seed(baseline, series)
    paired: dict[str, dict[int, Mapping[int, float]]] = {}
    for metric in ours.keys() & theirs.keys():
        for seed in ours[metric].keys() & theirs[metric].keys():
            one, other = ours[metric][seed], theirs[metric][seed]
            common = {step: one[step] - other[step] for step in one.keys() & other.keys()}
            paired.setdefault(metric, {})[seed] = common
    return _curves(paired, board)


def mean_matrix(row: Row, board: Board, series: Series) -> list[list[float]]:
    """The accuracy matrix of a row of the board, mean over its seeds; empty where no run has a whole one."""
    length = board.protocol.get("megabatches")
    runs = [series.get((run_id, MATRIX), {}) for run_id in row.runs.run_id.tolist()]
    whole = [run for run in runs if type(length) is int and run.keys() == set(range(1, length**2 + 1))]
    if not whole or type(length) is not int:
        return []
    means = [sum(run[step] for run in whole) / len(whole) for step in range(1, length**2 + 1)]
    return [means[start : start + length] for start in range(0, length**2, length)]


BySeed = Mapping[str, Mapping[int, Mapping[int, float]]]
"""Metric -> seed -> megabatch -> value."""


def _by_seed(row: Row, series: Series) -> BySeed:
    runs = list(zip(row.runs.run_id.tolist(), row.runs.seed.tolist(), strict=True))
    over_time = [metric for metric in METRICS if metric != MATRIX]
    found = {m: {seed: series[run_id, m] for run_id, seed in runs if (run_id, m) in series} for m in over_time}
    return {metric: of_seeds for metric, of_seeds in found.items() if of_seeds}


def _curves(values: BySeed, board: Board) -> dict[str, Curve]:
    found = {metric: _curve(values[metric], board) for metric in METRICS if metric in values}
    return {metric: curve for metric, curve in found.items() if curve is not None}


def _curve(by_seed: Mapping[int, Mapping[int, float]], board: Board) -> Curve | None:
    """Means over seeds; None without a value. What lies outside of the stream is left out."""
    length = board.protocol.get("megabatches")
    last = length if type(length) is int else None
    steps = sorted({step for points in by_seed.values() for step in points if step >= 1 and step <= (last or step)})
    if not steps:
        return None
    values: NDArray[np.float64] = np.array(
        [[points.get(step, np.nan) for step in steps] for _, points in sorted(by_seed.items())], dtype=np.float64
    )
    found = [(step, one) for step, one in zip(steps, estimates_of(values), strict=True) if one is not None]
    if not found:
        return None
    return Curve(
        steps=[step for step, _ in found],
        means=[one.mean for _, one in found],
        margins=[one.margin for _, one in found],
        seeds=[one.n for _, one in found],
    )
