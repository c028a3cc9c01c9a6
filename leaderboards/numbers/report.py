"""Every number of a board, computed once; what draws them (markdown, a terminal, a page) computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Board, Row
from leaderboards.numbers.curves import Curve, Series, curves, differences, mean_matrix
from leaderboards.numbers.fronts import Front, fronts
from leaderboards.numbers.groups import GROUPS, group_of
from leaderboards.numbers.statistics import Comparison, Estimate, equivalence, estimate, holm, paired, seeds_needed

BASELINE = "dense"
"""Strategy that the others are compared with, seed by seed."""

LEVEL = 0.05
"""Of tests, after Holm's correction."""

MARGIN = 0.01
"""What counts as equal, and what power is computed for: a point of what is a fraction."""

STORED_BYTES = "size/bytes_bitmask"
"""Metric: bytes of the network."""

DENSE_BYTES = "size/dense_bytes_bitmask"
"""Metric: bytes of the network before any pruning, stored the same way."""

DRAWN = 8
"""Rows that a figure shows at most."""

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
    """A mean with its interval.

    ``best``: no other row of the board has a better mean, or those that do are not told apart from it: the paired t
    test against the best row, Holm-corrected over all rows, has p > :data:`LEVEL`. What shares fewer than two seeds
    with the best row cannot be tested, and is not ``best``.
    """

    estimate: Estimate
    best: bool


NOTHING = Cell(Estimate(float("nan"), None, 0), best=False)
"""The cell of a row that lacks a measure."""


@dataclass(frozen=True)
class RunLine:
    """One run: its seed, its values by key, and the commit of its code; ``dirty`` if that had uncommitted changes."""

    seed: int
    values: Mapping[str, float]
    commit: str
    dirty: bool


@dataclass(frozen=True)
class Tested:
    """A paired difference from the baseline. p values are corrected by Holm over the rows of the board.

    Attributes:
        comparison: the difference.
        corrected: p value of the t test; None where there is nothing to test.
        equivalence: p value of the test that the difference is no smaller than :data:`MARGIN`; None also for what is
            no fraction.
        seeds_needed: by :func:`leaderboards.numbers.statistics.seeds_needed`, for a difference of :data:`MARGIN`; None
            also where they are too many.
    """

    comparison: Comparison
    corrected: float | None
    equivalence: float | None = None
    seeds_needed: int | None = None

    @property
    def differs(self) -> bool:
        """Whether the difference is shown at :data:`LEVEL`."""
        return self.corrected is not None and self.corrected <= LEVEL

    @property
    def within_margin(self) -> bool:
        """Whether it is shown at :data:`LEVEL` that the difference is smaller than :data:`MARGIN`."""
        return self.equivalence is not None and self.equivalence <= LEVEL


@dataclass(frozen=True, eq=False)
class LayerDensities:
    """Density of each prunable layer after each megabatch, a mean over seeds.

    Attributes:
        layers: their numbers and names, from the input on.
        values: (layers, megabatches), from the first megabatch on.
    """

    layers: Sequence[str]
    values: NDArray[np.float64]


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
        group: one of :data:`leaderboards.numbers.groups.GROUPS`.
        bytes_ratio: bytes of the stored network, divided by those of the dense one; None if they are not recorded.
        curves: metric -> its curve over the megabatches.
        curves_against: metric -> curve of the paired differences from the baseline; as ``against_baseline``.
        layers: see :func:`leaderboards.numbers.layers.with_layers`; None where nothing was pruned or recorded.
        matrix: of a stream that shifts: accuracy [i][j] after experience i, on experience j, mean over seeds.
    """

    row: Row
    rank: int
    cells: Mapping[str, Cell]
    against_baseline: Mapping[str, Tested]
    runs: Sequence[RunLine]
    emptied: Sequence[int] = ()
    group: str = GROUPS[-1]
    bytes_ratio: Estimate | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    curves_against: Mapping[str, Curve] = field(default_factory=dict)
    layers: LayerDensities | None = None
    matrix: Sequence[Sequence[float]] = ()

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
        fronts: Pareto fronts against those costs in which rows differ (:func:`leaderboards.numbers.fronts.fronts`).
        drawn: ranks of the rows that figures show: the baseline and the first of each group, then the first of the
            others, :data:`DRAWN` at most.
        leaders: ranks of the rows that are the best by :attr:`leaderboards.numbers.boards.Board.lead` and of those that
            are not told apart from it, the best first; none where all are equal.
        untested: ranks of rows that share fewer than two seeds with the first leader.
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
    fronts: Sequence[Front] = ()
    drawn: Sequence[int] = ()
    leaders: Sequence[int] = ()
    untested: Sequence[int] = ()


def report(board: Board, newest_protocol: int | None = None, series: Series | None = None) -> Report:
    """All numbers of one board.

    Args:
        board: what was grouped.
        newest_protocol: the newest version among the boards it is shown with.
        series: of its runs, see :func:`leaderboards.numbers.curves.read_series`; without them there are no curves.
    """
    series = series or {}
    glossary = board.glossary
    measured = {key for row in board.rows for key in row.estimates}
    columns = [one for one in glossary.in_place("board") if one.key in measured]
    best = {one.key: _best(board.rows, one) for one in columns}
    compared = [one for one in glossary.in_place("baseline") if one.key in measured]
    tested = {one.key: _against_baseline(board, one) for one in compared}
    rows = []
    for number, row in enumerate(board.rows):
        cells = {key: Cell(value, number in best.get(key, ())) for key, value in row.estimates.items()}
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
                group=group_of(row.variant),
                bytes_ratio=_bytes_ratio(row),
                curves=curves(row, board, series),
                curves_against={} if baseline is None else differences(row, baseline, board, series),
                matrix=mean_matrix(row, board, series),
            )
        )
    version = protocol_version(board)
    leaders = [] if board.lead is None else _leaders(rows, board.lead)
    return Report(
        board=board,
        columns=columns,
        baseline=compared if any(_baseline(board, row) is not None for row in board.rows) else [],
        each_run=[one for one in glossary.in_place("runs") if one.key in measured],
        rows=rows,
        seeds=sorted({int(seed) for seed in board.runs.seed}),
        provenance=provenance(board.runs),
        started=(board.runs.started.min(), board.runs.started.max()),
        older_protocol=version if newest_protocol is not None and version < newest_protocol else None,
        fronts=fronts(board),
        drawn=_drawn(rows),
        leaders=leaders,
        untested=[] if board.lead is None else _untested(rows, leaders, board.lead),
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


def _best(rows: Sequence[Row], measure: Measure) -> set[int]:
    """Numbers of the rows that have the best mean of a measure, or are not told apart from it.

    None where it is no merit or all rows are equal.
    """
    means = {number: row.estimates[measure.key].mean for number, row in enumerate(rows) if measure.key in row.estimates}
    if measure.better == 0 or len(set(means.values())) < 2:
        return set()
    first = max(means, key=lambda number: measure.better * means[number])
    reference = rows[first].by_seed(measure.name)
    compared = {number: paired(rows[number].by_seed(measure.name), reference) for number in means if number != first}
    p_values = {number: comparison.p for number, comparison in compared.items() if comparison is not None}
    together = {number for number, p in _corrected(p_values).items() if p > LEVEL}
    return {first} | together | {number for number, mean in means.items() if mean == means[first]}


def _bytes_ratio(row: Row) -> Estimate | None:
    stored, dense = row.by_seed(STORED_BYTES), row.by_seed(DENSE_BYTES)
    ratios = [stored[seed] / dense[seed] for seed in sorted(stored.keys() & dense.keys()) if dense[seed]]
    return estimate(ratios) if ratios else None


def _drawn(rows: Sequence[RowReport]) -> list[int]:
    """See :class:`Report`."""
    baseline = [row.rank for row in rows if row.row.variant["strategy"] == BASELINE][:1]
    first = {row.group: row.rank for row in reversed(rows)}
    others = [row.rank for row in rows]
    chosen = list(dict.fromkeys([*baseline, *sorted(first.values()), *others]))[:DRAWN]
    return sorted(chosen)


def _leaders(rows: Sequence[RowReport], lead: Measure) -> list[int]:
    """See :class:`Report`."""
    means = {row.rank: row.cells[lead.key].estimate.mean for row in rows if row.cells.get(lead.key, NOTHING).best}
    return sorted(means, key=lambda rank: -lead.better * means[rank])


def _untested(rows: Sequence[RowReport], leaders: Sequence[int], lead: Measure) -> list[int]:
    """See :class:`Report`."""
    if not leaders:
        return []
    first = rows[leaders[0] - 1].row.by_seed(lead.name).keys()
    return [row.rank for row in rows if row.rank != leaders[0] and len(row.row.by_seed(lead.name).keys() & first) < 2]


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
    differing = _corrected({number: one.p for number, one in found.items()})
    fraction = measure.unit == "fraction"
    equal = _corrected({n: equivalence(one, MARGIN) for n, one in found.items()} if fraction else {})
    needed = {
        n: seeds_needed(one.deviation, MARGIN) for n, one in found.items() if fraction and one.deviation is not None
    }
    return {n: Tested(one, differing.get(n), equal.get(n), needed.get(n)) for n, one in found.items()}


def _corrected(p_values: Mapping[int, float | None]) -> dict[int, float]:
    """Those that there are, corrected by Holm."""
    known = {number: p for number, p in p_values.items() if p is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def _runs(row: Row, board: Board) -> list[RunLine]:
    values = {one.key: row.by_seed(one.name) for one in board.glossary.in_place("runs")}
    lines = []
    told = row.runs.reindex(columns=["seed", "commit", "dirty"]).sort_values("seed", kind="stable")
    for run in told.to_dict("records"):
        seed = int(run["seed"])
        of_run = {key: by_seed[seed] for key, by_seed in values.items() if seed in by_seed}
        lines.append(RunLine(seed, of_run, _text(run, "commit"), _text(run, "dirty") not in ("", "clean", "unknown")))
    return lines


def _text(run: Mapping[Any, Any], tag: str) -> str:
    value = run.get(tag)
    return value if isinstance(value, str) else ""
