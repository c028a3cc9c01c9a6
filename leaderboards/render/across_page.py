"""The page across streams as markdown. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.numbers.across import OF_STREAM, Placed, Pool
from leaderboards.numbers.iqm import Interval
from leaderboards.numbers.ranks import LEAST_STREAMS
from leaderboards.numbers.report import LEVEL
from leaderboards.render.markup import NO_BREAK, code, details, escape, images, link, p_text, picture, pipe, value_text
from leaderboards.render.pictures import WIDTH, rank_plot_path


def across_page(pools: Sequence[Pool], *, figures: bool = False) -> str:
    """The page of some pools, a section each.

    ``figures``: whether it shows those that there are, where :func:`leaderboards.render.pictures.rank_plot_path` says.
    """
    parts = [
        "# Across streams",
        "Boards are pooled where they agree in everything but what goes with a stream "
        f"({', '.join(map(code, OF_STREAM))}), and strategies where they are on every board of the pool. Several "
        "boards of one stream count once: they are averaged first, seed by seed.",
    ]
    for number, pool in enumerate(pools, start=1):
        parts += _section(pool, number, figures)
    return "\n\n".join(parts) + "\n"


def drawn(pool: Pool) -> bool:
    """Whether the pool has a figure."""
    return pool.critical is not None


def _section(pool: Pool, number: int, figures: bool) -> list[str]:
    boards = ", ".join(link(board.label, board.file_name) for board in pool.boards)
    left_out = len(pool.left_out)
    lead = f"{images(pool.boards[0])} Boards: {boards}."
    if left_out:
        lead += f" Left out: {left_out} strategies that are not on every board, or have no seed in common."
    parts = [f"## {len(pool.streams)} streams, {len(pool.placed)} strategies", lead]
    if pool.placed:
        parts += [_table(pool), _legend(pool), tested_text(pool)]
        if figures and drawn(pool):
            light, dark = (rank_plot_path(number, scheme) for scheme in ("light", "dark"))
            parts += [
                picture(light, dark, f"Average rank over {len(pool.streams)} streams", WIDTH),
                "*Bars are as wide as the critical difference: two strategies differ where their bars do not touch.*",
            ]
        parts.append(details("Ranks, stream by stream", _by_stream(pool)))
    else:
        parts.append("Fewer than two strategies are on every board: nothing can be ranked.")
    if left_out:
        parts.append(details("Left out", "\n".join(f"- {escape(name)}" for name in pool.left_out)))
    fields = [[escape(name), escape(value_text(value))] for name, value in sorted(pool.shared.items())]
    return [*parts, details("Protocol of all boards", pipe(fields, ["Field", "Value"]))]


def _table(pool: Pool) -> str:
    best = pool.placed[0].mean_rank
    rows = []
    for place, one in enumerate(pool.placed, start=1):
        rank = f"{one.mean_rank:.2f}"
        if _ranks_differ(pool) and pool.critical is not None and one.mean_rank - best <= pool.critical:
            rank = f"**{rank}**"
        rows.append([str(place), escape(one.name), rank, spread_text(one.iqm, pool)])
    return pipe(rows, ["", "Strategy", "Average rank", escape(spread_title(pool))], left=2)


def spread_title(pool: Pool) -> str:
    """What :func:`spread_text` is of; the measure's title in it comes from outside."""
    beyond = "" if pool.against is None else f" beyond {pool.against}"
    unit = ", points" if pool.measure.unit == "fraction" else ""
    return f"{pool.measure.title}{beyond}{unit}, IQM"


def spread_text(found: Interval | None, pool: Pool) -> str:
    """An interquartile mean and its interval."""
    if found is None:
        return "-"
    scale = 100 if pool.measure.unit == "fraction" else 1
    sign = "" if pool.against is None else "+"
    middle = f"{scale * found.value:{sign}.1f}"
    if found.low is None or found.high is None or found.low == found.high:
        return middle
    return f"{middle} ({scale * found.low:{sign}.1f} to {scale * found.high:{sign}.1f})".replace(" ", NO_BREAK)


def _legend(pool: Pool) -> str:
    minus = "" if pool.against is None else f", each minus that of {pool.against} with the same seed"
    lines = [
        f"Rank 1 is the best {escape(pool.measure.title)} of a stream, by means over seeds; equal ones share "
        f"their rank. IQM: mean of the middle half of all runs of all streams{minus}, in brackets its 95 % interval by "
        "resampling within each stream (Agarwal et al. 2021)."
    ]
    if _ranks_differ(pool):
        lines.append("**Bold**: not further from the first than the critical difference.")
    return " ".join(lines)


def _ranks_differ(pool: Pool) -> bool:
    return pool.test is not None and pool.test.p <= LEVEL


def tested_text(pool: Pool) -> str:
    """What the Friedman test says, or why there is none; no text from outside."""
    streams = len(pool.streams)
    if pool.critical is None:
        return f"No test of the ranks and no rank plot: they need {LEAST_STREAMS} streams, there are {streams}."
    critical = f"Critical difference of average ranks (Nemenyi, at {p_text(LEVEL)}): {pool.critical:.2f}."
    if pool.test is None:
        return critical
    k, n = pool.test.freedom
    verdict = "ranks differ" if _ranks_differ(pool) else "no difference is shown, and pairs are not to be compared"
    f, p = f"F({k}, {n}) = {pool.test.statistic:.2f}", p_text(pool.test.p)
    return f"Friedman test (F of Iman and Davenport): {f}, p {p}: {verdict}. {critical}"


def _by_stream(pool: Pool) -> str:
    def cells(one: Placed) -> list[str]:
        return [escape(one.name), *(f"{rank:g}" for rank in one.ranks)]

    return pipe([cells(one) for one in pool.placed], ["Strategy", *map(escape, pool.streams)])
