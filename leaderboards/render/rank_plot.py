"""The figure of average ranks over streams, with bars of the critical difference."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from leaderboards.numbers.across import Pool
from leaderboards.numbers.report import BASELINE
from leaderboards.render.canvas import COLOURS, SIZE, Scheme, label, recoloured, svg

MOST = 30
"""Strategies that are drawn."""

LINE = 0.28
"""Inches of a strategy."""

EDGES = 1.1
"""Inches for title and axis together."""


def draw_ranks(pool: Pool) -> dict[str, str]:
    """Name of a scheme of colours -> text of the figure; of a pool that has a critical difference."""
    light = _drawn(pool, COLOURS["light"])
    return {name: recoloured(light, scheme) for name, scheme in COLOURS.items()}


def _drawn(pool: Pool, scheme: Scheme) -> str:
    shown = pool.placed[:MOST]
    height = EDGES + LINE * len(shown)
    half = (pool.critical or 0.0) / 2

    def paint(figure: Figure) -> None:
        names = [figure.text(0, 0, label(one.name)) for one in shown]
        left = 0.02 + max(name.get_window_extent().width for name in names) / figure.bbox.width
        for name in names:
            name.remove()
        axes = figure.add_axes((left + 0.01, 0.55 / height, 0.96 - left, 1 - EDGES / height))
        axes.set_title(f"Average rank over {len(pool.streams)} streams", x=-(left - 0.005) / (0.96 - left))
        axes.grid(True, axis="x", color=scheme.grid, linewidth=0.7)
        axes.set_axisbelow(True)
        best = shown[0].mean_rank
        axes.axvspan(best - half, best + half, color=scheme.lines[0], alpha=0.12, linewidth=0)
        for place, one in enumerate(shown):
            together = one.mean_rank - best <= 2 * half
            colour = scheme.ink if one.name == BASELINE else scheme.lines[0] if together else scheme.faint
            axes.plot([one.mean_rank - half, one.mean_rank + half], [place, place], color=colour, linewidth=2.6)
            axes.plot([one.mean_rank], [place], "o", color=colour, markersize=7)
        axes.set_yticks(range(len(shown)), [label(one.name) for one in shown], color=scheme.ink)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        last = len(pool.placed)
        ticks = MaxNLocator(integer=True).tick_values(1, last)
        axes.set_xticks([1, *(tick for tick in ticks if 1 < tick <= last)])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("average rank, 1 is the best")

    return svg(paint, scheme, (SIZE[0], height))
