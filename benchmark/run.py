"""The command ``python -m benchmark.run``: parse, call, print."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from benchmark.command.common import EXTRAS, PLACE, POLICY, one_line_ends, take_place, take_policy, with_options
from benchmark.command.head_start import stand_ins_made_aside
from benchmark.command.options import GroupedCommand, HeadedOption, check_needed, collect_given, config_options
from benchmark.engines.imports import libraries_imported
from benchmark.running.interruption import Interruption
from leaderboards.ending import end_at_once

EXAMPLES = """\b
Examples:
  python -m benchmark.run --stream restricted_imagenet_fewshot --strategy APP
  python -m benchmark.run --stream digits --strategy APP --strategy dense --seed 0 --seed 1
  python -m benchmark.run --stream synthetic --strategy APP --density 0.2 --dry-run
  python -m benchmark.run --stream digits --strategy RigL --set every=50 --set every=100
  python -m benchmark.run --stream digits --strategy APP --structure filters --score l2 --slim
  python -m benchmark.run --stream digits --strategy APP --strategy dense --seed 0 --seed 1 --jobs 2
  python -m benchmark.run --list

Options marked NAME, N or X, --density and --set may be repeated: the runs are all combinations.
A value comes from the command line, else from --config, else from --profile, else from the stream.
Exit codes: 0 all runs finished or are under way elsewhere, 1 a run failed, 2 wrong use, 130 interrupted (SIGTERM: 143).
"""


@click.command(cls=GroupedCommand, context_settings={"max_content_width": 110}, epilog=EXAMPLES)
@config_options
@with_options(PLACE)
@click.option("--config", "config_file", cls=HeadedOption, type=click.Path(path_type=Path), help="YAML file of options")
@click.option(
    "--jobs",
    cls=HeadedOption,
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="COUNT",
    help="how many runs at once, in processes that share the threads or the GPU",
)
@with_options(EXTRAS, POLICY)
@click.option(
    "--dry-run",
    cls=HeadedOption,
    is_flag=True,
    help="check and show what would run, and how long it would take; writes nothing but the image cache",
)
@click.option("--list", "list_all", cls=HeadedOption, is_flag=True, help="list streams, strategies, models and scores")
def main(
    profile: str | None,
    config_file: Path | None,
    jobs: int,
    slim: bool,
    profile_trace: bool,
    plot: bool,
    dry_run: bool,
    list_all: bool,
    **options: Any,
) -> None:
    """Train strategies over a stream of megabatches, track them in MLflow and refresh the leaderboards."""
    if list_all:
        from benchmark.command.listing import listing

        with one_line_ends():
            click.echo(listing())
        return
    interruption = Interruption()
    place, policy = take_place(options), take_policy(options)
    with one_line_ends(), interruption.handled(signal.SIGINT, signal.SIGTERM):
        given = collect_given(options)
        if config_file is None:
            check_needed(given)
        imported = "avalanche" in sys.modules
        with nullcontext() if imported else stand_ins_made_aside(given, place["data_root"], place["cache"]):
            with interruption.insisting(), libraries_imported():
                from benchmark.command.session import Session
                from benchmark.engines.local import local
                from benchmark.running.course import Policy
            session = Session(**place)
            runs = session.plan(given, config_file, profile, slim=slim)
        if dry_run:
            click.echo(session.preview(runs, Policy(**policy)))
            return
        engine = local(jobs, interruption)
        failed = session.execute(
            runs, engine=engine, slim=slim, profile_trace=profile_trace, plot=plot, policy=Policy(**policy)
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    end_at_once(main)
