"""Figures of a board as SVG, by matplotlib, in two schemes of colours. Nothing is computed here but where things stand.

The same report gives the same bytes with the same version of matplotlib: no date, ids that hash from a fixed salt, text
as text, measured in the font that matplotlib brings, which is as wide as any. Names come from outside and are drawn as
they are, never as formulas.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from leaderboards.numbers.curves import Curve
from leaderboards.numbers.fronts import LOSS
from leaderboards.numbers.report import BASELINE, Report, RowReport
from leaderboards.render.pictures import DENSITY, SCHEMES, Picture, drawn_matrices, drawn_rows, path_of, pictures
from leaderboards.text import printable

SIZE = (7.5, 4.2)
"""Inches, of 96 pixels: 720 wide on a page, where letters are 14 pixels high, and still 9 in a column of 480."""

FONT = 10.5
"""Points."""

FONTS = ["DejaVu Sans", "Verdana", "Arial"]
"""The first is measured; a reader without it sees the next one that there is, which is no wider."""

LONGEST_LABEL = 34
"""Characters of a name in a figure; what is longer loses its middle."""

HEATS_ACROSS = 3
"""Heat maps beside each other."""

HEAT_LABEL = 26
"""Characters of a name above a heat map."""

MOST_WRITTEN = 5
"""Experiences up to which the cells of a heat map have room for their numbers."""

LARGEST = 1e24
"""Of what is drawn: more than the FLOPs of any training. A cost below its inverse is none."""

JOINT = 0.036
"""Width of what joins a line and its name, as a share of the figure."""

APART = 0.055
"""Distance of the labels of two lines, at least, as a share of the height of the axes."""


@dataclass(frozen=True)
class Scheme:
    """Colours that are told apart by people with any kind of colour vision, and read on the scheme's background.

    They were searched for under the model of Machado et al. (2009), as the test of them says. Lines differ in their
    dashes and markers as well.
    """

    ink: str
    faint: str
    grid: str
    lines: Sequence[str]

    @property
    def all(self) -> list[str]:
        """Every colour, in one order for each scheme."""
        return [self.ink, self.faint, self.grid, *self.lines]


COLOURS: Mapping[str, Scheme] = {
    "light": Scheme(
        ink="#1f2328",
        faint="#59636e",
        grid="#d9dee3",
        lines=("#1166ff", "#dd2255", "#115522", "#886600", "#7711aa", "#bb4499", "#2211ee"),
    ),
    "dark": Scheme(
        ink="#f0f6fc",
        faint="#9198a1",
        grid="#2f353d",
        lines=("#88bbff", "#dd7722", "#559966", "#eecc11", "#8877ff", "#ff33aa", "#11ee77"),
    ),
}

DASHES: Sequence[tuple[float, ...]] = ((), (5, 1.6), (1.6, 1.2), (7, 1.6, 1.6, 1.6))

MARKERS = "osD^vPX"


COLOUR = re.compile(r"(?<=fill: |roke: )#[0-9a-f]{6}")
"""Of a shape: names that look like one are no part of a style."""


def draw(report: Report) -> dict[str, str]:
    """Path, from the folder of the page -> text of the figure, of each figure in each scheme."""
    page, found = report.board.file_name, {}
    for one in pictures(report):
        light = _svg(report, one, COLOURS["light"])
        for scheme in SCHEMES:
            found[path_of(page, one.name, scheme)] = recoloured(light, COLOURS[scheme])
    return found


def recoloured(light: str, scheme: Scheme) -> str:
    """A figure in light colours in those of another scheme: a second drawing would differ in nothing else."""
    others = dict(zip(COLOURS["light"].all, scheme.all, strict=True))

    def other(found: re.Match[str]) -> str:
        return others.get(found[0], found[0])

    return COLOUR.sub(other, light)


def _svg(report: Report, one: Picture, scheme: Scheme) -> str:
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
        figure = Figure(figsize=SIZE)
        FigureCanvasSVG(figure)
        if one.heat:
            _heat_maps(figure, report, one, scheme)
            return _written(figure)
        left, right = 0.075, 0.985 - _widest(figure, report)
        axes = figure.add_axes((left, 0.135, right - left, 0.765))
        axes.set_title(_title(report, one), x=-left / (right - left) + 0.01)
        axes.grid(True, color=scheme.grid, linewidth=0.7)
        axes.set_axisbelow(True)
        if one.against_cost:
            _scatter(axes, report, one, scheme)
        else:
            _lines(axes, report, one, scheme)
        return _written(figure)


def _written(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _widest(figure: Figure, report: Report) -> float:
    """Width of the names at the right and of what joins them, as a share of the figure."""
    names = [figure.text(0, 0, name) for name in (BASELINE, *map(_label, drawn_rows(report)))]
    width = max(name.get_window_extent().width for name in names) / figure.bbox.width
    for name in names:
        name.remove()
    return JOINT + float(width)


@dataclass(frozen=True)
class Style:
    """How a row is drawn; the baseline is in ink, and thicker."""

    row: RowReport
    colour: str
    marker: str
    dashes: tuple[float, ...]
    width: float


def _styles(report: Report, scheme: Scheme) -> list[Style]:
    """One for each row that is shown."""
    styles: list[Style] = []
    number = 0
    for row in drawn_rows(report):
        if row.row.variant["strategy"] == BASELINE and not any(one.colour == scheme.ink for one in styles):
            styles.append(Style(row, scheme.ink, "o", (), 2.6))
        else:
            colour, marker = scheme.lines[number % len(scheme.lines)], MARKERS[number % len(MARKERS)]
            styles.append(Style(row, colour, marker, DASHES[number % len(DASHES)], 1.8))
            number += 1
    return styles


def _drawable(value: float) -> bool:
    """Whether there is room for it; what diverged goes to wherever numbers end."""
    return abs(value) < LARGEST


@dataclass(frozen=True)
class End:
    """What is named at the right: how high it ends, its name, and what it is drawn with."""

    height: float
    name: str
    colour: str
    marker: str


def _lines(axes: Axes, report: Report, one: Picture, scheme: Scheme) -> None:
    measure = report.board.glossary.get(one.metric)
    scale = 100.0 if measure is not None and measure.unit == "fraction" else 1.0
    ends: list[End] = []
    drawn_means: list[float] = []
    bounds: list[float] = []
    last = 2
    for own in _styles(report, scheme):
        row = own.row
        curve = (row.curves_against if one.paired else row.curves).get(one.metric)
        if curve is None or not all(map(_drawable, curve.means)):
            continue
        means = [scale * mean for mean in curve.means]
        drawn: dict[str, Any] = {
            "color": own.colour,
            "linewidth": own.width,
            "marker": own.marker,
            "markevery": [len(means) - 1],
        }
        axes.plot(curve.steps, means, linestyle=(0, own.dashes or None), clip_on=False, zorder=3, **drawn)
        bounds += _band(axes, curve, means, scale, own.colour)
        ends.append(End(means[-1], _label(row), own.colour, own.marker))
        drawn_means += means
        last = max(last, curve.steps[-1])
    if one.paired:
        axes.axhline(0, color=scheme.ink, linewidth=2.6)
        ends.append(End(0.0, BASELINE, scheme.ink, ""))
    axes.set_xlim(1, last)
    _limit(axes, drawn_means, bounds)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=2))
    axes.set_xlabel("megabatch")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}".replace("-", "\N{MINUS SIGN}")))
    if one.metric == DENSITY:
        _logarithmic(axes, drawn_means)
    _names(axes, ends, last)


def _heat_maps(figure: Figure, report: Report, one: Picture, scheme: Scheme) -> None:
    """Accuracy matrices side by side: the more a cell is filled with colour, the more is right."""
    rows = drawn_matrices(report)
    across = min(len(rows), HEATS_ACROSS)
    lines = -(-len(rows) // across)
    figure.text(0.01, 0.945, one.title, color=scheme.ink, fontsize=FONT + 1, fontweight="bold")
    width, height = 0.97 / across, 0.88 / lines
    for number, row in enumerate(rows):
        left, bottom = 0.015 + width * (number % across), 0.9 - height * (number // across + 1)
        axes = figure.add_axes((left + 0.2 * width, bottom + 0.2 * height, 0.76 * width, 0.62 * height))
        size = len(row.matrix)
        for i, accuracies in enumerate(row.matrix):
            for j, accuracy in enumerate(accuracies):
                if math.isfinite(accuracy):
                    shade = min(max(accuracy, 0.0), 1.0)
                    axes.add_patch(Rectangle((j, i), 1, 1, facecolor=scheme.lines[0], alpha=0.6 * shade, linewidth=0))
                if size <= MOST_WRITTEN and math.isfinite(accuracy):
                    middle: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": FONT - 2}
                    axes.text(j + 0.5, i + 0.5, f"{100 * accuracy:.0f}", color=scheme.ink, **middle)
        axes.set(xlim=(0, size), ylim=(size, 0))
        shown = sorted({*range(0, size, -(-size // 5)), size - 1}) if size <= 5 else [0, size - 1]
        axes.set_xticks([k + 0.5 for k in shown], [str(k + 1) for k in shown])
        axes.set_yticks([k + 0.5 for k in shown], [str(k + 1) for k in shown])
        axes.tick_params(length=0)
        axes.set_title(_shortened(row, HEAT_LABEL), fontsize=FONT, fontweight="normal", pad=6)
        if number // across == lines - 1 or number + across >= len(rows):
            axes.set_xlabel("tested on", labelpad=2)
        if number % across == 0:
            axes.set_ylabel("after", labelpad=2)


def _band(axes: Axes, curve: Curve, means: Sequence[float], scale: float, colour: str) -> list[float]:
    """Draws the intervals, if there are any; where they end."""
    margins = [scale * margin if margin is not None and _drawable(margin) else 0.0 for margin in curve.margins]
    low = [mean - margin for mean, margin in zip(means, margins, strict=True)]
    high = [mean + margin for mean, margin in zip(means, margins, strict=True)]
    if any(margins):
        axes.fill_between(curve.steps, low, high, color=colour, alpha=0.14, linewidth=0, zorder=2)
    return [*low, *high]


def _limit(axes: Axes, means: Sequence[float], bounds: Sequence[float]) -> None:
    """Shows all means, and of their intervals what does not press the means together: two seeds may have huge ones."""
    if not means:
        return
    room = 0.35 * (max(means) - min(means)) or 1.0
    low, high = max(min(bounds), min(means) - room), min(max(bounds), max(means) + room)
    edge = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - edge, high + edge)


def _title(report: Report, one: Picture) -> str:
    return one.title if one.against_cost else f"{one.title} ({_unit(report, one)})"


def _unit(report: Report, one: Picture) -> str:
    """What heights are counted in."""
    measure = report.board.glossary.get(one.metric)
    if measure is None:
        return printable(one.metric)
    if measure.unit == "fraction":
        return "points" if one.metric.startswith("gap/") else "%"
    return printable(measure.unit)


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """Heights by powers; what is zero is cut off."""
    shown = [value for value in values if value > 0]
    if not shown:
        return
    axes.set_yscale("log", nonpositive="mask")
    axes.set_ylim(min(shown) / 1.25, max(shown) * 1.25)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _scatter(axes: Axes, report: Report, one: Picture, scheme: Scheme) -> None:
    loss = report.board.glossary[LOSS]
    front = next(found for found in report.fronts if found.cost.name == one.metric)
    known = {
        row.rank: (row.cells[front.cost.key].estimate.mean, row.cells[loss.key].estimate)
        for row in report.rows
        if front.cost.key in row.cells and loss.key in row.cells
    }
    points = {
        rank: (cost, 100 * lost.mean, 100 * (lost.margin if lost.margin and _drawable(lost.margin) else 0.0))
        for rank, (cost, lost) in known.items()
        if _drawable(cost) and _drawable(lost.mean) and cost > 1 / LARGEST
    }
    if not points:
        return
    stairs = [points[rank][:2] for rank in front.ranks if rank in points]
    axes.plot(
        [x for x, _ in stairs],
        [y for _, y in stairs],
        drawstyle="steps-post",
        color=scheme.faint,
        linewidth=1.4,
        zorder=2,
    )
    styles = {own.row.rank: own for own in _styles(report, scheme)}
    ends, bounds = [], []
    for rank, (cost, lost, margin) in points.items():
        own = styles.get(rank)
        if own is None:
            axes.plot([cost], [lost], ".", color=scheme.faint, markersize=5, zorder=2)
            continue
        axes.errorbar([cost], [lost], yerr=[margin], color=own.colour, marker=own.marker, markersize=8, zorder=3)
        bounds += [lost - margin, lost + margin]
        ends.append(End(lost, _label(own.row), own.colour, own.marker))
    costs = [cost for cost, _, _ in points.values()]
    if max(costs) > 4 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.margins(x=0.08)
    losses = [lost for _, lost, _ in points.values()]
    _limit(axes, losses, [*bounds, *losses])
    axes.set_xlabel(printable(front.cost.unit))
    _names(axes, ends, None)


def _names(axes: Axes, ends: Sequence[End], last: float | None) -> None:
    """Names at the right of the axes, as high as what they name, but apart from each other.

    Each is joined to the end of its line, which is at ``last``; of points the marker is shown beside the name.
    """
    ends = sorted(ends, key=lambda end: (end.height, end.name))
    to_axes = axes.transData + axes.transAxes.inverted()
    left = axes.get_xlim()[1] if last is None else last
    wished = [float(to_axes.transform((left, end.height))[1]) for end in ends]
    # A scale of powers has no place for zero.
    heights = [height if math.isfinite(height) else 0.0 for height in wished]
    share = JOINT / axes.get_position().width
    for end, height, place in zip(ends, heights, spread(heights, APART), strict=True):
        drawn: dict[str, Any] = {"transform": axes.transAxes, "color": end.colour, "clip_on": False}
        if last is None:
            axes.plot([1 + 0.6 * share], [place], marker=end.marker, markersize=7, **drawn)
        else:
            axes.plot([1 + 0.3 * share, 1 + 0.85 * share], [height, place], linewidth=1, **drawn)
        axes.text(1 + share, place, end.name, transform=axes.transAxes, color=end.colour, va="center_baseline")


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """Heights, ascending, moved as little as needs be to be ``apart`` of each other and between 0 and 1.

    What is too close becomes a block around its mean, as in isotonic regression.
    """
    # Of each block how high its lowest member would like to be, summed over the members, and how many they are.
    blocks: list[tuple[float, int]] = []
    for height in heights:
        wishes, count = min(max(height, 0.0), 1.0), 1
        while blocks and wishes / count < blocks[-1][0] / blocks[-1][1] + blocks[-1][1] * apart:
            below, fewer = blocks.pop()
            wishes, count = below + wishes - count * fewer * apart, count + fewer
        blocks.append((wishes, count))
    places: list[float] = []
    for wishes, count in blocks:
        lowest = max(wishes / count, places[-1] + apart if places else 0.0)
        places += [lowest + step * apart for step in range(count)]
    ceiling = 1.0
    for number in reversed(range(len(places))):
        places[number] = min(places[number], ceiling)
        ceiling = places[number] - apart
    return places


def _label(row: RowReport) -> str:
    return _shortened(row, LONGEST_LABEL)


def _shortened(row: RowReport, longest: int) -> str:
    """The name of a row; what is longer than that loses its middle."""
    name = printable(row.row.name)
    half = longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half + 1 :]}"
