"""Publishing: from sources of runs to pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from leaderboards.boards import boards
from leaderboards.collect import collect
from leaderboards.console import say
from leaderboards.contrast import contrasts
from leaderboards.curves import read_series
from leaderboards.errors import BoardError
from leaderboards.files import write_all
from leaderboards.glossary import DEFAULT_SORT
from leaderboards.markdown import board_page, contrast_page, index_page
from leaderboards.memory import collector_paused
from leaderboards.names import contrast_name
from leaderboards.report import Report, protocol_version, report


@collector_paused()
def publish(
    tracking_uris: Sequence[str],
    folder: Path,
    *,
    experiment: str | None = None,
    sort: str = DEFAULT_SORT,
    reverse: bool = False,
    across: Iterable[str] = (),
    contrast: str | None = None,
    say: Callable[[str], object] = say,
) -> list[Report]:
    """Write a markdown page for each board of one or several sources, and an index, ``README.md``.

    Args:
        tracking_uris, experiment: see :func:`leaderboards.collect.collect`.
        folder: of the pages.
        sort, reverse, across: see :func:`leaderboards.boards.boards`.
        contrast: protocol field whose values a further page compares, see :func:`leaderboards.contrast.contrasts`.
        say: told in one line of runs that are passed over because their records are damaged, if there are any.

    Returns:
        What was written, a report a board.

    Raises:
        BoardError: a source cannot be read, none holds a finished run, there is nothing to contrast, or the folder
            cannot be written. Nothing has been written then: pages are replaced once all of them are on the disk.
    """
    records = collect(*tracking_uris, experiment=experiment)
    if records.note is not None:
        say(records.note)
    found = boards(records, sort=sort, reverse=reverse, across=across)
    if not found:
        raise BoardError(f"no finished benchmark run in {', '.join(tracking_uris)}")
    newest = max(map(protocol_version, found))
    series = read_series(records, found)
    reports = [report(board, newest, series) for board in found]
    pages = {one.board.file_name: board_page(one) for one in reports} | {"README.md": index_page(reports, contrast)}
    if contrast is not None:
        pages[contrast_name(contrast)] = contrast_page(contrasts(records, contrast), contrast)
    write_all(pages, folder)
    return reports
