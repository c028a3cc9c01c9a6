"""Publishing: from stores to files. The only place of the leaderboards that writes any."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from leaderboards.boards import boards
from leaderboards.collect import collect
from leaderboards.contrast import contrasts
from leaderboards.errors import BoardError
from leaderboards.glossary import DEFAULT_SORT
from leaderboards.markdown import board_page, contrast_page, index_page
from leaderboards.memory import collector_paused
from leaderboards.names import contrast_name
from leaderboards.report import Report, protocol_version, report


def _print(line: str) -> None:
    print(line, file=sys.stderr)


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
    say: Callable[[str], object] = _print,
) -> list[Report]:
    """Write a markdown page for each board of one or several stores, and an index, ``README.md``.

    Args:
        tracking_uris, experiment: see :func:`leaderboards.collect.collect`.
        folder: of the pages.
        sort, reverse, across: see :func:`leaderboards.boards.boards`.
        contrast: protocol field whose values a further page compares, see :func:`leaderboards.contrast.contrasts`.
        say: told in one line of runs that are passed over because their records are damaged, if there are any.

    Returns:
        What was written, a report a board.

    Raises:
        BoardError: a store cannot be read, none holds a finished run, there is nothing to contrast, or the folder
            cannot be written. Nothing has been written then: pages are replaced once all of them are on the disk.
    """
    records = collect(*tracking_uris, experiment=experiment)
    if records.note is not None:
        say(records.note)
    found = boards(records, sort=sort, reverse=reverse, across=across)
    if not found:
        raise BoardError(f"no finished benchmark run in {', '.join(tracking_uris)}")
    newest = max(map(protocol_version, found))
    reports = [report(board, newest) for board in found]
    pages = {one.board.file_name: board_page(one) for one in reports} | {"README.md": index_page(reports, contrast)}
    if contrast is not None:
        pages[contrast_name(contrast)] = contrast_page(contrasts(records, contrast), contrast)
    try:
        _write(pages, folder)
    except OSError as error:
        raise BoardError(f"cannot write to {folder}: {error.strerror}") from error
    return reports


def _write(pages: Mapping[str, str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # A folder of its own: another command may write the same pages.
    with TemporaryDirectory(prefix=".new-", dir=folder) as drafts:
        for name, text in pages.items():
            (Path(drafts) / name).write_text(text, encoding="utf-8")
        for name in pages:
            (Path(drafts) / name).replace(folder / name)
