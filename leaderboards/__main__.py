"""The command ``python -m leaderboards``: markdown leaderboards from what runs have recorded, and the records."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource

from leaderboards.ending import end_at_once
from leaderboards.glossary import DEFAULT_SORT
from leaderboards.sources.memory import collector_paused

EPILOG = """\b
Examples:
  python -m leaderboards --tracking-uri sqlite:///results/mlflow.db
  python -m leaderboards --tracking-uri http://127.0.0.1:5000 --sort accuracy --output boards
  python -m leaderboards --across replay
  python -m leaderboards --contrast precision
  python -m leaderboards --html leaderboards.html
  python -m leaderboards --format csv --format latex --output tables
  python -m leaderboards export --tracking-uri sqlite:///results/mlflow.db --output records
  python -m leaderboards --tracking-uri records:records
  python -m leaderboards compare dense "APP (density 0.05)"
  python -m leaderboards compare records:before records:after
  python -m leaderboards submit records
"""

SETTINGS = {"max_content_width": 110}


def default_store() -> str:
    """The store that is read unless another one is named."""
    return os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///results/mlflow.db")


@contextmanager
def in_one_line() -> Iterator[None]:
    """What the user has to mend is a line and exit code 2."""
    from leaderboards.errors import BoardError

    try:
        yield
    except BoardError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


@click.group(invoke_without_command=True, epilog=EPILOG, context_settings=SETTINGS)
@click.option(
    "--tracking-uri",
    default=lambda: [default_store()],
    multiple=True,
    help="MLflow store of the runs, or records:DIR, may be repeated; also MLFLOW_TRACKING_URI  "
    "[default: sqlite:///results/mlflow.db]",
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
@click.option("--figures/--no-figures", default=True, help="figures beside the tables  [default: --figures]")
@click.option(
    "--guide", metavar="ADDRESS", help="what explains such boards, such as a copy of docs/reading-a-board.md: linked"
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(["markdown", "csv", "parquet", "json", "latex"]),
    multiple=True,
    help="what is written, may be repeated: pages; tables of rows, runs and series; a LaTeX table a board"
    "  [default: markdown]",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="one HTML page of all boards, which needs no network; with it, other formats are written where they are named",
)
@click.pass_context
@collector_paused()
def main(
    context: click.Context,
    tracking_uri: tuple[str, ...],
    experiment: str | None,
    output: Path,
    sort: str,
    reverse: bool,
    across: tuple[str, ...],
    contrast: str | None,
    formats: tuple[str, ...],
    html: Path | None,
    figures: bool,
    guide: str | None,
) -> None:
    """Build one leaderboard for each (stream, data, protocol) of an MLflow store: markdown, or what --format names."""
    if context.invoked_subcommand is not None:
        for option in main.params:
            if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
                raise click.UsageError(
                    f"{option.opts[0]} is for boards here: options of a command stand behind its name"
                )
        return
    with in_one_line():
        from leaderboards.numbers.curves import METRICS
        from leaderboards.numbers.reported import reported
        from leaderboards.publish import TRENDS, publish_markdown, publish_page

        chosen = dict.fromkeys(formats or (() if html else ("markdown",)))
        if contrast is not None and "markdown" not in chosen:
            raise click.UsageError("--contrast is a further page of markdown: add --format markdown")
        found = reported(
            tracking_uri,
            experiment=experiment,
            sort=sort,
            reverse=reverse,
            across=across,
            metrics=METRICS if figures or html or set(chosen) != {"markdown"} else TRENDS,
            layers=figures and "markdown" in chosen,
        )
        if html is not None:
            publish_page(found, html)
            click.echo(f"Page: {html}")
        if "markdown" in chosen:
            publish_markdown(found, output, contrast=contrast, guide=guide, figures=figures)
            click.echo(f"Leaderboards: {output / 'README.md'}")
        others = [one for one in chosen if one != "markdown"]
        if others:
            # Only those who ask for tables need what writes them.
            from leaderboards.render.formats import publish_formats

            names = publish_formats(found, output, others)
            click.echo(f"Tables: {output} ({', '.join(names) if len(names) < 9 else f'{len(names)} files'})")


@main.command("export", context_settings=SETTINGS)
@click.option(
    "--tracking-uri",
    default=default_store,
    help="MLflow store of the runs, or records:DIR; also MLFLOW_TRACKING_URI  [default: sqlite:///results/mlflow.db]",
)
@click.option("--experiment", help="only this MLflow experiment  [default: all]")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="folder of the records")
@click.option(
    "--last-only",
    multiple=True,
    metavar="PATTERN",
    help="metrics whose last values are written without their series, such as 'curve/*'; may be repeated",
)
def export_records(tracking_uri: str, experiment: str | None, output: Path, last_only: tuple[str, ...]) -> None:
    """Write a record of each run that boards count, a JSON file a run, from which the same boards can be made."""
    with in_one_line():
        from leaderboards.export import export

        done = export(tracking_uri, output, experiment=experiment, last_only=last_only)
    click.echo(f"Records: {output} ({len(done.written)} written, {len(done.unchanged)} unchanged)")


@main.command("compare", context_settings=SETTINGS)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--tracking-uri",
    default=lambda: [default_store()],
    multiple=True,
    help="MLflow store of the runs, or records:DIR, may be repeated; also MLFLOW_TRACKING_URI  "
    "[default: sqlite:///results/mlflow.db]",
)
@click.option("--experiment", help="only this MLflow experiment  [default: all]")
def compare_two(first: str, second: str, tracking_uri: tuple[str, ...], experiment: str | None) -> None:
    """What changed from A to B, seed by seed: two strategies as boards name them, two stores, or two commits."""
    with in_one_line():
        from leaderboards.numbers.compare import compare
        from leaderboards.render.terminal import changes_text

        changes = compare(first, second, tracking_uri, experiment=experiment)
    click.echo(changes_text(changes))


@main.command("submit", context_settings=SETTINGS)
@click.argument("folder", metavar="RECORDS_DIR", type=click.Path(path_type=Path))
@click.option(
    "--published",
    type=click.Path(path_type=Path),
    default="leaderboards/published",
    show_default=True,
    help="folder of the published pages and their records",
)
@click.option("--output", type=click.Path(path_type=Path), help="folder of the pages  [default: the published one]")
def submit_records(folder: Path, published: Path, output: Path | None) -> None:
    """Check records and, if all are sound, put them among the published ones and render the boards.

    A line says of each defect what it is; nothing is written then, and the exit code is 1.
    """
    with in_one_line():
        from leaderboards.submission import submit

        done = submit(folder, published, output)
    for line in done.defects:
        click.echo(line, err=True)
    if done.defects:
        click.echo(f"Error: {len(done.defects)} defects, nothing has been written", err=True)
        sys.exit(1)
    click.echo(f"Records: {published / 'records'} ({len(done.records)} new)")
    click.echo(f"Leaderboards: {output or published} ({len(done.pages)} files); commit both")


if __name__ == "__main__":
    end_at_once(main)
