"""The figure of accuracy matrices: a heat map a row, the more filled with colour the more is right."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from leaderboards.numbers.report import Report
from leaderboards.render.canvas import FONT, Scheme, label, svg
from leaderboards.render.pictures import Picture, drawn_matrices

HEATS_ACROSS = 3
"""Heat maps beside each other."""

LONGEST_TITLE = 26
"""Characters of a name above a heat map."""

MOST_WRITTEN = 5
"""Experiences up to which the cells of a heat map have room for their numbers."""


def matrix_map(report: Report, one: Picture, scheme: Scheme) -> str:
    """The text of the figure of a report on a stream that shifts."""

    def paint(figure: Figure) -> None:
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
                        axes.add_patch(
                            Rectangle((j, i), 1, 1, facecolor=scheme.lines[0], alpha=0.6 * shade, linewidth=0)
                        )
                    if size <= MOST_WRITTEN and math.isfinite(accuracy):
                        middle: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": FONT - 2}
                        axes.text(j + 0.5, i + 0.5, f"{100 * accuracy:.0f}", color=scheme.ink, **middle)
            axes.set(xlim=(0, size), ylim=(size, 0))
            shown = sorted({*range(0, size, -(-size // 5)), size - 1}) if size <= 5 else [0, size - 1]
            axes.set_xticks([k + 0.5 for k in shown], [str(k + 1) for k in shown])
            axes.set_yticks([k + 0.5 for k in shown], [str(k + 1) for k in shown])
            axes.tick_params(length=0)
            axes.set_title(label(row.row.name, LONGEST_TITLE), fontsize=FONT, fontweight="normal", pad=6)
            if number // across == lines - 1 or number + across >= len(rows):
                axes.set_xlabel("tested on", labelpad=2)
            if number % across == 0:
                axes.set_ylabel("after", labelpad=2)

    return svg(paint, scheme)
