"""Every number of a board, computed once; what draws them (markdown, a terminal, a page) computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from leaderboards.boards import Board, Row
from leaderboards.curves import Curve, Series, curves, differences
from leaderboards.glossary import Measure
from leaderboards.statistics import Comparison, Estimate, holm, paired

BASELINE = "dense"
"""Strategy that the others are compared with, seed by seed."""

EMPTY_LAYERS = "size/empty_layers"
"""Metric: layers that pruning has left no weight."""

PROVENANCE = {
    "commit": "Code commit",
    "dirty": "Uncommitted changes",
    "hardware": "Hardware",
    "cpu_family": "CPU family",
    "cpu_model": "CPU model",
    "cpu_stepping": "CPU stepping",
    "cpu_capability": "Instruction set",
    "threads": "Threads",
    "compiled": "Compiled steps",
    "python": "Python",
    "version.torch": "torch",
    "version.torchvision": "torchvision",
    "version.avalanche-lib": "avalanche-lib",
    "version.mlflow": "mlflow",
    "skipped_images": "Images left out",
}
"""Tag -> what it is called."""


@dataclass(frozen=True)
class Cell:
    """A mean with its interval, and whether no other row of the board has a better mean."""

    estimate: Estimate
    best: bool


@dataclass(frozen=True)
class RunLine:
    """One run: its seed, its values by key, and the commit of its code; ``dirty`` if that had uncommitted changes."""

    seed: int
    values: Mapping[str, float]
    commit: str
    dirty: bool


@dataclass(frozen=True)
class Tested:
    """A paired difference from the baseline, and its p value after Holm's correction over the rows of the board."""

    comparison: Comparison
    corrected: float | None


@dataclass(frozen=True)
class RowReport:
    """One row of a board.

    Attributes:
        row: the variant and its runs.
        rank: from 1, in the board's order.
        cells: key of a measure -> mean and interval.
        against_baseline: key of a measure -> difference; empty for the baseline itself or where there is none.
        runs: each of its runs, by seed.
        emptied: seeds whose network has lost a whole layer in the end.
        curves: metric -> its curve over the megabatches.
        curves_against: metric -> curve of the paired differences from the baseline; as ``against_baseline``.
    """

    row: Row
    rank: int
    cells: Mapping[str, Cell]
    against_baseline: Mapping[str, Tested]
    runs: Sequence[RunLine]
    emptied: Sequence[int] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    curves_against: Mapping[str, Curve] = field(default_factory=dict)

    @property
    def commits(self) -> set[str]:
        """Commits of its runs."""
        return {run.commit for run in self.runs if run.commit}


@dataclass(frozen=True)
class Report:
    """One board in numbers.

    Attributes:
        board: what was grouped.
        columns: measures that any of its rows has, in order.
        baseline: measures that are compared with the baseline; empty without one.
        each_run: measures of the table of runs.
        rows: in the board's order.
        seeds: all that occur.
        provenance: what -> the different values that occur, sorted.
        started: when the first and the last of the runs began (UTC).
        older_protocol: the board's version of the protocol, where other boards of the store have a newer one.
    """

    board: Board
    columns: Sequence[Measure]
    baseline: Sequence[Measure]
    each_run: Sequence[Measure]
    rows: Sequence[RowReport]
    seeds: Sequence[int]
    provenance: Mapping[str, Sequence[str]]
    started: tuple[pd.Timestamp, pd.Timestamp]
    older_protocol: int | None


def report(board: Board, newest_protocol: int | None = None, series: Series | None = None) -> Report:
    """All numbers of one board.

    Args:
        board: what was grouped.
        newest_protocol: the newest version among the boards it is shown with.
        series: of its runs, see :func:`leaderboards.curves.read_series`; without them there are no curves.
    """
    series = series or {}
    glossary = board.glossary
    columns = [one for one in glossary.in_place("board") if any(one.key in row.estimates for row in board.rows)]
    best = {one.key: _best(board.rows, one) for one in columns}
    compared = glossary.in_place("baseline")
    tested = {one.key: _against_baseline(board, one) for one in compared}
    rows = []
    for number, row in enumerate(board.rows):
        cells = {
            key: Cell(value, best.get(key) is not None and value.mean == best[key])
            for key, value in row.estimates.items()
        }
        against = {key: of_rows[number] for key, of_rows in tested.items() if number in of_rows}
        baseline = _baseline(board, row)
        emptied = sorted(seed for seed, layers in row.by_seed(EMPTY_LAYERS).items() if layers > 0)
        rows.append(
            RowReport(
                row=row,
                rank=number + 1,
                cells=cells,
                against_baseline={} if baseline is None else against,
                runs=_runs(row, board),
                emptied=emptied,
                curves=curves(row, board, series),
                curves_against={} if baseline is None else differences(row, baseline, board, series),
            )
        )
    version = protocol_version(board)
    return Report(
        board=board,
        columns=columns,
        baseline=compared if any(_baseline(board, row) is not None for row in board.rows) else [],
        each_run=glossary.in_place("runs"),
        rows=rows,
        seeds=sorted({int(seed) for seed in board.runs.seed}),
        provenance=provenance(board.runs),
        started=(board.runs.started.min(), board.runs.started.max()),
        older_protocol=version if newest_protocol is not None and version < newest_protocol else None,
    )


def protocol_version(board: Board) -> int:
    """Version of the board's protocol; records from before there were versions are of the first."""
    return int(board.protocol.get("protocol_version", 1))


def provenance(runs: pd.DataFrame) -> dict[str, list[str]]:
    """What -> the different values among ``runs``, for what they record."""
    return {
        words: sorted(map(str, runs[tag].dropna().unique())) for tag, words in PROVENANCE.items() if tag in runs.columns
    }


def parting_fields(boards: Sequence[Board], usual: Sequence[str]) -> list[str]:
    """Protocol fields, beyond the ``usual`` ones, that tell boards of the same images apart."""
    values: dict[tuple[str, str], set[str]] = {}
    for board in boards:
        for name, value in board.protocol.items():
            values.setdefault((board.label + board.data, name), set()).add(str(value))
    return sorted({name for (_, name), found in values.items() if len(found) > 1} - set(usual))


def _best(rows: Sequence[Row], measure: Measure) -> float | None:
    """The best mean of a measure; None where it is no merit or all rows are equal."""
    means = [row.estimates[measure.key].mean for row in rows if measure.key in row.estimates]
    if measure.better == 0 or len(set(means)) < 2:
        return None
    return max(means) if measure.better > 0 else min(means)


def _baseline(board: Board, row: Row) -> Row | None:
    """The dense row under the same conditions; None for that row itself, or where there is none."""
    same = (r for r in board.rows if r.variant["strategy"] == BASELINE and r.extra == row.extra)
    found = next(same, None)
    return None if found is row else found


def _against_baseline(board: Board, measure: Measure) -> dict[int, Tested]:
    """Number of a row -> its paired difference; p values are corrected over all rows."""
    found: dict[int, Comparison] = {}
    for number, row in enumerate(board.rows):
        base = _baseline(board, row)
        comparison = None if base is None else paired(row.by_seed(measure.name), base.by_seed(measure.name))
        if comparison is not None:
            found[number] = comparison
    p_values = {number: one.p for number, one in found.items() if one.p is not None}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {number: Tested(one, corrected.get(number)) for number, one in found.items()}


def _runs(row: Row, board: Board) -> list[RunLine]:
    values = {one.key: row.by_seed(one.name) for one in board.glossary.in_place("runs")}
    lines = []
    for run in row.runs.sort_values("seed", kind="stable").to_dict("records"):
        seed = int(run["seed"])
        of_run = {key: by_seed[seed] for key, by_seed in values.items() if seed in by_seed}
        lines.append(RunLine(seed, of_run, _text(run, "commit"), _text(run, "dirty") not in ("", "clean", "unknown")))
    return lines


def _text(run: Mapping[Any, Any], tag: str) -> str:
    value = run.get(tag)
    return value if isinstance(value, str) else ""
