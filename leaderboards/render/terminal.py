"""Reports in a terminal: the head of a board, at the end of a command."""

from __future__ import annotations

from tabulate import tabulate

from leaderboards.glossary import Measure
from leaderboards.numbers.compare import Changes
from leaderboards.numbers.report import Report
from leaderboards.numbers.statistics import Estimate
from leaderboards.render.markup import signed
from leaderboards.text import printable

SHOWN = ("acc", "forgetting", "cer_rate", "accuracy", "gap_clean", "mean_density", "density")
"""Keys of the measures of a board's head, as far as it has them."""


def board_head(report: Report, rows: int = 10) -> str:
    """The first rows of a board, with what it is called and how many more there are; all of it printable."""
    board = report.board
    columns = [one for key in SHOWN for one in report.columns if one.key == key]
    table = []
    for row in report.rows[:rows]:
        cells = [str(row.rank), printable(row.row.name), str(len(row.runs))]
        for column in columns:
            found = row.cells.get(column.key)
            cells.append("-" if found is None else _spread(found.estimate, column))
        table.append(cells)
    headers = ["", "strategy", "seeds", *(printable(column.title) for column in columns)]
    aligned = ["right", "left", *["right"] * (len(headers) - 2)]
    megabatches, model = board.protocol.get("megabatches"), board.protocol.get("model")
    kind = f", {board.protocol['scenario']}" if "scenario" in board.protocol else ""
    title = printable(f"{board.label} ({board.data} images){kind}, {megabatches} megabatches, {model}")
    more = f"\n... and {len(report.rows) - rows} more rows" if len(report.rows) > rows else ""
    return f"{title}\n\n{tabulate(table, headers, disable_numparse=True, colalign=aligned)}{more}"


def changes_text(changes: Changes) -> str:
    """A table a board: each measure under both, the paired difference, and its p; all of it printable."""
    parts = [printable(f"A is {changes.first}, B is {changes.second}: B - A, seed by seed")]
    for change in changes.found:
        board, table = change.board, []
        for line in change.lines:
            for measure in change.measures:
                found = line.compared.get(measure.key)
                if found is None:
                    continue
                first, other, difference = found.reference, found.other, found.comparison.difference
                cells = [printable(line.name), printable(measure.title), str(difference.n)]
                cells += [_spread(first, measure), _spread(other, measure), _spread(difference, signed(measure))]
                table.append([*cells, *(_probability(p) for p in (found.comparison.p, found.corrected))])
        headers = ["strategy", "measure", "seeds", "A", "B", "B - A", "p", "p (Holm)"]
        aligned = ("left", "left", *["right"] * 6)
        title = f"{board.label} ({board.data} images), {board.protocol.get('megabatches')} megabatches"
        parts += [printable(title), tabulate(table, headers, disable_numparse=True, colalign=aligned)]
    parts.append(
        "Means and differences ± half the width of their 95 % t interval over the common seeds; p of the paired t "
        "test, Holm-corrected over all lines of a measure."
    )
    if changes.unpaired:
        parts.append(f"Left out: {changes.unpaired} rows that only one of both has, or without a common seed.")
    return "\n\n".join(parts)


def _probability(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _spread(value: Estimate, measure: Measure) -> str:
    """Mean and half the width of its interval, where there is one and it is not zero."""
    mean = measure.form.format(value.mean)
    return printable(f"{mean} ± {measure.form.replace('+', '').format(value.margin)}" if value.margin else mean)
