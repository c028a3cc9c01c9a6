"""The command ``python -m benchmark.deliver``: what a tracking server has not got, because it was away."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from leaderboards.ending import end_at_once

EPILOG = """\b
Examples:
  python -m benchmark.deliver
  python -m benchmark.deliver --output results --tracking-uri http://127.0.0.1:5000

Runs that are under way are left alone: they deliver by themselves. It may be called as often as you like.
Exit codes: 0 nothing is left, 1 something is, 2 wrong use, 130 interrupted.
"""


@click.command(epilog=EPILOG, context_settings={"max_content_width": 110})
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="results",
    show_default=True,
    help="folder that the runs were given as --output",
)
@click.option("--tracking-uri", help="the tracking server, if its address has changed")
def main(output: Path, tracking_uri: str | None) -> None:
    """Deliver points, files and final status of runs to the tracking server that did not answer while they ran."""
    if not output.is_dir():
        click.echo(f"Error: there is no folder {output}: name the --output of the runs", err=True)
        sys.exit(2)
    from benchmark.recording.spool import FOLDER, Away, InUse, deliver, is_served, spools

    if tracking_uri is not None and not is_served(tracking_uri):
        click.echo(f"Error: --tracking-uri {tracking_uri} is no address of a server (http:// or https://)", err=True)
        sys.exit(2)
    left = False
    folders = spools(output)
    if not folders:
        click.echo(f"Nothing is kept in {output / FOLDER}.")
    try:
        for folder in folders:
            try:
                deliver(folder, tracking_uri)
            except InUse:
                click.echo(f"Run {folder.name}: under way, left alone")
            except Away as away:
                left = True
                click.echo(f"Run {folder.name}: still kept in {folder}: {away}")
            except Exception as error:
                left = True
                line = str(error).strip().splitlines()[0]
                click.echo(f"Run {folder.name}: still kept in {folder}: {line}")
            else:
                click.echo(f"Run {folder.name}: delivered")
    except KeyboardInterrupt:
        click.echo("Interrupted: what was not delivered is kept.", err=True)
        sys.exit(130)
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    end_at_once(main)
