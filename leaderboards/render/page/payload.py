"""What the page knows: reports as plain JSON. Numbers and their forms are those of the reports; nothing is computed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leaderboards.glossary import DEFAULT_SORT, SHIFTING_SORT, Measure
from leaderboards.numbers.across import Pool, pools
from leaderboards.numbers.boards import Board
from leaderboards.numbers.curves import ACCURACY, ERRORS, Curve
from leaderboards.numbers.fronts import pareto
from leaderboards.numbers.pairs import paired_rows
from leaderboards.numbers.report import BASELINE, MARGIN, PROVENANCE, Report, RowReport, Tested
from leaderboards.numbers.statistics import Estimate
from leaderboards.render.across_page import spread_text, spread_title, tested_text
from leaderboards.render.board_page import SHOWN_FIRST
from leaderboards.render.rerun import READ, rerun_command
from leaderboards.text import printable

MAIN = ("cer_rate", "accuracy", "gap_clean", "mean_density", "bytes")

SHIFTING_MAIN = ("acc", "forgetting", "bwt", "mean_density", "bytes")
"""Keys of the columns that are shown at first: what fits 1,280 pixels."""

COSTS = ("bytes", "FLOPs", "s")
"""Units of what accuracy is paid with; the mean density is another cost."""

CURVES = {
    **{SHIFTING_SORT: None, "continual/first": None},
    **{ACCURACY: "Test accuracy", ERRORS: None, DEFAULT_SORT: None, "gap/clean": None, "size/density": None},
}
"""Metrics whose curves are drawn -> what they are called there, where the column is called after the last value."""

MOST_PAIRED = 40
"""Rows of a board of which each two are compared in the page."""

MOST_COMPARISONS = 12_000
"""Of all boards together, a third of a megabyte: where there were more, fewer rows of each board are compared."""

MOMENT = "%Y-%m-%d %H:%M"

Json = dict[str, Any]


def payload(reports: Sequence[Report]) -> Json:
    """All boards, with the measures that any of them shows."""
    measures = {one.key: one for report in reports for one in (*report.columns, *report.each_run, *report.baseline)}
    return {
        "baseline": BASELINE,
        "margin": MARGIN,
        "measures": {key: _measure(one) for key, one in measures.items()},
        "boards": [_board(report, _most_paired(reports)) for report in reports],
        "across": [_pool(pool) for pool in pools([report.board for report in reports]) if pool.placed],
    }


def _pool(pool: Pool) -> Json:
    """Strategies over several streams, as texts."""
    return {
        "streams": [printable(stream) for stream in pool.streams],
        "data": printable(pool.data),
        "title": printable(spread_title(pool)),
        "tested": tested_text(pool),
        "rows": [[printable(one.name), f"{one.mean_rank:.2f}", spread_text(one.iqm, pool)] for one in pool.placed],
    }


def _most_paired(reports: Sequence[Report]) -> int:
    """How many rows of each board are compared with each other."""

    def comparisons(most: int) -> int:
        return sum(math.comb(min(most, len(report.rows)), 2) * len(_compared(report)) for report in reports)

    return next((most for most in range(MOST_PAIRED, 2, -1) if comparisons(most) <= MOST_COMPARISONS), 2)


def _measure(measure: Measure) -> Json:
    words = {"title": measure.title, "meaning": measure.meaning, "unit": measure.unit}
    return {name: printable(word) for name, word in words.items()} | {"better": measure.better}


def _board(report: Report, most_paired: int) -> Json:
    board = report.board
    columns = [one.key for one in report.columns]
    pools = _Pools()
    rows = [_row(row, name, report, pools) for row, name in zip(report.rows, _names(report.rows), strict=True)]
    return {
        "id": board.file_name.removesuffix(".md"),
        "label": printable(board.label),
        "synthetic": board.data != "real",
        "data": printable(board.data),
        "images": printable(f"{board.data}, version {board.data_version}, fingerprint {board.data_fingerprint}"),
        "olderProtocol": report.older_protocol,
        "outdated": board.outdated,
        "runs": len(board.runs),
        "seeds": [str(seed) for seed in report.seeds],
        "started": [f"{moment:{MOMENT}}" for moment in report.started],
        "protocol": _protocol(board),
        "provenance": [
            [words, [printable(value) for value in values]] for words, values in report.provenance.items() if values
        ],
        "columns": columns,
        "main": [key for key in (SHIFTING_MAIN if "acc" in columns else MAIN) if key in columns] or columns[:6],
        "eachRun": [one.key for one in report.each_run],
        "compared": [one.key for one in _compared(report)],
        "curves": _titles(report),
        "rows": rows,
        "provenances": [list(map(list, one)) for one in pools.provenances],
        "commands": list(pools.commands),
        "commits": list(pools.commits),
        "drawn": [rank - 1 for rank in report.drawn],
        "pairs": _pairs(report, most_paired),
        "fronts": _fronts(report),
    }


def _names(rows: Sequence[RowReport]) -> list[str]:
    """Of rows, each another one: parts of earlier versions aside, different variants may have one name."""
    shown = [printable(row.row.name) for row in rows]
    seen: Counter[str] = Counter()
    names = []
    for name in shown:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} [{seen[name]}]")
    return names


@dataclass
class _Pools:
    """What many runs have in common -> its number: written once."""

    provenances: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    commands: dict[str, int] = field(default_factory=dict)
    commits: dict[str, int] = field(default_factory=dict)


def _number_in(pool: dict[Any, int], one: Any) -> int:
    return pool.setdefault(one, len(pool))


def _row(row: RowReport, name: str, report: Report, pools: _Pools) -> Json:
    variant = row.row.variant
    return {
        "name": name,
        "strategy": printable(variant["strategy"]),
        "baseline": variant["strategy"] == BASELINE,
        "options": [
            [printable(n), printable(str(v))]
            for n, v in variant.items()
            if n != "strategy" and not n.endswith("_version")
        ],
        "versions": [
            [printable(n.removesuffix("_version")), str(v)] for n, v in variant.items() if n.endswith("_version")
        ],
        "seeds": int(row.row.runs.seed.nunique()),
        "emptied": [str(seed) for seed in row.emptied],
        "commits": len(row.commits),
        "cells": [
            None if (cell := row.cells.get(one.key)) is None else [*_estimate(cell.estimate, one), int(cell.best)]
            for one in report.columns
        ],
        "group": row.group,
        "against": {key: _tested(tested) for key, tested in row.against_baseline.items()},
        "curves": {metric: _curve(curve) for metric, curve in row.curves.items() if metric in CURVES},
        "runs": _runs(row, report, pools),
    }


def _runs(row: RowReport, report: Report, pools: _Pools) -> list[list[Any]]:
    """One list a run, by seed; see ``RUN`` in page.js."""
    runs = row.row.runs.sort_values("seed", kind="stable")
    protocol, variant = (runs[name].iloc[0] for name in ("protocol", "variant"))
    tags = {tag: runs[tag].tolist() for tag in dict.fromkeys([*PROVENANCE, *READ]) if tag in runs}
    lines = []
    # Most runs of a row have everything but the seed in common.
    commands: dict[tuple[str | None, ...], str] = {}
    for number, (line, run_id, started) in enumerate(zip(row.runs, runs.run_id, runs.started, strict=True)):
        said = {tag: values[number] for tag, values in tags.items() if isinstance(values[number], str)}
        origin = tuple((words, printable(said[tag])) for tag, words in PROVENANCE.items() if tag in said)
        values = [
            None if (value := line.values.get(one.key)) is None else [_number(value), printable(one.form.format(value))]
            for one in report.each_run
        ]
        alike = tuple(said.get(tag) for tag in READ)
        if alike not in commands:
            commands[alike] = rerun_command(protocol, variant, said)
        lines.append(
            [
                str(line.seed),
                f"{started:{MOMENT}}",
                _number_in(pools.commits, printable(line.commit)),
                int(line.dirty),
                values,
                _number_in(pools.provenances, origin),
                _number_in(pools.commands, commands[alike]),
                printable(str(run_id)),
            ]
        )
    return lines


def _tested(tested: Tested) -> list[Any]:
    """Difference, margin, p, p of equality, and how many seeds would show a point; see ``AGAINST`` in page.js."""
    difference = tested.comparison.difference
    numbers = (difference.mean, difference.margin, tested.corrected, tested.equivalence)
    return [*(_number(value, 3) for value in numbers), tested.seeds_needed]


def _estimate(value: Estimate, measure: Measure) -> list[Any]:
    """Mean, margin, and both as text."""
    mean = printable(measure.form.format(value.mean))
    margin = "" if value.margin is None else printable(measure.form.replace("+", "").format(value.margin))
    # An interval that is written as zero says nothing.
    shown = margin if set(margin) & set("123456789") else ""
    return [_number(value.mean), _number(value.margin), mean, shown]


def _number(value: float | None, digits: int = 6) -> float | None:
    """In some digits; JSON has no number for what is infinite or none."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


def _curve(curve: Curve) -> list[Any]:
    return [
        list(curve.steps),
        [_number(mean, 5) for mean in curve.means],
        [_number(margin, 3) for margin in curve.margins],
    ]


def _titles(report: Report) -> list[list[str]]:
    """Metric and title of each curve that any row has."""
    glossary = report.board.glossary
    there = {metric for row in report.rows for metric in row.curves}
    return [
        [metric, title or printable(glossary[metric].title) if metric in glossary else metric]
        for metric, title in CURVES.items()
        if metric in there
    ]


def _compared(report: Report) -> list[Measure]:
    """What rows are compared by: the measures that are compared with the baseline."""
    return [one for one in report.board.glossary.in_place("baseline") if one in report.columns]


def _pairs(report: Report, most: int) -> Json:
    chosen = [
        number for number, row in enumerate(report.rows) if number < most or row.row.variant["strategy"] == BASELINE
    ]
    values = {}
    for measure in _compared(report):
        found = paired_rows([report.rows[number].row for number in chosen], measure)
        values[measure.key] = [
            None
            if one is None
            else [
                *(_number(value, 3) for value in (one.difference.mean, one.difference.margin, one.p)),
                one.difference.n,
            ]
            for one in found
        ]
    return {"rows": chosen, "values": values}


def _fronts(report: Report) -> list[Json]:
    """For each cost and each merit the rows that no other row beats in both."""
    costs = [one for one in report.columns if one.unit in COSTS or one.key == "mean_density"]
    merits = [one for one in _compared(report) if one.better]
    return [
        {"cost": cost.key, "merit": merit.key, "rows": pareto(_points(report, cost, merit))}
        for cost in costs
        for merit in merits
    ]


def _points(report: Report, cost: Measure, merit: Measure) -> Mapping[int, tuple[float, float]]:
    """Number of a row -> cost and demerit, both better where they are lower."""
    return {
        number: (row.cells[cost.key].estimate.mean, -merit.better * row.cells[merit.key].estimate.mean)
        for number, row in enumerate(report.rows)
        if cost.key in row.cells and merit.key in row.cells
    }


def _protocol(board: Board) -> list[list[str]]:
    names = [n for n in SHOWN_FIRST if n in board.protocol] + sorted(set(board.protocol) - set(SHOWN_FIRST))
    return [[printable(n), "-" if board.protocol[n] is None else printable(str(board.protocol[n]))] for n in names]
