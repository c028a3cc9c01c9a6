"""The command ``python -m benchmark.status``: how far a campaign is, from its store alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from leaderboards.ending import end_at_once

EPILOG = """\b
Examples:
  python -m benchmark.status
  python -m benchmark.status digits
  python -m benchmark.status digits --tracking-uri http://127.0.0.1:5000 --every 10

It only reads, from any machine that the store can be reached from. Without NAME it lists the campaigns.
Exit codes: 0 all runs of the campaign are finished, 1 some are not, 2 wrong use, 130 interrupted.
"""


@click.command(epilog=EPILOG, context_settings={"max_content_width": 110})
@click.argument("name", required=False)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="results",
    show_default=True,
    help="folder that the campaign was given as --output",
)
@click.option(
    "--tracking-uri",
    default=lambda: os.environ.get("MLFLOW_TRACKING_URI"),
    help="MLflow store; also MLFLOW_TRACKING_URI  [default: sqlite in the output folder]",
)
@click.option(
    "--experiment",
    default="anytime-bench",
    show_default=True,
    help="MLflow experiment that the campaign is recorded in",
)
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="look again so often until nothing is under way; on a terminal in place, elsewhere whenever something changed",
)
def main(name: str | None, output: Path, tracking_uri: str | None, experiment: str, every: float | None) -> None:
    """Show how far a campaign is: runs that are done, under way, interrupted, failed, and the best rows so far."""
    from benchmark.command.campaign_status import list_campaigns, show_status
    from benchmark.command.common import one_line_ends

    with one_line_ends():
        if name is None:
            click.echo(list_campaigns(output, tracking_uri, experiment))
            return
        finished = show_status(name, output, tracking_uri, experiment, every)
    sys.exit(0 if finished else 1)


if __name__ == "__main__":
    end_at_once(main)
