"""What a run ends with in the terminal."""

from __future__ import annotations

from tabulate import tabulate

from benchmark.metrics.glossary import glossary
from benchmark.running.result import RunResult

BRIEFLY = (
    "continual/accuracy",
    "continual/forgetting",
    "anytime/cer_rate",
    "test/accuracy",
    "gap/clean",
    "size/density",
    "time/train_seconds",
)
"""Metrics of a summary of one line."""


def summarise(result: RunResult) -> str:
    """One row a megabatch, then the totals; an empty cell where a megabatch has no value."""
    known = glossary()
    columns = [one for one in known.in_place("megabatches") if one.name in result.series]
    rows = []
    for megabatch in range(1, result.config.megabatches + 1):
        values = [(one, result.at(one.name, megabatch)) for one in columns]
        rows.append([megabatch, *("" if value is None else one.form.format(value) for one, value in values)])
    each = tabulate(rows, headers=["megabatch", *(o.short for o in columns)], disable_numparse=True, stralign="right")
    totals = [
        (f"{one.title}: {one.meaning}", one.form.format(result.final(one.name)))
        for one in known.in_place("totals")
        if one.name in result.series
    ]
    return f"{each}\n\n{tabulate(totals, disable_numparse=True, colalign=('left', 'right'), tablefmt='plain')}"


def summarise_briefly(result: RunResult) -> str:
    """One line, for a run that is one of several."""
    known = glossary()
    shown = [known[name] for name in BRIEFLY if name in result.series]
    return ", ".join(f"{one.title} {one.form.format(result.final(one.name))}" for one in shown)
