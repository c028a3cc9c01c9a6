"""The page of a board as markdown: a table that is read at a glance, and the rest folded. Nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tabulate import tabulate

from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Board
from leaderboards.numbers.curves import ACCURACY
from leaderboards.numbers.fronts import Front
from leaderboards.numbers.groups import GROUPS
from leaderboards.numbers.report import BASELINE, LEVEL, MARGIN, STORED_BYTES, Report, RowReport, Tested
from leaderboards.numbers.statistics import MOST_SEEDS
from leaderboards.render.markup import (
    NO_BREAK,
    bars,
    cell,
    details,
    escape,
    explained,
    images,
    p_text,
    percent,
    picture,
    pipe,
    provenance_list,
    value_text,
)
from leaderboards.render.pictures import WIDTH, Picture, path_of, pictures

SHOWN_FIRST = (
    *("scenario", "megabatches", "shots", "test_shots", "replay"),
    *("model", "epochs", "batch_size", "resolution"),
)

SHORT_COMMIT = 7
"""Characters of a commit that are shown."""

MAIN = ("cer_rate", "accuracy", "gap_clean", "density", "bytes")
"""Keys of the measures of the first table: with rank and name seven columns, which fit a page."""

SHIFTING_MAIN = ("acc", "forgetting", "density", "bytes", "memory")
"""The same for streams that shift."""

MEAN_DENSITY = "size/mean_density"

ONE_TABLE = 25
"""Rows of a board that are shown in one table; more are grouped."""

SHORT_OPTIONS = 20
"""Characters."""

AT_ONCE = 4
"""Measures of a table with all digits."""

NAMED = 6
"""Rows that a sentence names at most."""

FIRST_PICTURES = ("accuracy", "matrix", "first", "bytes", "memory")
"""Shown at once; the others are folded."""


def board_page(report: Report, *, figures: bool = False, guide: str | None = None) -> str:
    """The page of one board.

    Args:
        report: its numbers.
        figures: whether the page shows figures, which lie in the folder of its name.
        guide: address of the explanation of such pages, relative to this one; None links none.
    """
    board = report.board
    shown = _first_rows(report)
    drawn = {one.name: one for one in pictures(report)} if figures else {}
    parts = [
        f"# {escape(board.label)}"
        + (f", {escape(str(kind))}" if (kind := board.protocol.get("scenario")) else "")
        + (f": {escape(str(b))} megabatches" if (b := board.protocol.get("megabatches")) else ""),
        *_older(report),
        _lead(report, guide),
        *_headline(report),
        _table(report, shown),
        _legend(report, shown),
        *_marks(report),
        *_groups(report, shown),
        *(_picture(report, drawn[name]) for name in FIRST_PICTURES if name in drawn),
        *_comparison(report, shown),
        *_folded_pictures(report, [one for name, one in drawn.items() if name not in FIRST_PICTURES]),
        details("All columns", _all_columns(report)),
        *_all_comparisons(report),
        *_fronts(report),
        details(
            "Variants",
            "What each row was run with, and the versions of its parts. A row's name shows only what differs from the "
            "strategy's defaults.",
            _variants(board),
        ),
        details("Every run", _every_run(report), *_dirty_legend(report)),
        details("Columns", "\n".join(explained(one) for one in report.columns)),
        details("Protocol", "All rows have in common:", _protocol(board)),
        details("Provenance", provenance_list(report.provenance, *report.started)),
    ]
    return "\n\n".join(parts) + "\n"


def _older(report: Report) -> list[str]:
    if report.older_protocol is None:
        return []
    return [
        f"**Protocol version {report.older_protocol}**: an earlier one, whose figures are not to be compared with "
        "those of boards of later versions."
    ]


def _lead(report: Report, guide: str | None) -> str:
    board = report.board
    lead = (
        f"{images(board)} Variants: {len(board.rows)}; runs: {len(board.runs)}; "
        f"seeds: {', '.join(map(str, report.seeds))}."
    )
    if board.outdated:
        lead += f" Left out: {board.outdated} runs of earlier versions of a strategy or of a part of one."
    return lead if guide is None else f"{lead} [How to read this page]({guide})."


def _headline(report: Report) -> list[str]:
    """Who leads, and who cannot be told from it."""
    measure = report.board.lead
    if measure is None or not report.leaders:
        return []
    first, *others = (report.rows[rank - 1] for rank in report.leaders)
    value = percent(first.cells[measure.key].estimate, measure) + (" %" if measure.unit == "fraction" else "")
    which = "Highest" if measure.better > 0 else "Lowest"
    lead = f"{which} {escape(measure.title)}: **{escape(first.row.name)}**, {value}."
    if len(report.seeds) < 2:
        return [f"{lead} There is one seed: nothing can be told apart."]
    untested = len(report.untested)
    if others:
        lead += f" Not told apart from it: {_named(others)}."
    elif untested < len(report.rows) - 1:
        lead += f" Every other row{' that can be tested' if untested else ''} is told apart from it."
    return [lead + (f" Rows that share too few seeds with it to be tested: {untested}." if untested else "")]


def _named(rows: Sequence[RowReport]) -> str:
    more = len(rows) - NAMED
    names = ", ".join(escape(row.row.name) for row in rows[:NAMED])
    return f"{names} and {more} more" if more > 0 else names


def _first_rows(report: Report) -> Sequence[RowReport]:
    """All rows of a short board; of a long one the baseline's and the first of each group."""
    if len(report.rows) <= ONE_TABLE:
        return report.rows
    firsts = {row.group: row.rank for row in reversed(report.rows)}
    baseline = [row.rank for row in report.rows if row.row.variant["strategy"] == BASELINE][:1]
    return [report.rows[rank - 1] for rank in sorted({*firsts.values(), *baseline})]


def _main(report: Report) -> Sequence[str]:
    lead = report.board.lead
    return SHIFTING_MAIN if lead is not None and lead.key in SHIFTING_MAIN else MAIN


def _main_columns(report: Report) -> list[Measure]:
    """Those of :func:`_main` that there are; of runs without any of them the first columns."""
    found = [one for key in _main(report) for one in report.columns if one.key == key]
    return found or list(report.columns[: len(MAIN)])


def _table(report: Report, shown: Sequence[RowReport]) -> str:
    columns = _main_columns(report)
    all_means = [mean for row in report.rows if ACCURACY in row.curves for mean in row.curves[ACCURACY].means]
    reached = [mean for mean in all_means if math.isfinite(mean)]
    scale = min(reached, default=0.0), max(reached, default=0.0)
    several = len(shown) < len(report.rows) and len({row.group for row in shown}) > 1
    rows = []
    for row in shown:
        values = [_main_cell(report, row, one, scale) for one in columns]
        name = _in_lines(_name(row))
        if several:
            name = f"{row.group}:<br>{name}"
        rows.append([str(row.rank), name, *values])
    headers = ["", "Strategy", *(_heading(one) for one in columns)]
    return pipe(rows, headers, left=2)


def _heading(measure: Measure) -> str:
    return escape(measure.title) + (", %" if measure.unit == "fraction" else "")


def _main_cell(report: Report, row: RowReport, measure: Measure, scale: tuple[float, float]) -> str:
    found = row.cells.get(measure.key)
    if found is None:
        return "-"
    if measure.key == "density":
        return _density(row, measure, report.board.glossary.get(MEAN_DENSITY))
    text = percent(found.estimate, measure)
    if measure.name == STORED_BYTES and row.bytes_ratio is not None:
        # The interval is among all columns: here is no room.
        mean = escape(measure.form.format(found.estimate.mean))
        text = f"{mean}{NO_BREAK}({_share(row.bytes_ratio.mean)}{NO_BREAK}%)"
    shown = f"**{text}**" if found.best else text
    if measure.name == ACCURACY and ACCURACY in row.curves:
        shown += f" {bars(row.curves[ACCURACY].means, *scale)}".rstrip()
    if any(front.cost == measure and row.rank in front.ranks for front in report.fronts):
        shown += f"{NO_BREAK}◆"
    return shown


def _density(row: RowReport, measure: Measure, mean_measure: Measure | None) -> str:
    """Mean over the stream -> at the end; one number where they are the same."""
    final = row.cells[measure.key].estimate.mean
    mean = None if mean_measure is None else row.cells.get(mean_measure.key)
    if mean is None or _share(mean.estimate.mean) == _share(final):
        return _share(final)
    return f"{_share(mean.estimate.mean)}{NO_BREAK}→{NO_BREAK}{_share(final)}"


def _share(value: float) -> str:
    """A fraction as a percentage of two digits."""
    return f"{100 * value:.0f}" if value >= 0.1 else f"{100 * value:.2g}"


def _legend(report: Report, shown: Sequence[RowReport]) -> str:
    lines = [
        "Mean ± half the width of the 95 % t interval over seeds. **Bold**: the best of its column and what the paired "
        f"t test does not tell apart from it (p > {p_text(LEVEL)}, Holm-corrected over all rows)."
    ]
    keys = {one.key for one in _main_columns(report)}
    if any(ACCURACY in row.curves for row in shown) and "accuracy" in keys:
        lines.append("Bars: test accuracy over the megabatches, from the lowest to the highest of the board.")
    if "density" in keys:
        lines.append("Density: mean over the megabatches → at the end.")
    if any(row.bytes_ratio is not None for row in shown) and "bytes" in keys:
        lines.append("In brackets: share of the dense network's bytes.")
    for front in report.fronts:
        if front.cost.key in keys:
            level = "higher" if front.merit.better > 0 else "lower"
            lines.append(f"◆: no other row has both fewer bytes and a {level} {escape(front.merit.title)}.")
    return " ".join(lines)


def _name(row: RowReport) -> str:
    return escape(row.row.name) + (" †" if len(row.commits) > 1 else "") + (" ∅" if row.emptied else "")


def _in_lines(name: str) -> str:
    """A name whose options, if they are short, stay in one line where there is no room for both."""
    first, bracket, options = name.partition(" (")
    return first + bracket + (options.replace(" ", NO_BREAK) if len(options) <= SHORT_OPTIONS else options)


def _marks(report: Report) -> list[str]:
    """What the marks behind names of rows mean, for those there are."""
    found = []
    if any(len(row.commits) > 1 for row in report.rows):
        found.append("† Runs of this row are of several commits of the code; the table of every run says which.")
    emptied = [row for row in report.rows if row.emptied]
    for row in emptied[:NAMED]:
        seeds = ", ".join(map(str, row.emptied))
        found.append(f"∅ {escape(row.row.name)}: whole layers have no weight left (seeds {seeds}).")
    if len(emptied) > NAMED:
        found.append(f"∅ So it is in {len(emptied) - NAMED} more rows.")
    return found


def _groups(report: Report, shown: Sequence[RowReport]) -> list[str]:
    """All rows of a long board, a group at a time."""
    if len(shown) == len(report.rows):
        return []
    found = []
    for group in GROUPS:
        members = [row for row in report.rows if row.group == group]
        if members:
            found.append(details(f"{group}: all {len(members)} rows", _table(report, members)))
    return ["The table has the first row of each group; here are all of them.", *found]


def _picture(report: Report, one: Picture) -> str:
    page = report.board.file_name
    shown = picture(path_of(page, one.name, "light"), path_of(page, one.name, "dark"), one.title, WIDTH)
    return f"{shown}\n\n*{one.caption}*"


def _folded_pictures(report: Report, rest: Sequence[Picture]) -> list[str]:
    if not rest:
        return []
    return [details("More figures: " + ", ".join(one.name for one in rest), *(_picture(report, one) for one in rest))]


def _comparison(report: Report, shown: Sequence[RowReport]) -> list[str]:
    """Paired differences of the shown rows from the dense baseline; nothing without a baseline."""
    measures = [one for one in report.baseline if one.key in _main(report)] or list(report.baseline)
    rivals = [row for row in shown if row.against_baseline]
    if not rivals:
        return []
    return [
        f"## Against {BASELINE}, seed by seed",
        _differences(rivals, measures),
        "Mean paired difference ± half the width of its 95 % t interval, and p of the paired t "
        f"test, Holm-corrected over all rows of the board. **Bold**: p ≤ {p_text(LEVEL)}.",
    ]


def _differences(rows: Sequence[RowReport], measures: Sequence[Measure]) -> str:
    cells = [
        [escape(row.row.name), *(_difference(row.against_baseline.get(m.key), m) for m in measures)] for row in rows
    ]
    headers = [escape(one.title) + (", points" if one.unit == "fraction" else "") for one in measures]
    return pipe(cells, ["Strategy", *headers])


def _difference(tested: Tested | None, measure: Measure) -> str:
    if tested is None:
        return "-"
    text = percent(tested.comparison.difference, measure, sign=True)
    shown = f"**{text}**" if tested.differs else text
    return shown if tested.corrected is None else f"{shown} (p{NO_BREAK}{p_text(tested.corrected)})"


def _all_comparisons(report: Report) -> list[str]:
    """All rows against the baseline, with what five seeds can and cannot show."""
    rivals = [row for row in report.rows if row.against_baseline]
    if not rivals:
        return []
    point = f"{100 * MARGIN:g} point"
    parts = [_differences(rivals, report.baseline)]
    loss = next((one for one in report.baseline if one == report.board.lead), None)
    tested = [(row, row.against_baseline[loss.key]) for row in rivals if loss and loss.key in row.against_baseline]
    if loss is not None and any(one.equivalence is not None for _, one in tested):
        cells = [
            [
                escape(row.row.name),
                _difference(one, loss),
                "-" if one.equivalence is None else p_text(one.equivalence),
                f"> {MOST_SEEDS}" if one.seeds_needed is None else str(one.seeds_needed),
                _verdict(one, loss, point),
            ]
            for row, one in tested
        ]
        headers = [escape(loss.title), f"p, equal within {point}", f"Seeds to see {point}", "What is shown"]
        parts += [
            pipe(cells, ["Strategy", *headers]),
            f"Equal within {point}: two one-sided paired t tests (TOST), Holm-corrected over the rows; a small p shows "
            f"that the difference is smaller than {point}. Seeds: how many a paired t test needs to see a difference "
            f"of {point} four times in five (level {p_text(LEVEL)}, without correction), from the spread of the "
            "differences at hand, which is itself uncertain with few seeds.",
        ]
    return [details(f"Against {BASELINE}: every row, equivalence and power", *parts)]


def _verdict(tested: Tested, measure: Measure, point: str) -> str:
    if tested.equivalence is None:
        return "-"
    within = f"less than {point} apart"
    if not tested.differs:
        return within if tested.within_margin else "nothing yet"
    better = tested.comparison.difference.mean * measure.better > 0
    word = "better" if better else "worse"
    return f"{word}, {within}" if tested.within_margin else word


def _all_columns(report: Report) -> str:
    """Everything, to the last digit; so many columns a table that it fits a page."""
    starts = range(0, len(report.columns), AT_ONCE)
    return "\n\n".join(_some_columns(report, report.columns[start : start + AT_ONCE]) for start in starts)


def _some_columns(report: Report, columns: Sequence[Measure]) -> str:
    rows = []
    for row in report.rows:
        cells = [_name(row), str(row.row.runs.seed.nunique())]
        for column in columns:
            found = row.cells.get(column.key)
            text = cell(found.estimate if found else None, column)
            cells.append(f"**{text}**" if found and found.best else text)
        rows.append(cells)
    return pipe(rows, ["Strategy", "Seeds", *(escape(column.title) for column in columns)])


def _fronts(report: Report) -> list[str]:
    if not report.fronts:
        return []
    title = f"Pareto fronts of {escape(report.fronts[0].merit.title)}"
    return [details(title, "\n".join(_front(report, one) for one in report.fronts))]


def _front(report: Report, front: Front) -> str:
    names = ", ".join(escape(report.rows[rank - 1].row.name) for rank in front.ranks)
    return f"- Against {escape(front.cost.title)}, the cheapest first: {names}."


def _every_run(report: Report) -> str:
    """What the means were made of, one row a run."""
    rows = []
    for row in report.rows:
        for run in row.runs:
            values = [(one, run.values.get(one.key)) for one in report.each_run]
            cells = ["-" if value is None else escape(one.form.format(value)) for one, value in values]
            commit = run.commit[:SHORT_COMMIT] + ("+" if run.dirty else "")
            rows.append([escape(row.row.name), str(run.seed), *cells, escape(commit) or "-"])
    return pipe(rows, ["Strategy", "Seed", *(escape(one.title) for one in report.each_run), "Commit"])


def _dirty_legend(report: Report) -> list[str]:
    if not any(run.dirty for row in report.rows for run in row.runs):
        return []
    return ["A commit with + had uncommitted changes on top."]


def _variants(board: Board) -> str:
    rows = []
    for row in board.rows:
        options = [f"{n} {v}" for n, v in row.variant.items() if n != "strategy" and not n.endswith("_version")]
        versions = [f"{n.removesuffix('_version')} v{v}" for n, v in row.variant.items() if n.endswith("_version")]
        rows.append([escape(row.name), escape(", ".join(options) or "-"), escape(", ".join(versions))])
    return tabulate(rows, ["Row", "Options", "Versions"], tablefmt="pipe", disable_numparse=True)


def _protocol(board: Board) -> str:
    names = [n for n in SHOWN_FIRST if n in board.protocol] + sorted(set(board.protocol) - set(SHOWN_FIRST))
    rows = [[escape(name), escape(value_text(board.protocol[name]))] for name in names]
    images_ = f"{board.data}, version {board.data_version}, fingerprint {board.data_fingerprint}"
    rows.append(["images", escape(images_)])
    return pipe(rows, ["Field", "Value"])
