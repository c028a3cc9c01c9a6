"""What the store knows of a campaign, as text."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import click
from mlflow import MlflowClient
from tqdm import tqdm

from benchmark.errors import UsageError
from benchmark.recording.campaigns import Cell, CellState, campaigns, read_cells
from benchmark.recording.spool import impatient
from benchmark.recording.store import default_address
from benchmark.running.progress import duration
from leaderboards.errors import BoardError
from leaderboards.glossary import DEFAULT_SORT
from leaderboards.numbers.boards import boards
from leaderboards.sources.collect import collect
from leaderboards.sources.store import reading
from leaderboards.text import printable

MANY = 20
"""Runs of one state that are listed; of more, how many there are besides."""

BAR = 60
"""Characters of a bar and its percentage."""

CLEAR = "\x1b[H\x1b[J"
"""Moves a terminal's cursor to its first line, and empties what follows."""


def list_campaigns(output: Path, tracking_uri: str | None, experiment: str) -> str:
    """The campaigns of a store, a line each.

    Raises:
        UsageError: the store cannot be read, or holds none.
    """
    with _reading(output, tracking_uri, experiment) as (client, experiment_id, uri):
        names = campaigns(client, experiment_id)
        if not names:
            raise UsageError(f"there is no campaign in {uri}: python -m benchmark.sweep begins one")
        lines = []
        for name in names:
            try:
                lines.append(f"{printable(name)}: {_counts(read_cells(client, experiment_id, name))}")
            except UsageError as error:
                lines.append(f"{printable(name)}: {error}")
    return "\n".join(lines)


def show_status(name: str, output: Path, tracking_uri: str | None, experiment: str, every: float | None) -> bool:
    """Print how far a campaign is, once, or again every so many seconds while any of its runs is under way.

    Returns:
        Whether all its runs are finished.

    Raises:
        UsageError: the store cannot be read, or there is no such campaign.
    """
    shown = ""
    while True:
        with _reading(output, tracking_uri, experiment) as (client, experiment_id, uri):
            cells = read_cells(client, experiment_id, name)
            text = describe_cells(name, cells, _best(uri, experiment, cells), bars=sys.stdout.isatty())
        if every is not None and sys.stdout.isatty():
            click.echo(f"{CLEAR}{text}")
        elif text != shown:
            click.echo(text if not shown else f"\n{text}")
        shown = text
        if every is None or not any(cell.state == "under way" for cell in cells):
            return all(cell.state == "finished" for cell in cells)
        time.sleep(every)


def describe_cells(name: str, cells: Sequence[Cell], best: Sequence[str] = (), *, bars: bool = False) -> str:
    """A campaign in some lines: counts, runs that are no longer waiting and not finished, and the ``best`` rows.

    With ``bars`` a bar shows how much is finished, and one for each run under way how far that is.
    """
    lines = [f"{printable(name)}: {_counts(cells)}"]
    if bars:
        lines.append(f"  {_bar(sum(cell.state == 'finished' for cell in cells) / max(1, len(cells)))}")
    for state in ("under way", "interrupted", "failed"):
        those = [cell for cell in cells if cell.state == state]
        for cell in those[:MANY]:
            rest = "" if cell.rest is None else f", about {duration(cell.rest)} left"
            about = f": {cell.about}" if cell.about else ""
            lines.append(printable(f"  {state}: {cell.name}{about}{rest}"))
            if bars and cell.done is not None:
                lines.append(f"    {_bar(cell.done)}")
        if len(those) > MANY:
            lines.append(f"  {state}: {len(those) - MANY} more")
    return "\n".join([*lines, *(f"  best so far: {row}" for row in best)])


def _bar(done: float) -> str:
    return str(tqdm.format_meter(round(100 * done), 100, 0, ncols=BAR, bar_format="{bar} {percentage:3.0f}%"))


def _counts(cells: Sequence[Cell]) -> str:
    number = Counter(cell.state for cell in cells)
    told = [f"{number[state]} {state}" for state in get_args(CellState) if number[state]]
    return ", ".join([f"{len(cells)} runs", *told])


def _best(uri: str, experiment: str, cells: Sequence[Cell]) -> list[str]:
    """The first row of each board that finished runs of the campaign are on, among those runs alone."""
    records = collect(uri, experiment=experiment)
    if records.runs.empty:
        return []
    finished = {cell.run_id for cell in cells if cell.state == "finished"}
    own = replace(records, runs=records.runs[records.runs.run_id.isin(finished)].reset_index(drop=True))
    lines = []
    for board in boards(own):
        row, measure = board.rows[0], own.glossary.find(DEFAULT_SORT)
        estimate = None if measure is None else row.estimates.get(measure.key)
        if measure is not None and estimate is not None:
            value = measure.form.format(estimate.mean)
            lines.append(printable(f"{row.name} on {board.label}, {measure.title} {value} ({estimate.n} seeds)"))
    return lines


@contextmanager
def _reading(output: Path, tracking_uri: str | None, experiment: str) -> Iterator[tuple[MlflowClient, str, str]]:
    """A client of the store, the id of the experiment, and the address of the store."""
    try:
        uri = tracking_uri or default_address(output)
        with reading(uri) as client, impatient():
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise UsageError(f"there is no experiment {experiment!r} in {uri}: name another one with --experiment")
            yield client, str(found.experiment_id), uri
    except BoardError as error:
        raise UsageError(str(error)) from error
