"""What commands that run something have in common: options, and how they end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmark.command.options import HeadedOption
from benchmark.errors import UsageError
from strategies.registry import RegistryError

F = TypeVar("F", bound=Callable[..., Any])

DATA = (
    click.option(
        "--data-root",
        cls=HeadedOption,
        type=click.Path(path_type=Path),
        envvar="ANYTIME_BENCH_DATA",
        default="data",
        show_default=True,
        help="where images lie or are downloaded to; also ANYTIME_BENCH_DATA",
    ),
    click.option(
        "--cache",
        cls=HeadedOption,
        type=click.Path(path_type=Path),
        envvar="ANYTIME_BENCH_CACHE",
        default=lambda: Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "anytime-bench",
        help="decoded images; also ANYTIME_BENCH_CACHE  [default: ~/.cache/anytime-bench]",
    ),
)
"""Where images are."""

PLACE = (
    click.option(
        "--profile",
        cls=HeadedOption,
        help="demo or paper  [default: the stream's own, else demo on stand-in images and paper on real ones]",
    ),
    *DATA,
    click.option(
        "--output",
        cls=HeadedOption,
        type=click.Path(path_type=Path),
        default="results",
        show_default=True,
        help="folder of the MLflow store and the leaderboards",
    ),
    click.option("--tracking-uri", cls=HeadedOption, help="MLflow store  [default: sqlite in the output folder]"),
    click.option(
        "--experiment",
        cls=HeadedOption,
        default="anytime-bench",
        show_default=True,
        help="MLflow experiment of the runs",
    ),
)
"""Where images, store and boards are; the parameters of a session."""

EXTRAS = (
    click.option(
        "--slim",
        cls=HeadedOption,
        is_flag=True,
        help="with --structure filters: also write the network without its removed channels",
    ),
    click.option(
        "--profile-trace",
        cls=HeadedOption,
        is_flag=True,
        help="also write a trace of some training steps, which a browser's trace viewer opens",
    ),
    click.option(
        "--plot",
        cls=HeadedOption,
        is_flag=True,
        help="also draw the figures of the boards, light and dark; those of a campaign go into the store, too",
    ),
)
"""Files that are written beside the usual ones."""

POLICY = (
    click.option(
        "--rerun",
        cls=HeadedOption,
        type=click.Choice(["never", "failed", "always"]),
        default="failed",
        show_default=True,
        help="which of the runs that have ended are trained anew; interrupted ones go on where they were",
    ),
    click.option(
        "--code",
        cls=HeadedOption,
        type=click.Choice(["same", "any"]),
        default="same",
        show_default=True,
        help="whether a finished run counts as done with any code and libraries, or only with these",
    ),
    click.option(
        "--resume-anyway", cls=HeadedOption, is_flag=True, help="go on with interrupted runs of other code or libraries"
    ),
    click.option(
        "--checkpoint-every",
        cls=HeadedOption,
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        metavar="MINUTES",
        help="how often a run is saved in the middle of a megabatch, at the end of an epoch",
    ),
)
"""What is done about runs that were begun before; :func:`take_policy` reads them."""


def with_options(*groups: Sequence[Callable[[Any], Any]]) -> Callable[[F], F]:
    """Decorator that adds groups of options, in the order of ``--help``."""

    def decorate(command: F) -> F:
        for option in reversed([one for group in groups for one in group]):
            command = option(command)
        return command

    return decorate


def take_place(options: dict[str, Any]) -> dict[str, Any]:
    """The options of :data:`PLACE` by the parameters of a session, taken out of ``options``."""
    return {name: options.pop(name) for name in ("data_root", "cache", "output", "tracking_uri", "experiment")}


def take_policy(options: dict[str, Any]) -> dict[str, Any]:
    """The options of :data:`POLICY` by the parameters of a policy, taken out of ``options``."""
    return {
        "rerun": options.pop("rerun"),
        "code": options.pop("code"),
        "anyway": options.pop("resume_anyway"),
        "checkpoint_every": 60 * options.pop("checkpoint_every"),
    }


@contextmanager
def one_line_ends() -> Iterator[None]:
    """A context that wrong use leaves with one line and exit code 2, and an interruption with 130 or 143."""
    try:
        yield
    except (UsageError, RegistryError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt as error:
        click.echo("Interrupted: what is done is kept, and the same command goes on from there.", err=True)
        sys.exit(128 + getattr(error, "signal", signal.SIGINT))
