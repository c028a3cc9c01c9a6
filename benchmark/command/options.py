"""The command-line options that RunConfig's fields become, and help grouped by their headings."""

from __future__ import annotations

import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from benchmark.config.fields import by_group, single_fields
from benchmark.config.run_config import NAMED, RunConfig
from benchmark.errors import LONGEST_VALUE, UsageError, in_one_line, plain, shortened
from strategies.registry import UnknownName

F = TypeVar("F", bound=Callable[..., Any])

_LONG_WORD = re.compile(rf"\S{{{LONGEST_VALUE + 1},}}")


class GroupedCommand(click.Command):
    """A command whose options may carry a heading, under which ``--help`` lists them.

    An option that has one value is given once: click alone would take the last and say nothing of the others.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each heading, in order of appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "heading", "Run"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does, but for wrong use, which gets one line and no usage."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            message = in_one_line(error.format_message())
            raise click.UsageError(_LONG_WORD.sub(lambda word: plain(word[0]), message)) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, but for options that are given more often than they have values."""
        given = list(args)
        rest = super().parse_args(ctx, args)
        _, _, order = self.make_parser(ctx).parse_args(given)
        for option, times in Counter(order).items():
            if times > 1 and not option.multiple:
                raise click.UsageError(
                    f"{option.opts[0]} is given more than once: all runs of a command share its value"
                )
        return rest


class HeadedOption(click.Option):
    """A click option with a heading."""

    def __init__(self, *args: Any, heading: str = "Run", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.heading = heading


def config_options(command: F) -> F:
    """Decorator that adds an option for every field of RunConfig; those not given are None or empty."""
    for heading, fields in reversed(by_group(RunConfig).items()):
        for name, field in reversed(fields.items()):
            command = _option(heading, name, field)(command)
            if name == "batch_size":
                command = click.option(
                    "--online",
                    cls=HeadedOption,
                    heading=heading,
                    is_flag=True,
                    default=None,
                    help="one pass over each experience in batches of 10: --epochs 1 --batch-size 10",
                )(command)
            if name == "density":
                command = click.option(
                    "--tau",
                    cls=HeadedOption,
                    heading=heading,
                    type=float,
                    multiple=True,
                    metavar="X",
                    help="final density as 0.8 ** tau, as the APP paper writes it; in place of --density",
                )(command)
    return command


FLAGS = {"settings": "--set", "scenario": "--protocol"}
"""Options that are not called what their field is called."""


def flag_of(field: str) -> str:
    """The flag of a field: ``--batch-size`` of ``batch_size``."""
    return FLAGS.get(field, f"--{field.replace('_', '-')}")


SINGLE = single_fields(RunConfig)

AS_TEXT = frozenset({"megabatches", "shots", "test_shots"})
"""Numbers that may also be a word."""


def _option(heading: str, name: str, field: FieldInfo) -> Callable[[F], F]:
    flag = flag_of(name)
    kind = _plain_type(field.annotation)
    shown = f"{field.description}{_default(field)}"
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", cls=HeadedOption, heading=heading, default=None, help=shown)
    words = {int: "N", float: "X", dict: "NAME=VALUE"}
    return click.option(
        flag,
        name,
        cls=HeadedOption,
        heading=heading,
        type=kind if kind in (int, float) and name not in AS_TEXT else str,
        multiple=kind is dict or name not in SINGLE,
        metavar=words.get(kind, "NAME" if name not in SINGLE else None),
        help=shown,
    )


def _plain_type(annotation: Any) -> Any:
    """Int for ``int | None``, tuple for ``tuple[float, ...]``, else the annotation."""
    if isinstance(annotation, types.UnionType):
        return next(part for part in typing.get_args(annotation) if part is not type(None))
    return typing.get_origin(annotation) or annotation


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return ""
    value = field.default
    if isinstance(value, bool):
        return f"  [default: {'on' if value else 'off'}]"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    told = value is None or value == {} or "[default: " in str(field.description)
    return "" if told else f"  [default: {value}]"


def collect_given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given on the command line; single values instead of tuples of one.

    Raises:
        UsageError: an option that takes NAME=VALUE was given something else, or an entry does not exist.
    """
    found = {name: value for name, value in options.items() if value is not None and value != ()}
    pairs = {name: _mapping(name, found.pop(name)) for name in ("settings", "layer_density") if name in found}
    values = {
        name: (value[0] if len(value) == 1 else list(value)) if isinstance(value, tuple) else value
        for name, value in found.items()
    }
    # Names are known at once; libraries take seconds to import.
    for name, registry in NAMED.items():
        for value in found.get(name, ()):
            try:
                registry.check(value)
            except UnknownName as error:
                raise UsageError(str(error)) from error
    if "milestones" in values:
        values["milestones"] = str(values["milestones"]).split(",")
    return values | pairs


def check_needed(options: Mapping[str, Any]) -> None:
    """Make sure that a run is named.

    Raises:
        UsageError: the stream or the strategy is missing.
    """
    for needed in ("stream", "strategy"):
        if needed not in options:
            raise UsageError(f"--{needed} is missing: --list shows what there is")


def _mapping(option: str, pairs: tuple[str, ...]) -> dict[str, Any]:
    """``("every=50", "every=100")`` as ``{"every": ["50", "100"]}``; a name that is given once has one value."""
    collected: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals or not value:
            raise UsageError(f"{flag_of(option)} takes NAME=VALUE, not {shortened(pair)}")
        collected.setdefault(name, []).append(value)
    repeated = next((name for name, values in collected.items() if len(values) > 1), None)
    if repeated is not None and option in SINGLE:
        raise UsageError(f"{flag_of(option)} {plain(repeated)} is given more than once")
    return {name: values[0] if len(values) == 1 else values for name, values in collected.items()}
