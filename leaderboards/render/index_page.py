"""The index of a folder of boards as markdown. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.numbers.names import ACROSS, contrast_name
from leaderboards.numbers.report import Report, parting_fields
from leaderboards.render.markup import cell, escape, link, pipe, value_text

INDEXED = ("megabatches", "shots", "replay", "model", "epochs")


def index_page(reports: Sequence[Report], contrast: str | None = None, *, across: bool = False) -> str:
    """A table of contents, one row a board; fields in which boards of one stream differ have a column.

    ``contrast`` is the protocol field of the contrast that has been made, if any: its page is linked, and so is that
    across streams if there is one.
    """
    rows = []
    boards = [one.board for one in reports]
    fields = [*INDEXED, *parting_fields(boards, INDEXED)]
    titles = dict.fromkeys("CER rate" if board.lead is None else board.lead.title for board in boards)
    for board in boards:
        first, shown = board.rows[0], board.lead
        # Boards of streams that shift lead with another measure than the others.
        what = "" if shown is None or len(titles) == 1 else f"{shown.title} "
        rows.append(
            [
                link(board.label, board.file_name),
                escape(board.data),
                *(escape(value_text(board.protocol.get(name))) for name in fields),
                str(len(board.rows)),
                str(len(board.runs)),
                escape(first.name),
                "-" if shown is None else escape(what) + cell(first.estimates.get(shown.key), shown),
            ]
        )
    headers = [
        "Stream",
        "Data",
        *(escape(name.capitalize().replace("_", " ")) for name in fields),
        "Rows",
        "Runs",
        "First row",
        "/".join(map(escape, titles)) or "CER rate",
    ]
    note = "Runs share a board only if stream, images and protocol agree. Synthetic stand-ins never meet real images."
    if contrast is not None:
        note += f"\n\nContrast: {link(contrast, contrast_name(contrast))}, the runs that differ in it alone."
    if across:
        note += f"\n\n{link('Across streams', ACROSS)}: strategies ranked over the streams they were all run on."
    return f"# Leaderboards\n\n{note}\n\n{pipe(rows, headers)}\n"
