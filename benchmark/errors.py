"""The one kind of error that is the user's to mend, and how what was given is shown in its message."""

from __future__ import annotations

import reprlib
from typing import Any

from leaderboards.text import printable

LONGEST_VALUE = 80
"""Characters of a value in a message."""

LONGEST_LINE = 1000
"""Characters of a message."""


class UsageError(Exception):
    """Wrong use or unusable input: one line that says what was wrong and what to do; the command exits with 2.

    The message is one line of at most 1,000 printable characters, whatever was put into it.
    """

    def __init__(self, message: str):
        super().__init__(in_one_line(message))


class DataNotFound(UsageError):
    """The images of a stream are not there; the message says what to download, and where to put it."""


class NotDownloaded(DataNotFound):
    """The images of a stream are not there, and were not to be downloaded now, though they could be."""


class Unwritten(UsageError):
    """What a run has made could not be written down; it can be gone on with once there is room."""


def in_one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """``text`` on one line of at most ``longest`` characters: what cannot be printed is escaped, the middle cut out."""
    # Each character becomes one or more: what lies beyond need not be looked at.
    half = (longest - len("...")) // 2
    start, end = text[: longest + 1], text[-half:]
    whole = printable(start)
    return whole if len(whole) <= longest else f"{whole[:half]}...{printable(end)[-half:]}"


def shortened(value: Any) -> str:
    """``value`` as ``repr`` shows it, in at most 80 printable characters."""
    return in_one_line(_SHORT.repr(value), LONGEST_VALUE)


def plain(value: Any) -> str:
    """As :func:`shortened`, but a text without quotes."""
    return in_one_line(value, LONGEST_VALUE) if isinstance(value, str) else shortened(value)


class _Short(reprlib.Repr):
    """Looks at no more of a value than is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = LONGEST_VALUE

    def repr_int(self, value: int, level: int) -> str:
        """A number of thousands of digits by its size: Python refuses to write it."""
        digits = int(value.bit_length() * 0.30103) + 1
        return super().repr_int(value, level) if digits <= LONGEST_VALUE else f"a number of about {digits:,} digits"


_SHORT = _Short()
