"""The boards of sources, in numbers: what all pages and tables are written from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from leaderboards.console import say
from leaderboards.errors import BoardError
from leaderboards.glossary import DEFAULT_SORT
from leaderboards.numbers.boards import boards
from leaderboards.numbers.curves import METRICS, Series, read_series
from leaderboards.numbers.layers import with_layers
from leaderboards.numbers.report import Report, protocol_version, report
from leaderboards.sources.collect import Records, collect


@dataclass(frozen=True)
class Reported:
    """What sources hold, and the reports of its boards.

    Attributes:
        records: all finished runs.
        reports: one a board.
        series: of the runs of all boards.
    """

    records: Records
    reports: list[Report]
    series: Series


def reported(
    tracking_uris: Sequence[str],
    *,
    experiment: str | None = None,
    sort: str = DEFAULT_SORT,
    reverse: bool = False,
    across: Iterable[str] = (),
    metrics: Sequence[str] = METRICS,
    layers: bool = False,
    say: Callable[[str], object] = say,
) -> Reported:
    """The boards of one or several sources, in numbers.

    Args:
        tracking_uris, experiment: see :func:`leaderboards.sources.collect.collect`.
        sort, reverse, across: see :func:`leaderboards.numbers.boards.boards`.
        metrics: those whose series are read: a store of many runs takes its time for each.
        layers: whether the densities of layers are read, of the rows that figures show.
        say: told in one line of runs that are passed over because their records are damaged, if there are any.

    Raises:
        BoardError: a source cannot be read, or none holds a finished run.
    """
    records = collect(*tracking_uris, experiment=experiment)
    if records.note is not None:
        say(records.note)
    found = boards(records, sort=sort, reverse=reverse, across=across)
    if not found:
        raise BoardError(f"no finished benchmark run in {', '.join(tracking_uris)}")
    newest = max(map(protocol_version, found))
    series = read_series(records, found, metrics)
    reports = [report(board, newest, series) for board in found]
    return Reported(records, with_layers(reports, records) if layers else reports, series)
