"""Boards as markdown: what a reader sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from tabulate import tabulate

from leaderboards.boards import Board, Row
from leaderboards.columns import BY_KEY, COLUMNS, Column
from leaderboards.contrast import ALL, METRICS, Contrast, Line
from leaderboards.statistics import Estimate, holm, paired

BASELINE = "dense"

COMPARED = ("cer_rate", "accuracy", "gap_reference", "gap_clean")

EACH_RUN = ("cer", "cer_rate", "accuracy", "gap_reference", "gap_clean", "density")

INDEXED = ("megabatches", "shots", "replay", "model", "epochs")

SHOWN_FIRST = ("megabatches", "shots", "test_shots", "replay", "model", "epochs", "batch_size", "resolution")


def board_page(board: Board) -> str:
    """The page of one board: results, comparison with the dense baseline, protocol and provenance."""
    parts = [
        f"# {board.label}" + (f": {b} megabatches" if (b := board.protocol.get("megabatches")) else ""),
        _lead(board),
        _results(board),
        "Mean ± half the width of the 95 % t interval over seeds; **bold** is the best mean of its column, which "
        "says nothing about significance. No interval where there is only one seed.",
        *_comparison(board),
        "## Variants",
        "What each row was run with, and the versions of its parts. A row's name shows only what differs from the "
        "strategy's defaults.",
        _variants(board),
        "## Every run",
        _every_run(board),
        "## Columns",
        "\n".join(f"- {column.title}: {column.meaning}." for column in COLUMNS),
        "## Protocol",
        "All rows have in common:",
        _protocol(board),
        "## Provenance",
        _provenance(board.runs),
    ]
    return "\n\n".join(parts) + "\n"


def contrast_name(field: str) -> str:
    """File name of the page of a contrast."""
    return f"contrast-{field}.md"


def contrast_page(contrasts: Sequence[Contrast], field: str) -> str:
    """The page of the contrasts of one field: a section for each board and pair of values."""
    parts = [
        f"# Contrast: {field}",
        f"Runs that differ in `{field}` alone: the same images and strategy variant, otherwise the same protocol, "
        "paired by seed. The reference is the value that most runs have.",
    ]
    parting = _parting([contrast.board for contrast in contrasts])
    for contrast in contrasts:
        protocol = contrast.board.protocol
        fields = [f"{name} {_value(protocol[name])}" for name in [*INDEXED, *parting] if protocol.get(name) is not None]
        lead = f"{_images(contrast.board)} Protocol: {', '.join(fields)}. Variants: {len(contrast.lines)}."
        if contrast.unpaired:
            lead += f" Left out: {contrast.unpaired} without a common seed."
        parts += [
            f"## {contrast.board.label}: {field} {contrast.other} against {contrast.reference}",
            lead,
            _contrasted(contrast),
        ]
    parts += [
        "## Columns",
        "- Seeds: those with a run under both values; everything else is over them.\n"
        + "".join(f"- {BY_KEY[key].title}: {BY_KEY[key].meaning}.\n" for key in METRICS)
        + "- Difference: the mean of the paired differences, value minus reference. Means and differences are given "
        "± half the width of their 95 % t interval over seeds.\n"
        "- p: of the paired t test; p (Holm): corrected over all variants of this page, each metric by itself.\n"
        "- Training time ratio: geometric mean of the paired ratios of `time/train_seconds`, value / reference: wall "
        "time, which means something where both were run on the same hardware under the same load.\n"
        f"- {ALL}: averaged over the variants within each seed first. Runs of one seed share split and "
        "initialisation: pairs of different variants are not independent, so that the interval and p are over "
        "seeds. It is no part of Holm's correction.",
        "## Provenance",
        _provenance(pd.concat([contrast.board.runs for contrast in contrasts])),
    ]
    return "\n\n".join(parts) + "\n"


def _contrasted(contrast: Contrast) -> str:
    headers = ["Strategy", "Seeds"]
    for key in METRICS:
        title = BY_KEY[key].title
        headers += [f"{title}, {contrast.reference}", f"{title}, {contrast.other}"]
        headers += [f"{title} difference", "p", "p (Holm)"]
    headers.append(f"Training time ratio, {contrast.other} / {contrast.reference}")
    rows = [_contrast_cells(line) for line in (*contrast.lines, contrast.pooled)]
    return pipe(rows, [escape(header) for header in headers])


def _contrast_cells(line: Line) -> list[str]:
    cells = [escape(line.name), str(line.seeds)]
    for key in METRICS:
        column, compared = BY_KEY[key], line.compared.get(key)
        if compared is None:
            cells += ["-"] * 5
            continue
        cells += [cell(compared.reference, column), cell(compared.other, column)]
        cells.append(cell(compared.comparison.difference, _signed(column)))
        cells += ["-" if p is None else f"{p:.3f}" for p in (compared.comparison.p, compared.corrected)]
    return [*cells, "-" if line.time_ratio is None else f"{line.time_ratio:.3f}"]


def index_page(boards: Sequence[Board], contrast: str | None = None) -> str:
    """A table of contents, one row a board; fields in which boards of one stream differ have a column.

    ``contrast`` is the protocol field of the contrast that has been made, if any: its page is linked.
    """
    rows = []
    fields = [*INDEXED, *_parting(boards)]
    for board in boards:
        best = board.rows[0]
        rows.append(
            [
                f"[{escape(board.label)}]({board.file_name})",
                board.data,
                *(escape(_value(board.protocol.get(name))) for name in fields),
                str(len(board.rows)),
                str(len(board.runs)),
                escape(best.name),
                cell(best.estimates.get("cer_rate"), BY_KEY["cer_rate"]),
            ]
        )
    headers = [
        "Stream",
        "Data",
        *(name.capitalize().replace("_", " ") for name in fields),
        "Rows",
        "Runs",
        "First row",
        "CER rate",
    ]
    note = "Runs share a board only if stream, images and protocol agree. Synthetic stand-ins never meet real images."
    if contrast is not None:
        note += f"\n\nContrast: [{escape(contrast)}]({contrast_name(contrast)}), the runs that differ in it alone."
    return f"# Leaderboards\n\n{note}\n\n{pipe(rows, headers)}\n"


def _parting(boards: Sequence[Board]) -> list[str]:
    """Further protocol fields that tell boards of the same images apart."""
    values: dict[tuple[str, str], set[str]] = {}
    for board in boards:
        for name, value in board.protocol.items():
            values.setdefault((board.label + board.data, name), set()).add(_value(value))
    differing = {name for (_, name), found in values.items() if len(found) > 1}
    return sorted(differing - set(INDEXED))


def _value(value: object) -> str:
    return "-" if value is None else str(value)


def pipe(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A markdown table of cells as they are; escape what comes from outside with :func:`escape`."""
    aligned = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned if rows else None)


def escape(text: str) -> str:
    """``text`` for a table cell: tabulate leaves the bar alone, which would split the cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def cell(value: Estimate | None, column: Column) -> str:
    """Mean and interval in the column's form."""
    if value is None:
        return "-"
    mean = column.form.format(value.mean)
    if value.margin is None:
        return mean
    return f"{mean} ± {column.form.replace('+', '').format(value.margin)}"


def _images(board: Board) -> str:
    if board.data == "real":
        return "Real images."
    return "**Synthetic stand-in images**, procedurally made: not to be compared with results on real ones."


def _lead(board: Board) -> str:
    seeds = sorted({int(seed) for seed in board.runs.seed})
    lead = (
        f"{_images(board)} Variants: {len(board.rows)}; runs: {len(board.runs)}; seeds: {', '.join(map(str, seeds))}."
    )
    if board.outdated:
        lead += f" Left out: {board.outdated} runs of earlier versions of a strategy or of a part of one."
    return lead


def _results(board: Board) -> str:
    columns = [column for column in COLUMNS if any(column.key in row.estimates for row in board.rows)]
    best = {column.key: _best(board.rows, column) for column in columns}
    rows = []
    for row in board.rows:
        cells = [escape(row.name), str(row.runs.seed.nunique())]
        for column in columns:
            text = cell(row.estimates.get(column.key), column)
            value = row.estimates.get(column.key)
            cells.append(f"**{text}**" if value is not None and value.mean == best[column.key] else text)
        rows.append(cells)
    return pipe(rows, ["Strategy", "Seeds", *(column.title for column in columns)])


def _best(rows: Sequence[Row], column: Column) -> float | None:
    """The best mean of a column; None where it is no merit or all rows are equal."""
    means = [row.estimates[column.key].mean for row in rows if column.key in row.estimates]
    if column.better == 0 or len(set(means)) < 2:
        return None
    return max(means) if column.better > 0 else min(means)


def _comparison(board: Board) -> list[str]:
    """Paired differences from the dense baseline, Holm-corrected within each column; nothing without a baseline."""
    rivals = [(row, base) for row in board.rows if (base := _baseline(board, row)) is not None]
    if not rivals:
        return []
    cells = [[escape(row.name)] for row, _ in rivals]
    for key in COMPARED:
        column = BY_KEY[key]
        found = [paired(row.by_seed(column.metric), base.by_seed(column.metric)) for row, base in rivals]
        tested = [index for index, one in enumerate(found) if one is not None and one.p is not None]
        p_values = [one.p for one in found if one is not None and one.p is not None]
        corrected = dict(zip(tested, holm(p_values), strict=True))
        for index, comparison in enumerate(found):
            text = "-" if comparison is None else cell(comparison.difference, _signed(column))
            cells[index].append(f"{text} (p {corrected[index]:.3f})" if index in corrected else text)
    return [
        f"## Against {BASELINE}, seed by seed",
        pipe(cells, ["Strategy", *(f"{BY_KEY[key].title} difference" for key in COMPARED)]),
        "Mean difference over common seeds ± half the width of its 95 % t interval; p of the paired t test, "
        "Holm-corrected over the rows of each column.",
    ]


def _signed(column: Column) -> Column:
    """For differences."""
    return replace(column, form="{:+.4f}")


def _baseline(board: Board, row: Row) -> Row | None:
    """The dense row under the same conditions; None for that row itself, or where there is none."""
    same = (r for r in board.rows if r.variant["strategy"] == BASELINE and r.extra == row.extra)
    found = next(same, None)
    return None if found is row else found


def _every_run(board: Board) -> str:
    """What the means were made of, one row a run."""
    columns = [BY_KEY[key] for key in EACH_RUN]
    rows = []
    for row in board.rows:
        values = {column.key: row.by_seed(column.metric) for column in columns}
        for seed in sorted(int(seed) for seed in row.runs.seed):
            shown = [(column, values[column.key].get(seed)) for column in columns]
            cells = ["-" if value is None else column.form.format(value) for column, value in shown]
            rows.append([escape(row.name), str(seed), *cells])
    return pipe(rows, ["Strategy", "Seed", *(column.title for column in columns)])


def _variants(board: Board) -> str:
    rows = []
    for row in board.rows:
        options = [f"{n} {v}" for n, v in row.variant.items() if n != "strategy" and not n.endswith("_version")]
        versions = [f"{n.removesuffix('_version')} v{v}" for n, v in row.variant.items() if n.endswith("_version")]
        rows.append([escape(row.name), escape(", ".join(options) or "-"), escape(", ".join(versions))])
    return tabulate(rows, ["Row", "Options", "Versions"], tablefmt="pipe", disable_numparse=True)


def _protocol(board: Board) -> str:
    names = [n for n in SHOWN_FIRST if n in board.protocol] + sorted(set(board.protocol) - set(SHOWN_FIRST))
    rows = [[name, escape(_value(board.protocol[name]))] for name in names]
    rows += [["images", f"{board.data}, version {board.data_version}, fingerprint {board.data_fingerprint}"]]
    return pipe(rows, ["Field", "Value"])


def _provenance(runs: pd.DataFrame) -> str:
    lines = [f"- Runs started {runs.started.min():%Y-%m-%d %H:%M} to {runs.started.max():%Y-%m-%d %H:%M} UTC."]
    for tag, words in (
        ("commit", "Code commit"),
        ("dirty", "Uncommitted changes"),
        ("hardware", "Hardware"),
        ("threads", "Threads"),
        ("compiled", "Compiled steps"),
        ("python", "Python"),
        ("version.torch", "torch"),
        ("version.torchvision", "torchvision"),
        ("version.avalanche-lib", "avalanche-lib"),
        ("version.mlflow", "mlflow"),
        ("skipped_images", "Images left out"),
    ):
        if tag in runs:
            lines.append(f"- {words}: {', '.join(sorted(runs[tag].dropna().unique()))}.")
    return "\n".join(lines)
