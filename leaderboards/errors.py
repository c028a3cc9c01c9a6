"""The one kind of error that is the reader's to mend."""

from __future__ import annotations


class BoardError(Exception):
    """A store that cannot be read or an option that does not exist, in one line."""
