"""The figure of the density of each layer: a heat map a row, in a scale of few colours."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from leaderboards.numbers.report import LayerDensities, Report
from leaderboards.render.canvas import FONT, SIZE, Scheme, label, svg
from leaderboards.render.pictures import Picture, drawn_rows

BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Densities at which another colour begins; each is still of the lower one."""

COLUMNS = 3
"""Heat maps side by side."""

HEIGHT, TITLE, TOP, FOOT = 1.15, 0.42, 0.32, 0.8
"""Inches of a heat map, of its title, of the figure's title, and of the scale below all."""

LEFT, RIGHT, BETWEEN = 0.45, 0.2, 0.3
"""Inches at the edges, and between heat maps."""

LONGEST_TITLE = 27
"""Characters."""


def heat_map(report: Report, one: Picture, scheme: Scheme) -> str:
    """The text of the figure of a report that has densities of layers."""
    shown = [(row.row.name, row.layers) for row in drawn_rows(report) if row.layers is not None]
    lines = -(-len(shown) // COLUMNS)
    height = TOP + lines * (TITLE + HEIGHT) + FOOT
    width = (SIZE[0] - LEFT - RIGHT - (COLUMNS - 1) * BETWEEN) / COLUMNS

    def paint(figure: Figure) -> None:
        figure.text(0.01, 1 - 0.24 / height, one.title, fontsize=FONT + 1, fontweight="bold", color=scheme.ink)
        for place, (name, layers) in enumerate(shown):
            line, column = divmod(place, COLUMNS)
            bottom = height - TOP - (line + 1) * (TITLE + HEIGHT)
            left = LEFT + column * (width + BETWEEN)
            axes = figure.add_axes((left / SIZE[0], bottom / height, width / SIZE[0], HEIGHT / height))
            axes.set_title(label(name, LONGEST_TITLE), fontsize=FONT - 1.5, fontweight="normal", pad=4)
            _fill(axes, layers, scheme)
        _scale(figure.add_axes((LEFT / SIZE[0], 0.42 / height, 1 - (LEFT + RIGHT) / SIZE[0], 0.14 / height)), scheme)

    return svg(paint, scheme, (SIZE[0], height))


def _fill(axes: Axes, layers: LayerDensities, scheme: Scheme) -> None:
    count, megabatches = layers.values.shape
    for row, values in enumerate(layers.values):
        for colour, first, length in _stretches(values.tolist(), scheme):
            axes.add_patch(Rectangle((first, row), length, 1, facecolor=colour, edgecolor=colour, linewidth=0.3))
    axes.set_xlim(0, megabatches)
    axes.set_ylim(count, 0)
    axes.set_xticks([0.5, megabatches - 0.5], ["1", str(megabatches)] if megabatches > 1 else ["1", ""])
    axes.set_yticks([0.5, count - 0.5], ["1", str(count)] if count > 1 else ["1", ""])
    axes.tick_params(length=0, pad=2, labelsize=FONT - 2)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _stretches(values: Sequence[float], scheme: Scheme) -> Iterator[tuple[str, int, int]]:
    """Colour, first megabatch from 0 and length of what has one colour: a rectangle each keeps files small."""
    first = 0
    for colour, members in groupby(colour_of(value, scheme) for value in values):
        length = len(list(members))
        yield colour, first, length
        first += length


def colour_of(density: float, scheme: Scheme) -> str:
    """Of a density; a layer without any weight, or with no number, has the colour of an alarm."""
    if not density > 0:
        return scheme.lines[1]
    return scheme.heat[len(BOUNDS) - bisect_left(BOUNDS, density)]


def _scale(axes: Axes, scheme: Scheme) -> None:
    """The colours, the densest at the right."""
    colours = [scheme.lines[1], *reversed(scheme.heat)]
    for place, colour in enumerate(colours):
        axes.add_patch(Rectangle((place, 0), 1, 1, facecolor=colour, edgecolor=colour, linewidth=0.3))
    axes.set_xlim(0, len(colours))
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    marks = [(0.5, "none"), *((place, f"{100 * bound:g}") for place, bound in enumerate(BOUNDS, start=2))]
    axes.set_xticks([place for place, _ in marks] + [len(colours)], [text for _, text in marks] + ["100"])
    axes.tick_params(length=0, pad=3, labelsize=FONT - 1)
    axes.set_xlabel("% of the layer's weights", labelpad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
