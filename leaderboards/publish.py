"""Publishing: from sources of runs to pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from leaderboards.console import say
from leaderboards.errors import BoardError
from leaderboards.glossary import DEFAULT_SORT
from leaderboards.numbers.contrast import contrasts
from leaderboards.numbers.curves import ACCURACY, METRICS
from leaderboards.numbers.names import ACROSS, contrast_name
from leaderboards.numbers.report import Report
from leaderboards.numbers.reported import Reported, reported
from leaderboards.render.board_page import board_page
from leaderboards.render.contrast_page import contrast_page
from leaderboards.render.files import write_all
from leaderboards.render.index_page import index_page
from leaderboards.render.pictures import RANK_PLOTS, every_path, rank_plot_path
from leaderboards.sources.memory import collector_paused

TRENDS = (ACCURACY,)
"""Metrics whose series pages without figures show."""


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
    guide: str | None = None,
    figures: bool = False,
    say: Callable[[str], object] = say,
) -> list[Report]:
    """Write a markdown page for each board of one or several sources, and an index, ``README.md``.

    Args:
        tracking_uris, experiment, sort, reverse, across, say: see :func:`reported`.
        folder: of the pages.
        contrast: protocol field whose values a further page compares, see
            :func:`leaderboards.numbers.contrast.contrasts`.
        guide: address, relative to the folder, of what explains the pages, which link it then.
        figures: whether pages have figures, each in a folder of its page's name; that takes a second a board.

    Returns:
        What was written, a report a board.

    Raises:
        BoardError: a source cannot be read, none holds a finished run, there is nothing to contrast, or the folder
            cannot be written. Nothing has been written then: pages are replaced once all of them are on the disk.
    """
    found = reported(
        tracking_uris,
        experiment=experiment,
        sort=sort,
        reverse=reverse,
        across=across,
        metrics=METRICS if figures else TRENDS,
        layers=figures,
        say=say,
    )
    publish_markdown(found, folder, contrast=contrast, guide=guide, figures=figures)
    return found.reports


def publish_page(found: Reported, file: Path) -> None:
    """Write one HTML page with all boards, complete in itself.

    Raises:
        BoardError: what draws it is not installed, or the file cannot be written: nothing has been written then.
    """
    try:
        # Only those who ask for the page need what draws it.
        from leaderboards.render.page.document import document
    except ModuleNotFoundError as error:
        if error.name not in ("altair", "vl_convert"):
            raise
        raise BoardError(f"the page needs {error.name}: pip install 'anytime-bench[page]'") from error
    if file.is_dir():
        raise BoardError(f"{file} is a folder: name the file of the page, such as {file / 'leaderboards.html'}")
    write_all({file.name: document(found.reports)}, file.parent)


def publish_markdown(
    found: Reported,
    folder: Path,
    *,
    contrast: str | None = None,
    guide: str | None = None,
    figures: bool = False,
) -> None:
    """Write the markdown pages of what :func:`reported` found; see :func:`publish`."""
    pages: dict[str, str] = {}
    if contrast is not None:
        pages[contrast_name(contrast)] = contrast_page(contrasts(found.records, contrast), contrast)
    outdated: list[str] = []
    for one in found.reports:
        drawn = _figures(one) if figures else {}
        outdated += every_path(one.board.file_name)
        pages |= drawn
        pages[one.board.file_name] = board_page(one, figures=figures, guide=guide)
    across = _across(found.reports, figures)
    pages |= across
    outdated += [ACROSS, *(path.relative_to(folder).as_posix() for path in folder.glob(RANK_PLOTS))]
    pages["README.md"] = index_page(found.reports, contrast, across=ACROSS in across)
    write_all(pages, folder, outdated=[path for path in outdated if path not in pages])


def _across(reports: Sequence[Report], figures: bool) -> dict[str, str]:
    """The page across streams and its figures; nothing where no two boards can be pooled."""
    if len(reports) < 2:
        return {}
    # The statistics of scipy take half a second to import.
    from leaderboards.numbers.across import pools
    from leaderboards.render.across_page import across_page, drawn

    found = pools([one.board for one in reports])
    if not found:
        return {}
    files = {ACROSS: across_page(found, figures=figures)}
    for number, pool in enumerate(found, start=1):
        if figures and drawn(pool):
            from leaderboards.render.rank_plot import draw_ranks

            files |= {rank_plot_path(number, scheme): text for scheme, text in draw_ranks(pool).items()}
    return files


def _figures(one: Report) -> dict[str, str]:
    # Matplotlib takes a second to import.
    from leaderboards.render.plots import draw

    return draw(one)
