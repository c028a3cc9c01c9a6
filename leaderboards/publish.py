"""Publishing: from stores to files. The only place of the leaderboards that writes any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from leaderboards.boards import boards
from leaderboards.collect import collect
from leaderboards.contrast import contrasts
from leaderboards.errors import BoardError
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
) -> list[Report]:
    """Write a markdown page for each board of one or several stores, and an index, ``README.md``.

    Args:
        tracking_uris, experiment: see :func:`leaderboards.collect.collect`.
        folder: of the pages.
        sort, reverse, across: see :func:`leaderboards.boards.boards`.
        contrast: protocol field whose values a further page compares, see :func:`leaderboards.contrast.contrasts`.

    Returns:
        What was written, a report a board.

    Raises:
        BoardError: a store cannot be read, none holds a finished run, there is nothing to contrast, or the folder
            cannot be written. Nothing has been written then, but for what the folder took before it failed.
    """
    records = collect(*tracking_uris, experiment=experiment)
    found = boards(records, sort=sort, reverse=reverse, across=across)
    if not found:
        raise BoardError(f"no finished benchmark run in {', '.join(tracking_uris)}")
    newest = max(map(protocol_version, found))
    reports = [report(board, newest) for board in found]
    pages = {one.board.file_name: board_page(one) for one in reports} | {"README.md": index_page(reports, contrast)}
    if contrast is not None:
        pages[contrast_name(contrast)] = contrast_page(contrasts(records, contrast), contrast)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            draft = folder / f".{name}.new"
            draft.write_text(text, encoding="utf-8")
            draft.replace(folder / name)
    except OSError as error:
        raise BoardError(f"cannot write to {folder}: {error.strerror}") from error
    return reports
