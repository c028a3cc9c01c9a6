"""Boards: runs that may be compared, as rows of strategy variants."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from leaderboards.errors import BoardError
from leaderboards.glossary import DEFAULT_SORT, SHIFTING_SORT, Glossary, Measure
from leaderboards.numbers.names import page_name, row_name
from leaderboards.numbers.statistics import Estimate, estimates_of
from leaderboards.sources.collect import Records, latest_per_seed
from leaderboards.sources.rows import METRIC


@dataclass(frozen=True)
class Row:
    """One strategy variant: its name, its runs, and an estimate for each measure that its runs have, by key.

    ``variant`` is the strategy with its options, ``extra`` the protocol fields that the board compares across.
    """

    name: str
    variant: Mapping[str, Any]
    extra: Mapping[str, Any]
    runs: pd.DataFrame
    estimates: Mapping[str, Estimate]

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> value of a metric."""
        values = zip(self._seeds, self._measured.get(METRIC + metric, ()), strict=False)
        return {seed: value for seed, value in values if not math.isnan(value)}

    @cached_property
    def _seeds(self) -> list[int]:
        return self.runs.seed.tolist()

    @cached_property
    def _measured(self) -> dict[str, list[float]]:
        """Column of a metric -> values of the runs; a table is slow to be asked so often."""
        names = [name for name in self.runs.columns if name.startswith(METRIC)]
        values = self.runs[names].to_numpy(dtype=float).T.tolist()
        return dict(zip(names, values, strict=True))


@dataclass(frozen=True)
class Board:
    """Runs on one stream with the same data and protocol.

    Attributes:
        label: what the stream and its data are called.
        data, data_version, data_fingerprint: which images.
        protocol: what all runs have in common.
        rows: variants, best first.
        glossary: what the metrics mean.
        outdated: runs of earlier versions of a strategy, score or other part, which are left out.
    """

    label: str
    data: str
    data_version: str
    data_fingerprint: str
    protocol: Mapping[str, Any]
    rows: Sequence[Row]
    glossary: Glossary
    outdated: int = 0

    @property
    def file_name(self) -> str:
        """Of its page: readable, and different for different boards."""
        return page_name(self.label, self.data, self.data_fingerprint, self.protocol)

    @cached_property
    def lead(self) -> Measure | None:
        """The measure by which rows lead: ACC where the stream shifts, else the CER rate; None where it is unknown."""
        shifts = SHIFTING_SORT in self.glossary and any(row.by_seed(SHIFTING_SORT) for row in self.rows)
        return self.glossary.get(SHIFTING_SORT if shifts else DEFAULT_SORT)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """All runs of the board."""
        return pd.concat([row.runs for row in self.rows])


def boards(
    records: Records, *, sort: str = DEFAULT_SORT, reverse: bool = False, across: Iterable[str] = ()
) -> list[Board]:
    """Group runs into boards; runs share one only if stream, images and protocol agree.

    Args:
        records: what :func:`leaderboards.sources.collect.collect` returned.
        sort: key or name of the measure that orders the rows; rows that lack it come last. The default is ACC where
            the stream shifts.
        reverse: worst first.
        across: protocol fields to compare across: they move from the board's heading to the rows' names.

    Raises:
        BoardError: no such column or protocol field.
    """
    glossary = records.glossary
    measure = _measure(glossary, sort)
    # The size of a replay buffer is a field of its own that only one kind of replay has.
    across = (*across, "buffer_size") if "replay" in across else tuple(across)
    if records.runs.empty:
        return []
    runs = latest_per_seed(records.runs)
    fields = {field for protocol in runs.protocol for field in protocol}
    unknown = [field for field in across if field not in fields and field != "buffer_size"]
    if unknown:
        raise BoardError(f"no protocol field {unknown[0]!r}: there are {', '.join(sorted(fields))}")
    result = []
    for together, shared in comparable(runs, across):
        head = together.iloc[0]
        current = newest_versions(together)
        rows = _rows(current, across, glossary)
        board = Board(
            head.stream_label,
            head.data,
            head.data_version,
            head.data_fingerprint,
            shared,
            rows,
            glossary,
            len(together) - len(current),
        )
        by = (board.lead if sort == DEFAULT_SORT else None) or measure
        _order(rows, by, reverse)
        result.append(board)
    return sorted(result, key=lambda board: (board.label, board.data, board.file_name))


def comparable(runs: pd.DataFrame, across: Collection[str] = ()) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """Runs that may share a board, oldest first, and what their protocols have in common without ``across``."""
    grouped: dict[str, list[Hashable]] = {}
    shared: dict[str, dict[str, Any]] = {}
    images = zip(runs.stream, runs.data, runs.data_version, runs.data_fingerprint, strict=True)
    for index, seen, protocol in zip(runs.index, images, runs.protocol, strict=True):
        common = {name: value for name, value in protocol.items() if name not in across}
        key = json.dumps([*seen, common], sort_keys=True)
        grouped.setdefault(key, []).append(index)
        shared.setdefault(key, common)
    return [(runs.loc[members], shared[key]) for key, members in grouped.items()]


def newest_versions(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose strategy, score, schedule and so on are all of the newest version that any of the runs has."""
    parts = [
        {(name, str(variant.get(name))): variant[f"{name}_version"] for name in _versioned(variant)}
        for variant in runs.variant
    ]
    newest: dict[tuple[str, str], int] = {}
    for versions in parts:
        for part, version in versions.items():
            newest[part] = max(version, newest.get(part, version))
    return runs[[all(version == newest[part] for part, version in versions.items()) for versions in parts]]


def _versioned(variant: Mapping[str, Any]) -> list[str]:
    return [name.removesuffix("_version") for name in variant if name.endswith("_version")]


def _rows(runs: pd.DataFrame, across: Sequence[str], glossary: Glossary) -> list[Row]:
    members: dict[str, list[Hashable]] = {}
    extras: dict[str, dict[str, Any]] = {}
    for index, protocol, variant in zip(runs.index, runs.protocol, runs.variant, strict=True):
        extra = {field: protocol[field] for field in across if field in protocol}
        key = json.dumps([variant, extra], sort_keys=True)
        members.setdefault(key, []).append(index)
        extras[key] = extra
    rows = []
    measured = [measure for measure in glossary.values() if METRIC + measure.name in runs.columns]
    values = runs[[METRIC + measure.name for measure in measured]].to_numpy(dtype=float)
    places = {index: place for place, index in enumerate(runs.index)}
    for key, indices in members.items():
        own = runs.loc[indices]
        found = estimates_of(values[[places[index] for index in indices]])
        estimates = {one.key: value for one, value in zip(measured, found, strict=True) if value is not None}
        rows.append(Row(row_name(own, extras[key]), own.iloc[0].variant, extras[key], own, estimates))
    return rows


def _order(rows: list[Row], measure: Measure, reverse: bool) -> None:
    sign = (-measure.better or 1) * (-1 if reverse else 1)
    rows.sort(key=lambda row: _sort_key(row, measure, sign))


def _measure(glossary: Glossary, word: str) -> Measure:
    found = glossary.find(word)
    if found is None and word == DEFAULT_SORT:
        # Runs that have no CER keep the order of their names.
        return Measure.unexplained(word)
    if found is None:
        raise BoardError(f"no column {word!r} to sort by: there are {', '.join(one.key for one in glossary.values())}")
    return found


def _sort_key(row: Row, measure: Measure, sign: int) -> tuple[bool, float, str]:
    known = row.estimates.get(measure.key)
    return (known is None, sign * known.mean if known else 0.0, row.name)
