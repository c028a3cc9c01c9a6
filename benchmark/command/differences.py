"""What several runs have in common and where they differ, by the flags of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.command.options import flag_of
from benchmark.config.fields import role_of
from benchmark.config.run_config import ALL, RunConfig

MANY = 6
"""Values of one option from which only the first and the last are written out."""


def read_options(config: RunConfig) -> dict[str, str]:
    """Flag -> value of each option that the run reads, in the order of ``--help``."""
    values: dict[str, Any] = config.model_dump(mode="json") | config.protocol()
    read = {*config.protocol(), *config.variant(), *config.options()}
    flags: dict[str, str] = {}
    for name, field in RunConfig.model_fields.items():
        if name == "settings":
            flags |= {f"{flag_of(name)} {setting}": _shown(value) for setting, value in config.settings.items()}
        elif name in read or role_of(field) in ("seed", "execution"):
            no = name in ("shots", "test_shots") and values[name] is None
            flags[flag_of(name)] = ALL if no else _shown(values[name])
    return flags


def compare(options: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], list[str]]:
    """What all runs that read an option have in common, flag -> value, and the flags whose values differ."""
    values: dict[str, set[str]] = {}
    for own in options:
        for flag, value in own.items():
            values.setdefault(flag, set()).add(value)
    return (
        {flag: next(iter(found)) for flag, found in values.items() if len(found) == 1},
        [flag for flag, found in values.items() if len(found) > 1],
    )


def name_group(configs: Sequence[RunConfig]) -> str:
    """What several runs are called together: how many, on which streams, and what varies among them."""
    options = [read_options(config) for config in configs]
    _, varying = compare(options)
    streams = ", ".join(dict.fromkeys(config.stream for config in configs))
    parts = []
    for flag in (flag for flag in varying if flag != flag_of("stream")):
        values = list(dict.fromkeys(own[flag] for own in options if flag in own))
        shown = values if len(values) < MANY else [values[0], "...", values[-1]]
        parts.append(f"{flag.removeprefix('--')} {', '.join(shown)}")
    return f"{len(configs)} runs on {streams}: {'; '.join(parts)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_shown(one)}" for name, one in value.items())
    return ",".join(map(_shown, value)) if isinstance(value, list) else str(value)
