"""Figures of a board. Nothing is computed here but where things stand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from leaderboards.numbers.curves import Curve
from leaderboards.numbers.fronts import Front
from leaderboards.numbers.report import BASELINE, Report, RowReport
from leaderboards.render.canvas import COLOURS, Scheme, label, recoloured, svg
from leaderboards.render.heat_map import heat_map
from leaderboards.render.matrix_map import matrix_map
from leaderboards.render.pictures import DENSITY, SCHEMES, Picture, drawn_rows, path_of, pictures
from leaderboards.text import printable

LARGEST = 1e24
"""Of what is drawn: more than the FLOPs of any training. A cost below its inverse is none."""

JOINT = 0.036
"""Width of what joins a line and its name, as a share of the figure."""

APART = 0.055
"""Distance of the labels of two lines, at least, as a share of the height of the axes."""


DASHES: Sequence[tuple[float, ...]] = ((), (5, 1.6), (1.6, 1.2), (7, 1.6, 1.6, 1.6))

MARKERS = "osD^vPX"


def draw(report: Report) -> dict[str, str]:
    """Path, from the folder of the page -> text of the figure, of each figure in each scheme."""
    page, found = report.board.file_name, {}
    for one in pictures(report):
        drawer = heat_map if one.by_layer else matrix_map if one.by_experience else _svg
        light = drawer(report, one, COLOURS["light"])
        for scheme in SCHEMES:
            found[path_of(page, one.name, scheme)] = recoloured(light, COLOURS[scheme])
    return found


def _svg(report: Report, one: Picture, scheme: Scheme) -> str:
    front = next((found for found in report.fronts if one.against_cost and found.cost.name == one.metric), None)
    styles = _styles(report, scheme) if front is None else _front_styles(report, front, scheme)

    def paint(figure: Figure) -> None:
        left, right = 0.075, 0.985 - _widest(figure, [own.row for own in styles])
        axes = figure.add_axes((left, 0.135, right - left, 0.765))
        axes.set_title(_title(report, one), x=-left / (right - left) + 0.01)
        axes.grid(True, color=scheme.grid, linewidth=0.7)
        axes.set_axisbelow(True)
        if front is None:
            _lines(axes, report, one, styles, scheme)
        else:
            _scatter(axes, report, front, styles, scheme)

    return svg(paint, scheme)


def _widest(figure: Figure, rows: Iterable[RowReport]) -> float:
    """Width of the names at the right and of what joins them, as a share of the figure."""
    names = [figure.text(0, 0, name) for name in (BASELINE, *map(_label, rows))]
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


def _front_styles(report: Report, front: Front, scheme: Scheme) -> list[Style]:
    """One for each row that a scatter names: the baseline, and of the front the best by rank.

    Rows that other figures show look as they do there.
    """
    drawn = {own.row.rank: own for own in _styles(report, scheme)}
    first = [rank for rank, own in drawn.items() if own.colour == scheme.ink]
    others = sorted(rank for rank in front.ranks if rank not in first)[: len(drawn) - len(first)]
    spare = iter([own for rank, own in drawn.items() if rank not in (*first, *others)])
    return [
        drawn[rank] if rank in drawn else replace(next(spare), row=report.rows[rank - 1])
        for rank in sorted([*first, *others])
    ]


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


def _lines(axes: Axes, report: Report, one: Picture, shown: Sequence[Style], scheme: Scheme) -> None:
    measure = report.board.glossary.get(one.metric)
    scale = 100.0 if measure is not None and measure.unit == "fraction" else 1.0
    ends: list[End] = []
    drawn_means: list[float] = []
    bounds: list[float] = []
    last = 2
    for own in shown:
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


def _scatter(axes: Axes, report: Report, front: Front, shown: Sequence[Style], scheme: Scheme) -> None:
    merit = front.merit
    known = {
        row.rank: (row.cells[front.cost.key].estimate.mean, row.cells[merit.key].estimate)
        for row in report.rows
        if front.cost.key in row.cells and merit.key in row.cells
    }
    points = {
        rank: (cost, 100 * found.mean, 100 * (found.margin if found.margin and _drawable(found.margin) else 0.0))
        for rank, (cost, found) in known.items()
        if _drawable(cost) and _drawable(found.mean) and cost > 1 / LARGEST
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
    styles = {own.row.rank: own for own in shown}
    ends, bounds = [], []
    for rank, (cost, height, margin) in points.items():
        own = styles.get(rank)
        if own is None:
            axes.plot([cost], [height], ".", color=scheme.faint, markersize=5, zorder=2)
            continue
        axes.errorbar([cost], [height], yerr=[margin], color=own.colour, marker=own.marker, markersize=8, zorder=3)
        bounds += [height - margin, height + margin]
        ends.append(End(height, _label(own.row), own.colour, own.marker))
    costs = [cost for cost, _, _ in points.values()]
    if max(costs) > 4 * min(costs):
        axes.set_xscale("log")
        # Over several powers of ten there is no room for more than their names.
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if max(costs) > 200 * min(costs) else (1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.margins(x=0.08)
    heights = [height for _, height, _ in points.values()]
    _limit(axes, heights, [*bounds, *heights])
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
    return label(row.row.name)
