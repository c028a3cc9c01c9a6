"""The one kind of error that is the reader's to mend."""

from __future__ import annotations

from leaderboards.text import printable


class BoardError(Exception):
    """A store that cannot be read or an option that does not exist, in one line."""

    def __str__(self) -> str:
        # Names in it come from outside.
        return printable(super().__str__())
