"""Text from outside, made harmless: for a terminal, and for the name of a file. Markdown has its own in markup.py."""

from __future__ import annotations

import re
import unicodedata

LONGEST_SLUG = 120
"""Characters of a slug: with what is put around it, it stays below the 255 bytes that file systems allow a name."""


def printable(text: str) -> str:
    r"""``text`` in one line that no terminal takes for an instruction.

    Control characters, line breaks, marks that turn the direction of writing, and bytes of a file name that are no
    UTF-8 are written as Python would (``\n``, ``\x1b``, ``\udcff``); letters and spaces of any script stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _written(c) for c in text)


def slug(text: str) -> str:
    """``text`` as part of a file name: lower case letters of ASCII, digits, ``_`` and ``-``, of bounded length.

    Different texts may have one slug: whoever needs a unique name puts a digest behind it.
    """
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:LONGEST_SLUG]


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
