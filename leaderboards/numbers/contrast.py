"""Contrasts: runs that differ in one field of the protocol alone, seed by seed."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from leaderboards.errors import BoardError
from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Board, Row, boards
from leaderboards.numbers.names import row_name
from leaderboards.numbers.statistics import Comparison, Estimate, estimate, holm, paired
from leaderboards.record import EARLIER
from leaderboards.sources.collect import Records

TIME = "time/train_seconds"
"""Metric whose ratios are shown beside the comparisons."""

ALL = "All variants"

Values = Mapping[str, Mapping[int, float]]
"""Key of a measure -> seed -> value; of training time its logarithm, so that differences are ratios."""


@dataclass
class Compared:
    """One metric under both values of the field, over the common seeds.

    ``comparison`` is other - reference, paired by seed; ``corrected`` its p value after Holm's correction over all
    variants of all contrasts, None where nothing was tested or corrected.
    """

    reference: Estimate
    other: Estimate
    comparison: Comparison
    corrected: float | None = None


@dataclass(frozen=True)
class Line:
    """A strategy variant under both values.

    Attributes:
        seeds: how many both have.
        compared: key of a measure -> comparison, for those of the place ``contrast`` that both have.
        time_ratio: geometric mean of training time, other / reference, over common seeds whose two runs were on the
            same hardware; None if there are none.
    """

    name: str
    seeds: int
    compared: Mapping[str, Compared]
    time_ratio: float | None


@dataclass(frozen=True)
class Contrast:
    """Two values of the field, for runs that agree in everything else.

    Attributes:
        board: the runs with all values of the field, and what they have in common.
        reference, other: the values, as words.
        lines: variants that have common seeds, the one with the best CER rate under the reference first.
        pooled: all of them, averaged within each seed. Pairs of one seed share split and initialisation: they are
            not independent, so that the interval is one over seeds.
        unpaired: how many variants have one of the values and no common seed.
    """

    board: Board
    reference: str
    other: str
    lines: Sequence[Line]
    pooled: Line
    unpaired: int


def contrasts(records: Records, field: str) -> list[Contrast]:
    """Compare the values of a protocol field wherever runs differ in nothing else.

    The reference is the value that most runs have. Among equals it is the one that all runs had before the field
    was there (fp32 of ``precision``), else the first in alphabetical order. A board without it takes the next in
    this order.

    Args:
        records: what :func:`leaderboards.sources.collect.collect` returned, not empty.
        field: of the protocol.

    Raises:
        BoardError: no such field, or no runs that differ in it alone.
    """
    found = boards(records, across=(field,))
    counts: Counter[str] = Counter()
    for board in found:
        for row in board.rows:
            counts[_value(row, field)] += len(row.runs)
    if len(counts) < 2:
        only = next(iter(counts))
        raise BoardError(f"nothing to contrast: all runs have {field} {only}; repeat some of them with another value")
    order = sorted(counts, key=lambda value: (-counts[value], value != EARLIER.get(field), value))
    result = [contrast for board in found for contrast in _of_board(board, field, order)]
    if not result:
        raise BoardError(
            f"nothing to contrast: no two runs differ in {field} alone; the same images, variant, seed and protocol "
            "otherwise are needed under two values"
        )
    correct([line for contrast in result for line in contrast.lines])
    return result


def compared_rows(name: str, reference: Row, other: Row, measures: Iterable[Measure]) -> Line | None:
    """Two rows as a line of a comparison, other - reference; None where they have no common seed."""
    metrics = {one.key: one.name for one in measures}
    pair = _pair(reference, other, metrics)
    return _line(name, *pair) if _common(*pair) else None


def _of_board(board: Board, field: str, order: Sequence[str]) -> Iterable[Contrast]:
    by_value: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in board.rows:
        by_value[_value(row, field)][json.dumps(row.variant, sort_keys=True)] = row
    reference, *others = (value for value in order if value in by_value)
    ours = by_value[reference]
    for other in others:
        theirs = by_value[other]
        metrics = {one.key: one.name for one in board.glossary.in_place("contrast")}
        both = {key: _pair(ours[key], theirs[key], metrics) for key in ours if key in theirs}
        pairs = {key: pair for key, pair in both.items() if _common(*pair)}
        if pairs:
            lines = [_line(row_name(ours[key].runs), *pair) for key, pair in pairs.items()]
            pooled = _line(ALL, *_averaged(pairs.values()))
            yield Contrast(board, reference, other, lines, pooled, len(ours.keys() | theirs.keys()) - len(pairs))


def _value(row: Row, field: str) -> str:
    """The row's value of the field in words, with what only that value has (the size of a replay buffer)."""
    words = [str(row.extra.get(field)), *(f"{name} {value}" for name, value in row.extra.items() if name != field)]
    return ", ".join(words)


def _pair(reference: Row, other: Row, metrics: Mapping[str, str]) -> tuple[Values, Values]:
    before, after = _hardware(reference), _hardware(other)
    alike = {seed for seed in before.keys() & after.keys() if before[seed] == after[seed]}
    return _values(reference, metrics, alike), _values(other, metrics, alike)


def _hardware(row: Row) -> dict[int, str]:
    """Seed -> the processor, as far as it is known: runs that do not say it are taken for alike."""
    told = row.runs["hardware"] if "hardware" in row.runs else pd.Series("", row.runs.index)
    return dict(zip(row.runs["seed"], told.fillna("").astype(str), strict=True))


def _values(row: Row, metrics: Mapping[str, str], timed: Collection[int]) -> Values:
    values = {key: row.by_seed(metric) for key, metric in metrics.items()}
    seconds = {seed: value for seed, value in row.by_seed(TIME).items() if seed in timed and value > 0}
    return {**values, TIME: {seed: math.log(value) for seed, value in seconds.items()}}


def _common(reference: Values, other: Values) -> set[int]:
    """Seeds that have one of the metrics under both values."""
    return {seed for key in _compared(reference) for seed in reference[key].keys() & other[key].keys()}


def _compared(values: Values) -> list[str]:
    """Keys of what is compared, without the training time."""
    return [key for key in values if key != TIME]


def _averaged(pairs: Collection[tuple[Values, Values]]) -> tuple[Values, Values]:
    """Means within each seed, over those variants that have it under both values."""
    reference: dict[str, dict[int, float]] = {}
    other: dict[str, dict[int, float]] = {}
    for key in next(iter(pairs))[0]:
        found = defaultdict(list)
        for ours, theirs in pairs:
            for seed in ours[key].keys() & theirs[key].keys():
                found[seed].append((ours[key][seed], theirs[key][seed]))
        reference[key] = {seed: fmean(a for a, _ in values) for seed, values in found.items()}
        other[key] = {seed: fmean(b for _, b in values) for seed, values in found.items()}
    return reference, other


def _line(name: str, reference: Values, other: Values) -> Line:
    compared = {}
    for key in _compared(reference):
        comparison = paired(other[key], reference[key])
        if comparison is not None:
            seeds = reference[key].keys() & other[key].keys()
            before, after = (estimate([values[key][seed] for seed in seeds]) for values in (reference, other))
            compared[key] = Compared(before, after, comparison)
    times = paired(other[TIME], reference[TIME])
    ratio = None if times is None else math.exp(times.difference.mean)
    return Line(name, len(_common(reference, other)), compared, ratio)


def correct(lines: Sequence[Line]) -> None:
    """Fill in the corrected p values: each metric is a family of its own."""
    for key in {key for line in lines for key in line.compared}:
        tested = [(one, p) for line in lines if (one := line.compared.get(key)) and (p := one.comparison.p) is not None]
        for (one, _), corrected in zip(tested, holm([p for _, p in tested]), strict=True):
            one.corrected = corrected
