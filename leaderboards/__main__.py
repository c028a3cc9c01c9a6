"""The command ``python -m leaderboards``: markdown leaderboards from an MLflow store."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from leaderboards.glossary import DEFAULT_SORT
from leaderboards.memory import collector_paused

EPILOG = """\b
Examples:
  python -m leaderboards --tracking-uri sqlite:///results/mlflow.db
  python -m leaderboards --tracking-uri http://127.0.0.1:5000 --sort accuracy --output boards
  python -m leaderboards --across replay
  python -m leaderboards --contrast precision
"""


@click.command(epilog=EPILOG, context_settings={"max_content_width": 110})
@click.option(
    "--tracking-uri",
    default=lambda: [os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///results/mlflow.db")],
    multiple=True,
    help="MLflow store of the runs, may be repeated; also MLFLOW_TRACKING_URI  [default: sqlite:///results/mlflow.db]",
)
@click.option("--experiment", help="only this MLflow experiment  [default: all]")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="results/leaderboards",
    show_default=True,
    help="folder of the pages",
)
@click.option("--sort", default=DEFAULT_SORT, show_default=True, help="measure that orders the rows, best first")
@click.option("--reverse", is_flag=True, help="worst first")
@click.option("--across", multiple=True, metavar="FIELD", help="compare across a protocol field, such as replay")
@click.option("--contrast", metavar="FIELD", help="a further page: the values of a protocol field, seed by seed")
@collector_paused()
def main(
    tracking_uri: tuple[str, ...],
    experiment: str | None,
    output: Path,
    sort: str,
    reverse: bool,
    across: tuple[str, ...],
    contrast: str | None,
) -> None:
    """Build one markdown leaderboard for each (stream, data, protocol) of an MLflow store, and an index."""
    from leaderboards.errors import BoardError
    from leaderboards.publish import publish

    try:
        publish(
            tracking_uri, output, experiment=experiment, sort=sort, reverse=reverse, across=across, contrast=contrast
        )
    except BoardError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    click.echo(f"Leaderboards: {output / 'README.md'}")


if __name__ == "__main__":
    main()
