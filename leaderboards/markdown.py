"""Reports as markdown: what a reader sees. Nothing is computed here.

Whatever stores say (labels, names, values, the glossary) goes through :func:`escape`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from tabulate import tabulate

from leaderboards.boards import Board
from leaderboards.contrast import ALL, Contrast, Line
from leaderboards.glossary import DEFAULT_SORT, Measure
from leaderboards.names import contrast_name
from leaderboards.report import BASELINE, Report, RowReport, parting_fields, provenance
from leaderboards.statistics import Estimate
from leaderboards.text import printable

INDEXED = ("megabatches", "shots", "replay", "model", "epochs")

SHOWN_FIRST = ("megabatches", "shots", "test_shots", "replay", "model", "epochs", "batch_size", "resolution")

SHORT_COMMIT = 7
"""Characters of a commit that are shown."""

MARKS = r"""
    [\\`*|#~$]                                         # read wherever they stand
    | (?<!\w)_+ | _+(?!\w)                             # emphasis, unless inside a word
    | \](?=[(\[:])                                      # the middle of a link
    | (?<=http): | (?<=https): | (?<=ftp): | (?<=www)\. | @(?=\w)   # bare addresses become links
    | ^[-+](?=\s\S) | ^\[(?=[ x]\])                   # the item of a list, and a box to tick
"""
"""What markdown would read as its own in one line of text, each character by itself."""

IN_TEXT = re.compile(MARKS, re.VERBOSE | re.IGNORECASE)

IN_BRACKETS = re.compile(rf"{MARKS} | [\[\]]", re.VERBOSE | re.IGNORECASE)

NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s)")
"""The beginning of a numbered item."""

HTML = re.compile("[<>]|&(?=#?[a-z0-9]+;)", re.IGNORECASE)


def board_page(report: Report) -> str:
    """The page of one board: results, comparison with the dense baseline, protocol and provenance."""
    board = report.board
    parts = [
        f"# {escape(board.label)}"
        + (f": {escape(str(b))} megabatches" if (b := board.protocol.get("megabatches")) else ""),
        *_older(report),
        _lead(report),
        _results(report),
        "Mean ± half the width of the 95 % t interval over seeds; **bold** is the best mean of its column, which "
        "says nothing about significance. No interval where there is only one seed.",
        *_marks(report),
        *_comparison(report),
        "## Variants",
        "What each row was run with, and the versions of its parts. A row's name shows only what differs from the "
        "strategy's defaults.",
        _variants(board),
        "## Every run",
        _every_run(report),
        *_dirty_legend(report),
        "## Columns",
        "\n".join(_explained(one) for one in report.columns),
        "## Protocol",
        "All rows have in common:",
        _protocol(board),
        "## Provenance",
        _provenance(report.provenance, *report.started),
    ]
    return "\n\n".join(parts) + "\n"


def contrast_page(contrasts: Sequence[Contrast], field: str) -> str:
    """The page of the contrasts of one field: a section for each board and pair of values."""
    parts = [
        f"# Contrast: {escape(field)}",
        f"Runs that differ in {_code(field)} alone: the same images and strategy variant, otherwise the same protocol, "
        "paired by seed. The reference is the value that most runs have.",
    ]
    parting = parting_fields([contrast.board for contrast in contrasts], INDEXED)
    measures = {one.key: one for contrast in contrasts for one in _contrasted_measures(contrast)}
    for contrast in contrasts:
        protocol = contrast.board.protocol
        fields = [f"{name} {_value(protocol[name])}" for name in [*INDEXED, *parting] if protocol.get(name) is not None]
        lead = f"{_images(contrast.board)} Protocol: {escape(', '.join(fields))}. Variants: {len(contrast.lines)}."
        if contrast.unpaired:
            lead += f" Left out: {contrast.unpaired} without a common seed."
        parts += [
            f"## {escape(f'{contrast.board.label}: {field} {contrast.other} against {contrast.reference}')}",
            lead,
            _contrasted(contrast),
        ]
    runs = pd.concat([contrast.board.runs for contrast in contrasts])
    parts += [
        "## Columns",
        "- Seeds: those with a run under both values; everything else is over them.\n"
        + "".join(f"{_explained(one)}\n" for one in measures.values())
        + "- Difference: the mean of the paired differences, value minus reference. Means and differences are given "
        "± half the width of their 95 % t interval over seeds.\n"
        "- p: of the paired t test; p (Holm): corrected over all variants of this page, each metric by itself.\n"
        "- Training time ratio: geometric mean of the paired ratios of `time/train_seconds`, value / reference: wall "
        "time, which means something where both were run on the same hardware under the same load.\n"
        f"- {ALL}: averaged over the variants within each seed first. Runs of one seed share split and "
        "initialisation: pairs of different variants are not independent, so that the interval and p are over "
        "seeds. It is no part of Holm's correction.",
        "## Provenance",
        _provenance(provenance(runs), runs.started.min(), runs.started.max()),
    ]
    return "\n\n".join(parts) + "\n"


def _contrasted_measures(contrast: Contrast) -> list[Measure]:
    return contrast.board.glossary.in_place("contrast")


def _contrasted(contrast: Contrast) -> str:
    headers = ["Strategy", "Seeds"]
    for one in _contrasted_measures(contrast):
        headers += [f"{one.title}, {contrast.reference}", f"{one.title}, {contrast.other}"]
        headers += [f"{one.title} difference", "p", "p (Holm)"]
    headers.append(f"Training time ratio, {contrast.other} / {contrast.reference}")
    measures = _contrasted_measures(contrast)
    rows = [_contrast_cells(line, measures) for line in (*contrast.lines, contrast.pooled)]
    return pipe(rows, [escape(header) for header in headers])


def _contrast_cells(line: Line, measures: Sequence[Measure]) -> list[str]:
    cells = [escape(line.name), str(line.seeds)]
    for measure in measures:
        compared = line.compared.get(measure.key)
        if compared is None:
            cells += ["-"] * 5
            continue
        cells += [cell(compared.reference, measure), cell(compared.other, measure)]
        cells.append(cell(compared.comparison.difference, signed(measure)))
        cells += ["-" if p is None else f"{p:.3f}" for p in (compared.comparison.p, compared.corrected)]
    return [*cells, "-" if line.time_ratio is None else f"{line.time_ratio:.3f}"]


def index_page(reports: Sequence[Report], contrast: str | None = None) -> str:
    """A table of contents, one row a board; fields in which boards of one stream differ have a column.

    ``contrast`` is the protocol field of the contrast that has been made, if any: its page is linked.
    """
    rows = []
    boards = [one.board for one in reports]
    fields = [*INDEXED, *parting_fields(boards, INDEXED)]
    for board in boards:
        first, shown = board.rows[0], board.glossary.find(DEFAULT_SORT)
        rows.append(
            [
                _link(board.label, board.file_name),
                escape(board.data),
                *(escape(_value(board.protocol.get(name))) for name in fields),
                str(len(board.rows)),
                str(len(board.runs)),
                escape(first.name),
                "-" if shown is None else cell(first.estimates.get(shown.key), shown),
            ]
        )
    headers = [
        "Stream",
        "Data",
        *(escape(name.capitalize().replace("_", " ")) for name in fields),
        "Rows",
        "Runs",
        "First row",
        "CER rate",
    ]
    note = "Runs share a board only if stream, images and protocol agree. Synthetic stand-ins never meet real images."
    if contrast is not None:
        note += f"\n\nContrast: {_link(contrast, contrast_name(contrast))}, the runs that differ in it alone."
    return f"# Leaderboards\n\n{note}\n\n{pipe(rows, headers)}\n"


def _code(name: str) -> str:
    return f"`{name}`" if name.isidentifier() else escape(name)


def _explained(measure: Measure) -> str:
    # "[title]:" would define a link.
    return f"- {_escape(measure.title, IN_BRACKETS)}: {escape(measure.meaning)}."


def _value(value: object) -> str:
    return "-" if value is None else str(value)


def pipe(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A markdown table of cells as they are; escape what comes from outside with :func:`escape`."""
    aligned = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned if rows else None)


def escape(text: str) -> str:
    """``text`` from outside, for any place of a page: shown as it is, in one line, never read as markdown or HTML."""
    return _escape(text, IN_TEXT)


def _link(text: str, page: str) -> str:
    return f"[{_escape(text, IN_BRACKETS)}]({page})"


def _escape(text: str, marks: re.Pattern[str]) -> str:
    shown = marks.sub(lambda found: "".join(f"\\{mark}" for mark in found[0]), printable(text))
    shown = NUMBERED.sub(r"\1\\\2", shown)
    return HTML.sub(lambda found: html.escape(found[0]), shown)


def cell(value: Estimate | None, measure: Measure) -> str:
    """Mean and interval in the measure's form."""
    if value is None:
        return "-"
    mean = measure.form.format(value.mean)
    margin = "" if value.margin is None else f" ± {measure.form.replace('+', '').format(value.margin)}"
    return escape(mean + margin)


def signed(measure: Measure) -> Measure:
    """For differences."""
    return replace(measure, form="{:+.4f}")


def _images(board: Board) -> str:
    if board.data == "real":
        return "Real images."
    return "**Synthetic stand-in images**, procedurally made: not to be compared with results on real ones."


def _older(report: Report) -> list[str]:
    if report.older_protocol is None:
        return []
    return [
        f"**Protocol version {report.older_protocol}**: an earlier one, whose figures are not to be compared with "
        "those of boards of later versions."
    ]


def _lead(report: Report) -> str:
    board = report.board
    lead = (
        f"{_images(board)} Variants: {len(board.rows)}; runs: {len(board.runs)}; "
        f"seeds: {', '.join(map(str, report.seeds))}."
    )
    if board.outdated:
        lead += f" Left out: {board.outdated} runs of earlier versions of a strategy or of a part of one."
    return lead


def _results(report: Report) -> str:
    rows = []
    for row in report.rows:
        cells = [_name(row), str(row.row.runs.seed.nunique())]
        for column in report.columns:
            found = row.cells.get(column.key)
            text = cell(found.estimate if found else None, column)
            cells.append(f"**{text}**" if found and found.best else text)
        rows.append(cells)
    return pipe(rows, ["Strategy", "Seeds", *(escape(column.title) for column in report.columns)])


def _name(row: RowReport) -> str:
    return escape(row.row.name) + (" †" if len(row.commits) > 1 else "") + (" ∅" if row.emptied else "")


def _marks(report: Report) -> list[str]:
    """What the marks behind names of rows mean, for those there are."""
    found = []
    if any(len(row.commits) > 1 for row in report.rows):
        found.append("† Runs of this row are of several commits of the code; the table of every run says which.")
    for row in report.rows:
        if row.emptied:
            seeds = ", ".join(map(str, row.emptied))
            found.append(f"∅ {escape(row.row.name)}: whole layers have no weight left (seeds {seeds}).")
    return found


def _comparison(report: Report) -> list[str]:
    """Paired differences from the dense baseline; nothing without a baseline."""
    rivals = [row for row in report.rows if row.against_baseline]
    if not report.baseline or not rivals:
        return []
    rows = []
    for row in rivals:
        cells = [escape(row.row.name)]
        for measure in report.baseline:
            tested = row.against_baseline.get(measure.key)
            text = "-" if tested is None else cell(tested.comparison.difference, signed(measure))
            corrected = None if tested is None else tested.corrected
            cells.append(text if corrected is None else f"{text} (p {corrected:.3f})")
        rows.append(cells)
    return [
        f"## Against {BASELINE}, seed by seed",
        pipe(rows, ["Strategy", *(escape(f"{one.title} difference") for one in report.baseline)]),
        "Mean difference over common seeds ± half the width of its 95 % t interval; p of the paired t test, "
        "Holm-corrected over the rows of each column.",
    ]


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
    rows = [[escape(name), escape(_value(board.protocol[name]))] for name in names]
    images = f"{board.data}, version {board.data_version}, fingerprint {board.data_fingerprint}"
    rows.append(["images", escape(images)])
    return pipe(rows, ["Field", "Value"])


def _provenance(found: Mapping[str, Sequence[str]], first: pd.Timestamp, last: pd.Timestamp) -> str:
    lines = [f"- Runs started {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC."]
    return "\n".join(
        [*lines, *(f"- {words}: {escape(', '.join(values))}." for words, values in found.items() if values)]
    )
