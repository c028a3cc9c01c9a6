"""Boards as flat tables to take away: their rows, their runs, and the series of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from leaderboards.numbers.across import Pool, pools
from leaderboards.numbers.curves import Series
from leaderboards.numbers.frames import flat
from leaderboards.numbers.report import Report, RowReport
from leaderboards.sources.trajectories import COLUMNS


@dataclass(frozen=True)
class Tables:
    """What boards hold, as flat pandas tables; ``board`` is the name of a board's page without its suffix.

    Attributes:
        rows: a row a measure of a row of a board: ``board``, ``stream``, ``data``, ``rank``, ``name``, ``measure`` (the
            metric), ``key``, ``mean``, ``margin`` (half the width of the 95 % t interval; missing for one seed),
            ``seeds``, ``best``, and, where there is a baseline, the paired ``difference`` from it,
            ``difference_margin``, ``difference_seeds``, ``p`` of its t test and ``p_holm``.
        runs: a row a run: ``board``, ``run_id``, ``name``, and the columns of
            :class:`leaderboards.numbers.frames.Frames`.
        series: a row a point, of what boards draw: ``board``, ``run_id``, ``metric``, ``step`` (the megabatch),
            ``value``.
        across: a row a strategy of a pool of streams, see :class:`leaderboards.numbers.across.Pool`: ``pool`` (from 1),
            ``streams`` (how many), ``name``, ``rank`` (the average), ``critical_difference``, ``friedman_p``, ``iqm``
            with ``low`` and ``high`` of its interval, and ``against``. Empty where no boards can be pooled.
    """

    rows: pd.DataFrame
    runs: pd.DataFrame
    series: pd.DataFrame
    across: pd.DataFrame

    def named(self) -> dict[str, pd.DataFrame]:
        """Name of each table -> the table; without one across streams where there is nothing in it."""
        found = {"rows": self.rows, "runs": self.runs, "series": self.series}
        return found if self.across.empty else found | {"across": self.across}


def tables(reports: Sequence[Report], series: Series) -> Tables:
    """The tables of some boards, and of the series that were read for them."""
    rows: list[dict[str, Any]] = []
    runs: list[dict[Any, Any]] = []
    board_of: dict[str, str] = {}
    for report in reports:
        board = name_of(report)
        for row in report.rows:
            rows += _measured(report, row)
            for run in row.row.runs.to_dict("records"):
                board_of[run["run_id"]] = board
                runs.append({"board": board, "run_id": run["run_id"], "name": row.row.name} | flat(run))
    points = [
        (board_of[run_id], run_id, metric, step, value)
        for (run_id, metric), values in series.items()
        if run_id in board_of
        for step, value in values.items()
    ]
    found = enumerate(pools([one.board for one in reports]), start=1)
    across = [line for number, pool in found for line in _placed(number, pool)]
    return Tables(
        pd.DataFrame(rows),
        pd.DataFrame(runs),
        pd.DataFrame(points, columns=["board", *COLUMNS]),
        pd.DataFrame(across),
    )


def _placed(number: int, pool: Pool) -> list[dict[str, Any]]:
    return [
        {
            "pool": number,
            "streams": len(pool.streams),
            "name": one.name,
            "rank": one.mean_rank,
            "critical_difference": pool.critical,
            "friedman_p": None if pool.test is None else pool.test.p,
            "iqm": None if one.iqm is None else one.iqm.value,
            "low": None if one.iqm is None else one.iqm.low,
            "high": None if one.iqm is None else one.iqm.high,
            "against": pool.against,
        }
        for one in pool.placed
    ]


def name_of(report: Report) -> str:
    """Of a board, in tables and names of files."""
    return report.board.file_name.removesuffix(".md")


def _measured(report: Report, row: RowReport) -> list[dict[str, Any]]:
    found = []
    for column in report.board.glossary.values():
        cell = row.cells.get(column.key)
        if cell is None:
            continue
        tested = row.against_baseline.get(column.key)
        difference = None if tested is None else tested.comparison.difference
        found.append(
            {
                "board": name_of(report),
                "stream": report.board.label,
                "data": report.board.data,
                "rank": row.rank,
                "name": row.row.name,
                "measure": column.name,
                "key": column.key,
                "mean": cell.estimate.mean,
                "margin": cell.estimate.margin,
                "seeds": cell.estimate.n,
                "best": cell.best,
                "difference": None if difference is None else difference.mean,
                "difference_margin": None if difference is None else difference.margin,
                "difference_seeds": None if difference is None else difference.n,
                "p": None if tested is None else tested.comparison.p,
                "p_holm": None if tested is None else tested.corrected,
            }
        )
    return found
