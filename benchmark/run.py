"""The command ``python -m benchmark.run``: parse, call, print."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import click

from benchmark.command.head_start import stand_ins_made_aside
from benchmark.command.options import GroupedCommand, HeadedOption, collect_given, config_options
from benchmark.engines.imports import libraries_imported
from benchmark.errors import UsageError
from benchmark.running.interruption import Interruption
from strategies.registry import RegistryError

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
@click.option(
    "--profile",
    cls=HeadedOption,
    help="demo or paper  [default: the stream's own, else demo on stand-in images and paper on real ones]",
)
@click.option("--config", "config_file", cls=HeadedOption, type=click.Path(path_type=Path), help="YAML file of options")
@click.option(
    "--data-root",
    cls=HeadedOption,
    type=click.Path(path_type=Path),
    envvar="ANYTIME_BENCH_DATA",
    default="data",
    show_default=True,
    help="where images lie or are downloaded to; also ANYTIME_BENCH_DATA",
)
@click.option(
    "--cache",
    cls=HeadedOption,
    type=click.Path(path_type=Path),
    envvar="ANYTIME_BENCH_CACHE",
    default=lambda: Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "anytime-bench",
    help="decoded images; also ANYTIME_BENCH_CACHE  [default: ~/.cache/anytime-bench]",
)
@click.option(
    "--output",
    cls=HeadedOption,
    type=click.Path(path_type=Path),
    default="results",
    show_default=True,
    help="folder of the MLflow store and the leaderboards",
)
@click.option("--tracking-uri", cls=HeadedOption, help="MLflow store  [default: sqlite in the output folder]")
@click.option(
    "--experiment", cls=HeadedOption, default="anytime-bench", show_default=True, help="MLflow experiment of the runs"
)
@click.option(
    "--slim",
    cls=HeadedOption,
    is_flag=True,
    help="with --structure filters: also write the network without its removed channels",
)
@click.option(
    "--jobs",
    cls=HeadedOption,
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="COUNT",
    help="how many runs at once, in processes that share the threads or the GPU",
)
@click.option(
    "--profile-trace",
    cls=HeadedOption,
    is_flag=True,
    help="also write a trace of some training steps, which a browser's trace viewer opens",
)
@click.option(
    "--rerun",
    cls=HeadedOption,
    type=click.Choice(["never", "failed", "always"]),
    default="failed",
    show_default=True,
    help="which of the runs that have ended are trained anew; interrupted ones go on where they were",
)
@click.option(
    "--code",
    cls=HeadedOption,
    type=click.Choice(["same", "any"]),
    default="same",
    show_default=True,
    help="whether a finished run counts as done with any code and libraries, or only with these",
)
@click.option(
    "--resume-anyway", cls=HeadedOption, is_flag=True, help="go on with interrupted runs of other code or libraries"
)
@click.option(
    "--checkpoint-every",
    cls=HeadedOption,
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="MINUTES",
    help="how often a run is saved in the middle of a megabatch, at the end of an epoch",
)
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
    data_root: Path,
    cache: Path,
    output: Path,
    tracking_uri: str | None,
    experiment: str,
    slim: bool,
    jobs: int,
    profile_trace: bool,
    rerun: Literal["never", "failed", "always"],
    code: Literal["same", "any"],
    resume_anyway: bool,
    checkpoint_every: float,
    dry_run: bool,
    list_all: bool,
    **options: Any,
) -> None:
    """Train strategies over a stream of megabatches, track them in MLflow and refresh the leaderboards."""
    interruption = Interruption()
    try:
        if list_all:
            from benchmark.command.listing import listing

            click.echo(listing())
            return
        given = collect_given(options)
        with interruption.handled(signal.SIGINT, signal.SIGTERM):
            imported = "avalanche" in sys.modules
            with nullcontext() if imported else stand_ins_made_aside(given, data_root, cache):
                with libraries_imported():
                    from benchmark.command.session import Session
                    from benchmark.running.course import Policy
                session = Session(data_root, cache, output, tracking_uri, experiment)
                runs = session.plan(given, config_file, profile, slim=slim)
            if dry_run:
                click.echo(session.preview(runs))
                return
            policy = Policy(rerun, code, resume_anyway, 60 * checkpoint_every)
            failed = session.execute(
                runs, jobs=jobs, slim=slim, profile_trace=profile_trace, policy=policy, interruption=interruption
            )
    except (UsageError, RegistryError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt as error:
        click.echo("Interrupted: what is done is kept, and the same command goes on from there.", err=True)
        sys.exit(128 + getattr(error, "signal", signal.SIGINT))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
