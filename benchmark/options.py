"""The command-line options that RunConfig's fields become, and help grouped by their headings."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from benchmark.config import SINGLE, options_by_group

F = TypeVar("F", bound=Callable[..., Any])


class GroupedCommand(click.Command):
    """A command whose options may carry a heading, under which ``--help`` lists them."""

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


class HeadedOption(click.Option):
    """A click option with a heading."""

    def __init__(self, *args: Any, heading: str = "Run", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.heading = heading


def config_options(command: F) -> F:
    """Decorator that adds an option for every field of RunConfig; those not given are None or empty."""
    for heading, fields in reversed(options_by_group().items()):
        for name, field in reversed(fields.items()):
            command = _option(heading, name, field)(command)
            if name == "tau":
                command = click.option(
                    "--density",
                    cls=HeadedOption,
                    heading=heading,
                    type=float,
                    multiple=True,
                    help="final density itself, the kept fraction, in (0, 1]; in place of --tau",
                )(command)
    return command


def _option(heading: str, name: str, field: FieldInfo) -> Callable[[F], F]:
    flag = f"--{name.replace('_', '-')}"
    kind = _plain_type(field.annotation)
    shown = f"{field.description}{_default(field)}"
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", cls=HeadedOption, heading=heading, default=None, help=shown)
    return click.option(
        flag,
        cls=HeadedOption,
        heading=heading,
        type=kind if kind in (int, float) else str,
        multiple=name not in SINGLE,
        metavar={int: "N", float: "X"}.get(kind, "NAME" if name not in SINGLE else None),
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
    return "" if value is None else f"  [default: {value}]"


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given on the command line; single values instead of tuples of one."""
    found = {name: value for name, value in options.items() if value is not None and value != ()}
    values = {
        name: (value[0] if len(value) == 1 else list(value)) if isinstance(value, tuple) else value
        for name, value in found.items()
    }
    if "milestones" in values:
        values["milestones"] = str(values["milestones"]).split(",")
    return values
