"""The ground that figures are drawn on: matplotlib's SVG, made alike everywhere, in two schemes of colours.

The same figure gives the same bytes with the same version of matplotlib: no date, ids that hash from a fixed salt, text
as text, measured in the font that matplotlib brings, which is as wide as any. Names come from outside and are drawn as
they are, never as formulas.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from leaderboards.text import printable

SIZE = (7.5, 4.2)
"""Inches, of 96 pixels: 720 wide on a page, where letters are 14 pixels high, and still 9 in a column of 480."""

FONT = 10.5
"""Points."""

FONTS = ["DejaVu Sans", "Verdana", "Arial"]
"""The first is measured; a reader without it sees the next one that there is, which is no wider."""

LONGEST_LABEL = 34
"""Characters of a name in a figure; what is longer loses its middle."""


@dataclass(frozen=True)
class Scheme:
    """Colours that are told apart by people with any kind of colour vision, and read on the scheme's background.

    Lines were searched for under the model of Machado et al. (2009), as the test of them says. They differ in
    dashes and markers as well. The scale ``heat`` has one hue in equal steps of lightness, the most first.
    """

    ink: str
    faint: str
    grid: str
    lines: Sequence[str]
    heat: Sequence[str]

    @property
    def all(self) -> list[str]:
        """Every colour, in one order for each scheme."""
        return [self.ink, self.faint, self.grid, *self.lines, *self.heat]


COLOURS: Mapping[str, Scheme] = {
    "light": Scheme(
        ink="#1f2328",
        faint="#59636e",
        grid="#d9dee3",
        lines=("#1166ff", "#dd2255", "#115522", "#886600", "#7711aa", "#bb4499", "#2211ee"),
        heat=("#033661", "#044d87", "#3265a2", "#517fbe", "#6e99da", "#8ab4f7", "#b7cffe", "#e3ebff"),
    ),
    "dark": Scheme(
        ink="#f0f6fc",
        faint="#9198a1",
        grid="#2f353d",
        lines=("#88bbff", "#dd7722", "#559966", "#eecc11", "#8877ff", "#ff33aa", "#11ee77"),
        heat=("#e3efff", "#afd3fe", "#77b8f8", "#579cd9", "#3580bc", "#08669d", "#064c76", "#013352"),
    ),
}

COLOUR = re.compile(r"(?<=fill: |roke: )#[0-9a-f]{6}")
"""Of a shape: names that look like one are no part of a style."""


def recoloured(light: str, scheme: Scheme) -> str:
    """A figure in light colours in those of another scheme: a second drawing would differ in nothing else."""
    others = dict(zip(COLOURS["light"].all, scheme.all, strict=True))

    def other(found: re.Match[str]) -> str:
        return others.get(found[0], found[0])

    return COLOUR.sub(other, light)


def svg(paint: Callable[[Figure], None], scheme: Scheme, size: tuple[float, float] = SIZE) -> str:
    """The text of a figure of some inches, in which ``paint`` puts axes."""
    look: Any = {
        "svg.hashsalt": "anytime-bench",
        "svg.fonttype": "none",
        "font.family": ["sans-serif"],
        "font.sans-serif": FONTS,
        "font.size": FONT,
        "text.color": scheme.ink,
        "text.parse_math": False,
        "axes.labelcolor": scheme.faint,
        "axes.edgecolor": scheme.grid,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlecolor": scheme.ink,
        "axes.titlelocation": "left",
        "axes.titlesize": FONT + 1,
        "axes.titleweight": "bold",
        "axes.titlepad": 10,
        "axes.unicode_minus": True,
        "xtick.color": scheme.grid,
        "ytick.color": scheme.grid,
        "xtick.labelcolor": scheme.faint,
        "ytick.labelcolor": scheme.faint,
    }
    # Whatever a user has set for figures of his own is no part of a page.
    with style.context(["default", look]), warnings.catch_warnings():
        # A reader's browser may have the letters that our font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        paint(figure)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def label(name: str, longest: int = LONGEST_LABEL) -> str:
    """A name from outside, as figures have room for it."""
    shown, half = printable(name), longest // 2
    return shown if len(shown) <= longest else f"{shown[:half]}…{shown[-half + 1 :]}"
