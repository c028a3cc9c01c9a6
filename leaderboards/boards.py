"""Boards: runs that may be compared, as rows of strategy variants."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from leaderboards.collect import collect, latest_per_seed
from leaderboards.columns import BY_KEY, COLUMNS, Column
from leaderboards.errors import BoardError
from leaderboards.memory import collector_paused
from leaderboards.statistics import Estimate, estimate

DEFAULT_SORT = "cer_rate"


@dataclass(frozen=True)
class Row:
    """One strategy variant: its name, its runs, and an estimate for each column that its runs have.

    ``variant`` is the strategy with its options, ``extra`` the protocol fields that the board compares across.
    """

    name: str
    variant: Mapping[str, Any]
    extra: Mapping[str, Any]
    runs: pd.DataFrame
    estimates: Mapping[str, Estimate]

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> value of a metric."""
        column = f"metrics.{metric}"
        if column not in self.runs:
            return {}
        values = zip(self.runs.seed.tolist(), self.runs[column].tolist(), strict=True)
        return {seed: value for seed, value in values if not math.isnan(value)}


@dataclass(frozen=True)
class Board:
    """Runs on one stream with the same data and protocol.

    Attributes:
        label: what the stream and its data are called.
        data, data_version, data_fingerprint: which images.
        protocol: what all runs have in common.
        rows: variants, best first.
        outdated: runs of earlier versions of a strategy, score or other part, which are left out.
    """

    label: str
    data: str
    data_version: str
    data_fingerprint: str
    protocol: Mapping[str, Any]
    rows: Sequence[Row]
    outdated: int = 0

    @property
    def file_name(self) -> str:
        """Of its markdown page: readable, and different for different boards."""
        p = self.protocol
        identity = json.dumps([self.data, self.data_fingerprint, dict(p)], sort_keys=True)
        words = [
            self.label,
            self.data,
            f"b{p.get('megabatches')}",
            p.get("replay"),
            p.get("model"),
            f"e{p.get('epochs')}",
        ]
        slug = re.sub(r"[^a-z0-9_]+", "-", " ".join(str(word) for word in words if word).lower()).strip("-")
        return f"{slug}-{_short_hash(identity)}.md"

    @cached_property
    def runs(self) -> pd.DataFrame:
        """All runs of the board."""
        return pd.concat([row.runs for row in self.rows])


def boards(
    runs: pd.DataFrame, *, sort: str = DEFAULT_SORT, reverse: bool = False, across: Iterable[str] = ()
) -> list[Board]:
    """Group runs into boards; runs share one only if stream, images and protocol agree.

    Args:
        runs: what :func:`leaderboards.collect.collect` returned.
        sort: key of the column that orders the rows; rows that lack it come last.
        reverse: worst first.
        across: protocol fields to compare across: they move from the board's heading to the rows' names.

    Raises:
        BoardError: no such column or protocol field.
    """
    column = _column(sort)
    # The size of a replay buffer is a field of its own that only one kind of replay has.
    across = (*across, "buffer_size") if "replay" in across else tuple(across)
    if runs.empty:
        return []
    runs = latest_per_seed(runs.sort_values("started", kind="stable"))
    grouped: dict[str, list[Hashable]] = {}
    shared: dict[str, dict[str, Any]] = {}
    images = zip(runs.stream, runs.data, runs.data_version, runs.data_fingerprint, strict=True)
    for index, seen, protocol in zip(runs.index, images, runs.protocol, strict=True):
        unknown = [field for field in across if field not in protocol and field != "buffer_size"]
        if unknown:
            raise BoardError(f"no protocol field {unknown[0]!r}: there are {', '.join(sorted(protocol))}")
        common = {name: value for name, value in protocol.items() if name not in across}
        key = json.dumps([*seen, common], sort_keys=True)
        grouped.setdefault(key, []).append(index)
        shared.setdefault(key, common)
    result = []
    for key, members in grouped.items():
        together = runs.loc[members]
        head = together.iloc[0]
        current = newest_versions(together)
        rows = _rows(current, across)
        sign = (-column.better or 1) * (-1 if reverse else 1)
        rows.sort(key=lambda row: _sort_key(row, column, sign))
        result.append(
            Board(
                head.stream_label,
                head.data,
                head.data_version,
                head.data_fingerprint,
                shared[key],
                rows,
                len(members) - len(current),
            )
        )
    return sorted(result, key=lambda board: (board.label, board.data, board.file_name))


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


@collector_paused()
def write_boards(
    tracking_uris: Sequence[str],
    folder: Path,
    *,
    experiment: str | None = None,
    sort: str = DEFAULT_SORT,
    reverse: bool = False,
    across: Iterable[str] = (),
    contrast: str | None = None,
) -> Path:
    """Write a markdown page for each board of one or several stores, and an index; returns the index's path.

    Args:
        tracking_uris, experiment: see :func:`leaderboards.collect.collect`.
        folder: of the pages.
        sort, reverse, across: see :func:`boards`.
        contrast: protocol field whose values a further page compares, see :func:`leaderboards.contrast.contrasts`.

    Raises:
        BoardError: a store cannot be read, none holds a finished run, there is nothing to contrast, or the folder
            cannot be written. Nothing has been written then, but for what the folder took before it failed.
    """
    from leaderboards.contrast import contrasts
    from leaderboards.markdown import board_page, contrast_name, contrast_page, index_page

    runs = pd.concat([collect(uri, experiment) for uri in tracking_uris], ignore_index=True)
    found = boards(runs, sort=sort, reverse=reverse, across=across)
    if not found:
        raise BoardError(f"no finished benchmark run in {', '.join(tracking_uris)}")
    pages = {board.file_name: board_page(board) for board in found} | {"README.md": index_page(found, contrast)}
    if contrast is not None:
        pages[contrast_name(contrast)] = contrast_page(contrasts(runs, contrast), contrast)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            draft = folder / f".{name}.new"
            draft.write_text(text, encoding="utf-8")
            draft.replace(folder / name)
    except OSError as error:
        raise BoardError(f"cannot write to {folder}: {error.strerror}") from error
    return folder / "README.md"


def variant_name(
    variant: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    density: float | None = None,
) -> str:
    """A row's name: the strategy, then the options in which it differs from ``defaults``, its own ones.

    ``density`` is the same as the option ``tau`` and takes its place where it is known.
    """
    words = []
    usual = defaults or {}
    options = {n: v for n, v in variant.items() if n != "strategy" and not n.endswith("_version") and usual.get(n) != v}
    if "tau" in options and density is not None:
        options["density"] = density
        del options["tau"]
    if options.get("known_length") is False:
        options["unknown length"] = True
        del options["known_length"]
    options |= extra or {}
    for name in sorted(options, key=_reading_order):
        value = options[name]
        if isinstance(value, bool):
            words.append(name if value else f"not {name}")
        elif isinstance(value, str) and name not in (extra or {}):
            words.append(value)
        elif isinstance(value, Mapping):
            words += [f"{key} {number:g}" for key, number in value.items()]
        else:
            words.append(f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}")
    return f"{variant['strategy']}" + (f" ({', '.join(words)})" if words else "")


def row_name(runs: pd.DataFrame, extra: Mapping[str, Any] | None = None) -> str:
    """The name of the variant that all of ``runs`` have."""
    last = runs.iloc[-1]
    return variant_name(last.variant, extra, last.variant_defaults, None if pd.isna(last.density) else last.density)


def _reading_order(option: str) -> tuple[int, str]:
    first = ("score", "schedule", "tau", "density", "scope", "structure", "nested")
    return first.index(option) if option in first else len(first), option


def _rows(runs: pd.DataFrame, across: Sequence[str]) -> list[Row]:
    members: dict[str, list[Hashable]] = {}
    extras: dict[str, dict[str, Any]] = {}
    for index, protocol, variant in zip(runs.index, runs.protocol, runs.variant, strict=True):
        extra = {field: protocol[field] for field in across if field in protocol}
        key = json.dumps([variant, extra], sort_keys=True)
        members.setdefault(key, []).append(index)
        extras[key] = extra
    rows = []
    for key, indices in members.items():
        own = runs.loc[indices]
        estimates = {}
        for column in COLUMNS:
            name = f"metrics.{column.metric}"
            if name in own and (known := own[name].dropna().tolist()):
                estimates[column.key] = estimate(known)
        rows.append(Row(row_name(own, extras[key]), own.iloc[0].variant, extras[key], own, estimates))
    return rows


def _column(key: str) -> Column:
    if key not in BY_KEY:
        raise BoardError(f"no column {key!r} to sort by: there are {', '.join(BY_KEY)}")
    return BY_KEY[key]


def _sort_key(row: Row, column: Column, sign: int) -> tuple[bool, float, str]:
    known = row.estimates.get(column.key)
    return (known is None, sign * known.mean if known else 0.0, row.name)


def _short_hash(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()[:8]
