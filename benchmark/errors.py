"""The one kind of error that is the user's to mend."""

from __future__ import annotations

from leaderboards.text import printable


class UsageError(Exception):
    """Wrong use or unusable input: one line that says what was wrong and what to do; the command exits with 2."""

    def __str__(self) -> str:
        # Names of files and folders are in it.
        return printable(super().__str__())


class DataNotFound(UsageError):
    """The images of a stream are not there; the message says what to download, and where to put it."""


class NotDownloaded(DataNotFound):
    """The images of a stream are not there, and were not to be downloaded now, though they could be."""
