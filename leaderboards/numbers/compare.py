"""Two strategies, sources or commits beside each other: what changed, paired by seed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from leaderboards.console import say
from leaderboards.errors import BoardError
from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Board, Row, boards
from leaderboards.numbers.contrast import Line, compared_rows, correct
from leaderboards.numbers.names import row_name
from leaderboards.sources.addresses import RECORDS
from leaderboards.sources.collect import Records, collect

COMMIT = re.compile(r"[0-9a-f]{4,40}")

SHOWN = 8
"""Names in a message."""


@dataclass(frozen=True)
class Change:
    """What changed on one board.

    Attributes:
        board: what its runs have in common.
        measures: by which it is compared: those that boards compare with their baseline.
        lines: second - first, for what both have with common seeds; p values are corrected over all changes.
    """

    board: Board
    measures: Sequence[Measure]
    lines: Sequence[Line]


@dataclass(frozen=True)
class Changes:
    """Everything that changed.

    Attributes:
        first, second: what was compared, in full.
        found: one a board that has both; not empty.
        unpaired: rows that only one of both has, or without a common seed.
    """

    first: str
    second: str
    found: Sequence[Change]
    unpaired: int = 0


def compare(
    first: str,
    second: str,
    tracking_uris: Sequence[str],
    *,
    experiment: str | None = None,
    say: Callable[[str], object] = say,
) -> Changes:
    """Compare two rows of boards, two sources, or the runs of two commits.

    Args:
        first, second: both addresses of sources (with ``://``, or ``records:DIR``); or both names of rows, or of
            strategies that have one row; or both commits, or beginnings of these.
        tracking_uris, experiment: where rows and commits are looked up, see
            :func:`leaderboards.sources.collect.collect`.
        say: told in one line of runs that are passed over because their records are damaged, if there are any.

    Raises:
        BoardError: a source cannot be read, there is no such row or commit, or nothing has a common seed.
    """
    if first == second:
        raise BoardError(f"{first} and {second} are the same: name two strategies, stores or commits")
    if _is_source(first) and _is_source(second):
        apart = [collect(uri, experiment=experiment) for uri in (first, second)]
        for one in apart:
            _note(one, say)
        return _sides(first, second, *_completed(*apart))
    if _is_source(first) or _is_source(second):
        raise BoardError(f"{first} and {second} are of different kinds: name two strategies, two stores or two commits")
    records = collect(*tracking_uris, experiment=experiment)
    _note(records, say)
    found = boards(records)
    if not found:
        raise BoardError(f"no finished benchmark run in {', '.join(tracking_uris)}")
    commits = [_commit(word, records) for word in (first, second)]
    if commits[0] is not None and commits[1] is not None and not any(_rows(found, word) for word in (first, second)):
        sides = [replace(records, runs=records.runs[records.runs.commit == one]) for one in commits]
        return _sides(commits[0], commits[1], *sides)
    for word in (first, second):
        if not _rows(found, word):
            raise BoardError(_unknown(word, found, tracking_uris))
    return _two_rows(first, second, found)


def _is_source(word: str) -> bool:
    return "://" in word or word.startswith(RECORDS)


def _note(records: Records, say: Callable[[str], object]) -> None:
    if records.note is not None:
        say(records.note)


def _measures(board: Board) -> list[Measure]:
    return board.glossary.in_place("baseline")


def _two_rows(first: str, second: str, found: Sequence[Board]) -> Changes:
    ours, theirs = (_rows(found, word) for word in (first, second))
    changes = []
    for number, board in enumerate(found):
        if number in ours and number in theirs:
            name = f"{theirs[number].name} - {ours[number].name}"
            line = compared_rows(name, ours[number], theirs[number], _measures(board))
            changes += [] if line is None else [Change(board, _measures(board), [line])]
    if not ours.keys() & theirs.keys():
        raise BoardError(f"no board has both {first} and {second}: nothing can be paired")
    if not changes:
        raise BoardError(f"{first} and {second} have no common seed: run both with the same --seed")
    correct([line for change in changes for line in change.lines])
    return Changes(first, second, changes)


def _rows(found: Sequence[Board], word: str) -> dict[int, Row]:
    """Number of a board -> its row of this name, or else the only one of this strategy.

    Raises:
        BoardError: a board has several of them.
    """
    rows = {}
    for number, board in enumerate(found):
        exact = [row for row in board.rows if row.name == word]
        loose = [row for row in board.rows if row.variant["strategy"].casefold() == word.casefold()]
        several = exact or loose
        if len(several) > 1:
            names = ", ".join(repr(row.name) for row in several[:SHOWN])
            raise BoardError(f"{board.label} has {len(several)} rows of {word}: name one of them, such as {names}")
        if several:
            rows[number] = several[0]
    return rows


def _commit(word: str, records: Records) -> str | None:
    """The only commit of the runs that begins so."""
    if not COMMIT.fullmatch(word) or "commit" not in records.runs:
        return None
    known = {one for one in records.runs.commit.dropna() if isinstance(one, str) and one.startswith(word)}
    return known.pop() if len(known) == 1 else None


def _unknown(word: str, found: Sequence[Board], tracking_uris: Sequence[str]) -> str:
    names = list(dict.fromkeys(row.name for board in found for row in board.rows))
    near = difflib.get_close_matches(word, names, n=SHOWN, cutoff=0.5) or names[:SHOWN]
    shown = ", ".join(repr(name) for name in near)
    return f"no strategy, store or commit {word!r} in {', '.join(tracking_uris)}: there are {shown}" + (
        f" and {len(names) - len(near)} more" if len(names) > len(near) else ""
    )


def _completed(*apart: Records) -> list[Records]:
    """Sources whose protocols say the same: with what earlier runs of either had."""
    earlier: dict[str, object] = {}
    for records in apart:
        for said in records.runs.get("earlier", ()):
            earlier |= said
    return [
        one if one.runs.empty else replace(one, runs=one.runs.assign(protocol=[earlier | p for p in one.runs.protocol]))
        for one in apart
    ]


def _sides(first: str, second: str, ours: Records, theirs: Records) -> Changes:
    """Each variant under both, wherever stream, images and protocol agree."""
    sides: list[Mapping[str, Board]] = [{one.file_name: one for one in boards(side)} for side in (ours, theirs)]
    for name, side in zip((first, second), sides, strict=True):
        if not side:
            raise BoardError(f"no finished benchmark run of {name}")
    changes, unpaired = [], 0
    for name, board in sides[0].items():
        if name not in sides[1]:
            unpaired += len(board.rows)
            continue
        before, after = ({_key(row): row for row in side[name].rows} for side in sides)
        unpaired += len(before.keys() ^ after.keys())
        lines = []
        for key in (key for key in before if key in after):
            line = compared_rows(row_name(after[key].runs), before[key], after[key], _measures(board))
            if line is None:
                unpaired += 1
            else:
                lines.append(line)
        changes += [Change(board, _measures(board), lines)] if lines else []
    unpaired += sum(len(board.rows) for name, board in sides[1].items() if name not in sides[0])
    if not changes:
        raise BoardError(
            f"{first} and {second} have no run of the same stream, images, protocol, variant and seed: "
            "nothing can be paired"
        )
    correct([line for change in changes for line in change.lines])
    return Changes(first, second, changes, unpaired)


def _key(row: Row) -> str:
    return json.dumps(row.variant, sort_keys=True)
