"""Markdown as pages have it: text from outside escaped, tables, what can be folded, figures.

Whatever stores say (labels, names, values, the glossary) goes through :func:`escape`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from tabulate import tabulate

from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Board
from leaderboards.numbers.statistics import Estimate
from leaderboards.text import printable

MARKS = r"""
    [\\`*|#~$]                                         # read wherever they stand
    | (?<!\w)_+ | _+(?!\w)                             # emphasis, unless inside a word
    | \](?=[(\[:])                                      # the middle of a link
    | (?<=http): | (?<=https): | (?<=ftp): | (?<=www)\. | @(?=\w)   # bare addresses become links
    | ^[-+](?=\s\S) | ^\[(?=[ x]\])                   # the item of a list, and a box to tick
"""
"""What markdown would read as its own in one line of text, each character by itself."""

IN_TEXT = re.compile(MARKS, re.VERBOSE | re.IGNORECASE)

IN_BRACKETS = re.compile(rf"{MARKS} | [\[\]]", re.VERBOSE | re.IGNORECASE)

NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s)")
"""The beginning of a numbered item."""

HTML = re.compile("[<>]|&(?=#?[a-z0-9]+;)", re.IGNORECASE)


def pipe(rows: Sequence[Sequence[str]], headers: Sequence[str], left: int = 1) -> str:
    """A markdown table of cells as they are; escape what comes from outside with :func:`escape`.

    The first ``left`` columns are aligned to the left, the others to the right.
    """
    aligned = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned if rows else None)


def escape(text: str) -> str:
    """``text`` from outside, for any place of a page: shown as it is, in one line, never read as markdown or HTML."""
    return _escape(text, IN_TEXT)


def link(text: str, page: str) -> str:
    return f"[{_escape(text, IN_BRACKETS)}]({page})"


def _escape(text: str, marks: re.Pattern[str]) -> str:
    shown = marks.sub(lambda found: "".join(f"\\{mark}" for mark in found[0]), printable(text))
    shown = NUMBERED.sub(r"\1\\\2", shown)
    return HTML.sub(lambda found: html.escape(found[0]), shown)


def cell(value: Estimate | None, measure: Measure) -> str:
    """Mean and interval in the measure's form; no interval that would be written as zero."""
    return "-" if value is None else escape(_spread(value, measure.form, 1))


def percent(value: Estimate | None, measure: Measure, sign: bool = False) -> str:
    """As :func:`cell`, in one piece, and shorter: fractions as percentages, to a tenth where the interval is wider.

    ``sign`` writes the plus of numbers above zero, as for differences.
    """
    if value is None:
        return "-"
    if measure.unit != "fraction":
        return escape(_spread(value, measure.form, 1)).replace(" ", NO_BREAK)
    digits = 1 if value.margin is not None and 100 * value.margin >= 0.1 else 2
    plus = "+" if sign or "+" in measure.form else ""
    return escape(_spread(value, f"{{:{plus}.{digits}f}}", 100)).replace(" ", NO_BREAK)


NO_BREAK = "\u00a0"
"""A space at which no line ends."""


def p_text(value: float) -> str:
    """A p value, or a level, with three digits at most."""
    return "< .001" if value < 0.001 else f"{value:.3f}".rstrip("0").rstrip(".").removeprefix("0") or "0"


def _spread(value: Estimate, form: str, scale: float) -> str:
    mean, unsigned = form.format(scale * value.mean), form.replace("+", "")
    if value.margin is None or (margin := unsigned.format(scale * value.margin)) == unsigned.format(0.0):
        return mean
    return f"{mean} ± {margin}"


def details(summary: str, *parts: str) -> str:
    """What is folded until a reader opens it; ``summary`` is no text from outside."""
    # Code hosts read markdown in it only after an empty line.
    return "\n\n".join([f"<details>\n<summary>{summary}</summary>", *parts, "</details>"])


def picture(light: str, dark: str, alt: str, width: int) -> str:
    """A figure in the reader's scheme of colours; nothing in it is from outside."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{alt}" width="{width}"></picture>'
    )


BARS = "▁▂▃▄▅▆▇█"

MOST_BARS = 10


def bars(values: Sequence[float], lowest: float, highest: float) -> str:
    """Numbers as a row of bars from ``lowest`` to ``highest``; of many numbers some, the last one among them."""
    some = min(len(values), MOST_BARS)
    chosen = [values[(number + 1) * len(values) // some - 1] for number in range(some)]
    last, span = len(BARS) - 1, highest - lowest
    if not 0 < span < math.inf or not all(lowest <= value <= highest for value in chosen):
        return ""
    return "".join(BARS[round(last * ((value - lowest) / span))] for value in chosen)


def signed(measure: Measure) -> Measure:
    """For differences."""
    return replace(measure, form="{:+.4f}")


def code(name: str) -> str:
    return f"`{name}`" if name.isidentifier() else escape(name)


def explained(measure: Measure) -> str:
    # "[title]:" would define a link.
    return f"- {_escape(measure.title, IN_BRACKETS)}: {escape(measure.meaning)}."


def value_text(value: object) -> str:
    return "-" if value is None else str(value)


def images(board: Board) -> str:
    if board.data == "real":
        return "Real images."
    return "**Synthetic stand-in images**, procedurally made: not to be compared with results on real ones."


def provenance_list(found: Mapping[str, Sequence[str]], first: pd.Timestamp, last: pd.Timestamp) -> str:
    lines = [f"- Runs started {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC."]
    return "\n".join(
        [*lines, *(f"- {words}: {escape(', '.join(values))}." for words, values in found.items() if values)]
    )
