"""Density of each layer after each megabatch, of the rows that figures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from leaderboards.numbers.boards import Row
from leaderboards.numbers.curves import Series, series_of
from leaderboards.numbers.report import LayerDensities, Report
from leaderboards.sources.collect import Records
from leaderboards.sources.rows import METRIC

FAMILY = "density/"
"""What names of the metrics begin with; the number of the layer and its name follow."""


def with_layers(reports: Sequence[Report], records: Records) -> list[Report]:
    """The reports with the densities of layers of the rows that are drawn, where their runs have recorded them.

    Raises:
        BoardError: a source cannot be read.
    """
    metrics = [one.removeprefix(METRIC) for one in records.runs.columns if one.startswith(METRIC + FAMILY)]
    if not metrics:
        return list(reports)
    shown = [report.rows[rank - 1].row for report in reports for rank in report.drawn]
    series = series_of(records, [run_id for row in shown for run_id in row.runs.run_id.tolist()], metrics)
    return [_with_layers(report, metrics, series) for report in reports]


def _with_layers(report: Report, metrics: Sequence[str], series: Series) -> Report:
    rows = [
        replace(row, layers=densities(row.row, metrics, series)) if row.rank in report.drawn else row
        for row in report.rows
    ]
    return replace(report, rows=rows)


def densities(row: Row, metrics: Sequence[str], series: Series) -> LayerDensities | None:
    """Means over the seeds of a row; None where none of its runs has recorded any. What is not recorded was whole."""
    ids = row.runs.run_id.tolist()
    own = sorted({metric for metric in metrics for run_id in ids if (run_id, metric) in series})
    runs = [run_id for run_id in ids if any((run_id, metric) in series for metric in own)]
    steps = sorted({step for run_id in runs for metric in own for step in series.get((run_id, metric), {})})
    if not own or not steps:
        return None
    last = steps[-1]
    whole = range(1, last + 1)
    values = np.array(
        [[[series.get((run, metric), {}).get(step, 1.0) for step in whole] for metric in own] for run in runs]
    )
    return LayerDensities([metric.removeprefix(FAMILY) for metric in own], values.mean(axis=0))
