"""The command ``python -m benchmark.sweep``: a campaign of many runs, on this machine or on a cluster."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, Literal

import click

from benchmark.command.common import EXTRAS, PLACE, POLICY, one_line_ends, take_place, take_policy, with_options
from benchmark.command.options import GroupedCommand, HeadedOption, collect_given, config_options
from benchmark.engines.imports import libraries_imported
from benchmark.errors import UsageError
from benchmark.running.interruption import Interruption
from leaderboards.ending import end_at_once

EXAMPLES = """\b
Examples:
  python -m benchmark.sweep campaigns/fashion_mnist.yaml --dry-run
  python -m benchmark.sweep campaigns/fashion_mnist.yaml
  python -m benchmark.sweep campaigns/fashion_mnist.yaml --shard 3/20
  python -m benchmark.sweep campaigns/fashion_mnist.yaml --address 10.0.0.1:6379 --gpus 0.25
  python -m benchmark.sweep --name pilot --stream digits --strategy APP --strategy dense --seed 0 --seed 1
  python -m benchmark.status pilot

FILE is YAML: a name, options as benchmark.run has them, each with a value or a list of values, and perhaps
  include:       a list of blocks of options; each is a further grid, with these in place of those above
  exclude:       a list of blocks of options; runs that have all values of one are left out
  per_strategy:  a strategy a line, and under it options for it alone
The command line wins over the file. The same command again does what is missing.
Exit codes: 0 all runs finished or are under way elsewhere, 1 a run failed, 2 wrong use, 130 interrupted (SIGTERM: 143).
"""


@click.command(cls=GroupedCommand, context_settings={"max_content_width": 110}, epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_options
@click.option("--name", cls=HeadedOption, help="of the campaign  [default: the file's]")
@with_options(PLACE)
@click.option(
    "--engine",
    cls=HeadedOption,
    heading="Workers",
    type=click.Choice(["ray", "processes"]),
    default="ray",
    show_default=True,
    help="what carries the runs out: Ray, or processes of this machine alone, which need no extra package",
)
@click.option(
    "--jobs",
    cls=HeadedOption,
    heading="Workers",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="how many runs at once on this machine  [default: as many as its cores allow]",
)
@click.option(
    "--cpus",
    cls=HeadedOption,
    heading="Workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="cores and threads of each run",
)
@click.option(
    "--gpus",
    cls=HeadedOption,
    heading="Workers",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="X",
    help="GPUs of each run, such as 1 or 0.25; that part of a GPU's memory is a run's own",
)
@click.option(
    "--address", cls=HeadedOption, heading="Workers", help="of a Ray cluster to join  [default: this machine]"
)
@click.option(
    "--shard",
    cls=HeadedOption,
    heading="Workers",
    metavar="K/N",
    help="carry out the K-th of N parts only, such as 3/20",
)
@click.option(
    "--retries",
    cls=HeadedOption,
    heading="Workers",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="how often a run whose process or machine is lost goes on in another; one that fails does not",
)
@with_options(EXTRAS, POLICY)
@click.option(
    "--dry-run",
    cls=HeadedOption,
    is_flag=True,
    help="check and show the runs, what is done of them, and how long the rest would take; writes nothing but the "
    "image cache",
)
def main(
    file: Path | None,
    name: str | None,
    profile: str | None,
    engine: Literal["ray", "processes"],
    jobs: int | None,
    cpus: int,
    gpus: float,
    address: str | None,
    shard: str | None,
    retries: int,
    slim: bool,
    profile_trace: bool,
    plot: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Carry out a campaign, many runs under one name: all combinations of the options that FILE or the flags give."""
    interruption = Interruption()
    place, policy = take_place(options), take_policy(options)
    with one_line_ends(), interruption.handled(signal.SIGINT, signal.SIGTERM):
        given = collect_given(options)
        if address is not None and (jobs is not None or engine != "ray"):
            raise UsageError("--address joins a cluster, which decides how many runs it carries out: leave out --jobs")
        if gpus > 1 and gpus != int(gpus):
            raise UsageError(f"--gpus {gpus:g}: a run has a part of one GPU, or whole ones")
        if engine == "processes" and (gpus or cpus > 1):
            raise UsageError("--engine processes shares the machine evenly: leave out --cpus and --gpus, or take Ray")
        with interruption.insisting(), libraries_imported():
            from benchmark.command.session import Session
            from benchmark.config.campaign import read_campaign
            from benchmark.config.files import load_file
            from benchmark.engines.job import Engine
            from benchmark.engines.local import local
            from benchmark.engines.on_ray import OnRay, Share, available_cores, check_ray
            from benchmark.engines.part import Part
            from benchmark.running.course import Policy
        campaign = read_campaign(load_file(file) if file else [], given, name)
        session = Session(**place)
        runs = session.plan_campaign(campaign, given, profile, slim=slim)
        part = None if shard is None else Part.parse(shard)
        at_once = jobs or max(1, available_cores() // cpus)
        if dry_run:
            click.echo(session.preview(runs, Policy(**policy), at_once=at_once))
            return
        chosen: Engine
        if engine == "ray":
            check_ray()
            chosen = OnRay(Share(cpus, gpus, retries), interruption, address, jobs)
        else:
            chosen = local(at_once, interruption)
        failed = session.execute(
            runs,
            engine=chosen,
            campaign=campaign,
            part=part,
            slim=slim,
            profile_trace=profile_trace,
            plot=plot,
            policy=Policy(**policy),
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    end_at_once(main)
