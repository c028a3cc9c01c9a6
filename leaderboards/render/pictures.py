"""Which figures a board has, what they are called and where they lie. They are drawn in plots.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leaderboards.numbers.curves import ACCURACY, ERRORS, MATRIX
from leaderboards.numbers.names import ACROSS
from leaderboards.numbers.report import BASELINE, Report, RowReport

SCHEMES = ("light", "dark")
"""Of colours: a reader's browser chooses."""

WIDTH = 720
"""Pixels of a figure on a page, at most."""

GAP, DENSITY = "gap/clean", "size/density"

COST_NAMES = {
    "size/bytes_bitmask": ("bytes", "bytes of the stored network"),
    "size/memory_bytes": ("memory", "bytes that the learner keeps"),
    "compute/train_flops": ("flops", "FLOPs of training"),
    "compute/train_flops_if_skipped": ("flops-if-skipped", "FLOPs of training, if zeros were skipped"),
}
"""Cost -> name of its picture, and what it is called there."""


@dataclass(frozen=True)
class Picture:
    """One figure of a board.

    Attributes:
        name: of its files.
        title: what it shows, in words.
        caption: how it is read, a sentence.
        metric: what is drawn: a metric over the megabatches, or a cost.
        paired: differences from the baseline are drawn.
        against_cost: a scatter of the rows with their Pareto front.
        by_layer: a heat map a row: its layers over the megabatches.
        by_experience: a heat map of some rows: their accuracy matrix.
    """

    name: str
    title: str
    caption: str
    metric: str
    paired: bool = False
    against_cost: bool = False
    by_layer: bool = False
    by_experience: bool = False


OVER_TIME = (
    Picture(
        "accuracy",
        "Test accuracy after each megabatch",
        "Mean over seeds with its 95 % band. The area above a line is its CER.",
        ACCURACY,
    ),
    Picture(
        "paid",
        f"Errors beyond {BASELINE}, megabatch by megabatch",
        f"Test errors minus those of {BASELINE} with the same seed, mean with its 95 % band: what each megabatch adds "
        "to CER. Below zero is better.",
        ERRORS,
        paired=True,
    ),
    Picture(
        "gap",
        "Generalisation gap (clean) after each megabatch",
        "Accuracy on the training data minus test accuracy, mean over seeds with its 95 % band.",
        GAP,
    ),
    Picture(
        "density",
        "Density after each megabatch",
        "Share of the prunable weights that are left, on a logarithmic scale.",
        DENSITY,
    ),
    Picture(
        "matrix",
        "Accuracy matrix: what is left of each experience (%)",
        "A line after each experience, a column for the test images of each: the diagonal has just been learnt, "
        "below it is what is left of earlier experiences, above it what is still to come. Mean over seeds.",
        MATRIX,
        by_experience=True,
    ),
    Picture(
        "first",
        "Accuracy of the first experience over time",
        "Of the test images of the first experience alone, after each experience. Mean over seeds with its 95 % band.",
        "continual/first",
    ),
    Picture(
        "acc",
        "ACC after each experience",
        "Mean accuracy of all experiences so far, each by itself. Mean over seeds with its 95 % band.",
        "continual/accuracy",
    ),
)

MATRICES = 6
"""Rows whose accuracy matrix is drawn at most."""


LAYERS = Picture(
    "layers",
    "Density of each layer (down) after each megabatch (across)",
    "Share of each prunable layer's weights that are left, mean over seeds; the input is at the top.",
    DENSITY,
    by_layer=True,
)


def pictures(report: Report) -> list[Picture]:
    """The figures that there are numbers for."""
    shown = drawn_rows(report)
    found = [one for one in OVER_TIME if any(_curve_of(row, one) for row in shown)]
    if any(row.layers is not None for row in shown):
        found.append(LAYERS)
    for front in report.fronts:
        where, level = ("upper left", "higher") if front.merit.better > 0 else ("lower left", "lower")
        found.append(
            Picture(
                COST_NAMES[front.cost.name][0],
                f"{front.merit.title} (%) against {COST_NAMES[front.cost.name][1]}",
                f"Every row is a point; {where} is better. The line joins the Pareto front: no other row has both "
                f"a {level} {front.merit.title} and a lower cost.",
                front.cost.name,
                against_cost=True,
            )
        )
    return found


def every_path(page: str) -> list[str]:
    """Paths of all figures that a page of this file name may have."""
    names = [*(one.name for one in (*OVER_TIME, LAYERS)), *(name for name, _ in COST_NAMES.values())]
    return [path_of(page, name, scheme) for name in names for scheme in SCHEMES]


def path_of(page: str, name: str, scheme: str) -> str:
    """Of the file of a figure, from the folder of its page."""
    return f"{page.removesuffix('.md')}/{name}-{scheme}.svg"


RANK_PLOTS = path_of(ACROSS, "ranks-*", "*")
"""Where :func:`rank_plot_path` is, as a pattern."""


def rank_plot_path(number: int, scheme: str) -> str:
    """Of the figure of a pool of streams, from the folder of the pages."""
    return path_of(ACROSS, f"ranks-{number}", scheme)


def drawn_rows(report: Report) -> Sequence[RowReport]:
    """The rows that figures show or name."""
    return [report.rows[rank - 1] for rank in report.drawn]


def drawn_matrices(report: Report) -> Sequence[RowReport]:
    """The rows whose accuracy matrix is drawn: of those that figures show the baseline and the first."""
    known = [row for row in drawn_rows(report) if row.matrix]
    chosen = sorted(known, key=lambda row: row.row.variant["strategy"] != BASELINE)[:MATRICES]
    return sorted(chosen, key=lambda row: row.rank)


def _curve_of(row: RowReport, picture: Picture) -> bool:
    if picture.by_experience:
        return len(row.matrix) > 1
    curves = row.curves_against if picture.paired else row.curves
    return picture.metric in curves and len(curves[picture.metric].steps) > 1
