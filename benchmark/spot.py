"""The command ``python -m benchmark.spot``: are records true?"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from benchmark.command.common import DATA, one_line_ends, with_options
from benchmark.engines.imports import libraries_imported
from benchmark.errors import UsageError
from benchmark.running.interruption import Interruption
from leaderboards.ending import end_at_once

EPILOG = """\b
Examples:
  python -m benchmark.spot --data-root data
  python -m benchmark.spot my-records --data-root data --dry-run

Of each board the run that was trained the fastest is made again, on the threads of its record. With its instruction set
and versions every value of every metric has to be the same; otherwise last values within 5 points, and 10 % of what is
no fraction. Boards whose images are not here are skipped: nothing is downloaded.
Exit codes: 0 nothing differs, 1 something does, 2 wrong use, 130 interrupted.
"""


@click.command(epilog=EPILOG, context_settings={"max_content_width": 110})
@click.argument(
    "records", metavar="[RECORDS_DIR]", type=click.Path(path_type=Path), default="leaderboards/published/records"
)
@with_options(DATA)
@click.option("--dry-run", is_flag=True, help="name the runs, and how long they took; nothing is trained")
def main(records: Path, data_root: Path, cache: Path, dry_run: bool) -> None:
    """Make a small run of each board again from its record, and compare everything that it measured."""
    interruption = Interruption()
    with one_line_ends(), interruption.handled(signal.SIGINT, signal.SIGTERM):
        with interruption.insisting(), libraries_imported():
            from benchmark.command.spot_check import check, choose, took
            from leaderboards.errors import BoardError
            from leaderboards.sources.recorded import RecordedRuns
        source = RecordedRuns(records)
        try:
            glossary, chosen = source.glossary(), choose(source)
        except BoardError as error:
            raise UsageError(str(error)) from error
        if not chosen:
            raise UsageError(f"there is no record in {records}")
        verdicts = []
        for board, (name, record) in chosen.items():
            click.echo(f"{board}: {name}, trained in {took(record)}")
            if dry_run:
                continue
            spot = check(board, name, record, glossary, data_root=data_root, cache=cache)
            verdicts.append(spot.verdict)
            click.echo(f"  {WORDS[spot.verdict]}")
            for line in spot.lines:
                click.echo(f"  - {line}")
    if not dry_run:
        told = ", ".join(f"{verdicts.count(one)} {one}" for one in WORDS if one in verdicts)
        click.echo(f"{len(verdicts)} boards: {told}")
    sys.exit(1 if "differs" in verdicts else 0)


WORDS = {
    "equal": "equal: every value of every metric",
    "close": "close: within the tolerance, because this is not where it was recorded",
    "differs": "DIFFERS from its record",
    "skipped": "skipped",
}
"""Verdict -> what is said of it."""


if __name__ == "__main__":
    end_at_once(main)
