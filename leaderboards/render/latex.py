"""Reports as LaTeX: a table a board, for booktabs. Nothing is computed here; what stores say is escaped."""

from __future__ import annotations

import unicodedata

from leaderboards.glossary import Measure
from leaderboards.numbers.report import BASELINE, Report
from leaderboards.numbers.statistics import Estimate
from leaderboards.render.terminal import SHOWN
from leaderboards.text import printable

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "±": r"\ensuremath{\pm}",
}
"""What LaTeX reads as its own, or joins to other characters, and how it is written."""


def board_table(report: Report) -> str:
    """The table of one board: mean, margin, and p against the baseline, for booktabs; best means in bold."""
    board = report.board
    columns = [one for key in SHOWN for one in report.columns if one.key == key] or list(report.columns[:5])
    tested = next((one for one in report.baseline if one in columns), None)
    heads = ["Strategy", "Seeds"]
    for one in columns:
        heads.append(one.title)
        if one == tested:
            heads.append(f"p ({BASELINE})")
    lines = []
    for row in report.rows:
        cells = [escape(row.row.name), str(row.row.runs.seed.nunique())]
        for one in columns:
            found = row.cells.get(one.key)
            text = "--" if found is None else _value(found.estimate, one)
            cells.append(rf"\textbf{{{text}}}" if found is not None and found.best else text)
            if one == tested:
                against = row.against_baseline.get(one.key)
                p = None if against is None else against.corrected
                cells.append("--" if p is None else rf"${'<' if p < 0.001 else ''}{max(p, 0.001):.3f}$")
        lines.append(" & ".join(cells) + r" \\")
    note = f"Mean and half the width of the 95 % t interval over seeds; p of the paired t test against {BASELINE}, " + (
        "Holm-corrected."
    )
    title = f"{board.label} ({board.data} images), {board.protocol.get('megabatches')} megabatches."
    return "\n".join(
        [
            r"% \usepackage[T1]{fontenc}, \usepackage{textcomp} and \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape(f'{title} {note}')}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"    \toprule",
            "    " + " & ".join(escape(head) for head in heads) + r" \\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """``text`` from outside, in one line that LaTeX shows as it is; other scripts need fonts that have them."""
    shown = "".join(SPECIAL.get(character, character) for character in printable(unicodedata.normalize("NFC", text)))
    return shown.replace("--", "-{}-").replace("--", "-{}-")


def _value(value: Estimate, measure: Measure) -> str:
    mean = measure.form.format(value.mean)
    margin = "" if value.margin is None else measure.form.replace("+", "").format(value.margin)
    # An interval that is written as zero says nothing.
    shown = f"{mean} ± {margin}" if set(margin) & set("123456789") else mean
    return escape(shown).replace("-", r"\ensuremath{-}")
