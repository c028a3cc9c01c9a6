"""Grids: options with several values become one configuration for each combination."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.config.fields import single_fields
from benchmark.config.profiles import PROFILES, resolve
from benchmark.config.run_config import RunConfig
from benchmark.config.source import source_of
from benchmark.errors import UsageError, plain, shortened
from benchmark.registry import STREAMS
from strategies.registry import STRATEGIES

SETTING = "settings"
"""First part of the key under which a strategy's hyperparameter is one dimension of a grid."""

MOST_RUNS = 10_000
"""Combinations of the values of one command; that many take some ten seconds to be looked at alone."""

Dimension = str | tuple[str, str]
"""What a grid varies: an option, or a setting."""


@dataclass(frozen=True)
class Planned:
    """One run of a grid.

    Attributes:
        config: of the run.
        profile: name of the profile that completed it.
        given: names of the options that were given; all others are defaults.
    """

    config: RunConfig
    profile: str
    given: frozenset[str]


def expand(
    given: Mapping[str, Any], *, profile: str | None, data_root: Path, beside: Sequence[str] = ()
) -> list[Planned]:
    """All runs of a grid.

    Args:
        given: option -> value or list of values.
        profile: name of a profile; None takes the stream's, else ``demo`` for stand-in images and ``paper`` for real
            ones.
        data_root: where images are looked for, to tell the two apart.
        beside: strategies of other grids of the same command, whose settings may be among those given.

    Returns:
        The runs in the order given, the last option varying fastest. Combinations of one identity run once: they
        differ only in options that their strategy does not use.

    Raises:
        UsageError: any combination is invalid, or there are more than :data:`MOST_RUNS`.
    """
    if profile is not None and (not isinstance(profile, str) or profile not in PROFILES):
        raise UsageError(f"unknown profile {shortened(profile)}: known are {', '.join(PROFILES)}")
    several = _dimensions(given)
    _check_settings(given.get("settings") or {}, [*several.get("strategy", []), *beside])
    for dimension, values in several.items():
        if not values:
            name = dimension if isinstance(dimension, str) else dimension[1]
            raise UsageError(f"{plain(name)} is an empty list: give it at least one value")
    check_number([given])
    runs: dict[str, Planned] = {}
    for combination in itertools.product(*several.values()):
        options = _with_settings(dict(zip(several, combination, strict=True)))
        # Any profile does to find out whether names and values are right.
        first = profile or "demo"
        config = resolve(options, profile=first)
        chosen = profile or _profile_of(config, data_root)
        if chosen != first:
            config = resolve(options, profile=chosen)
        runs.setdefault(config.identity().key, Planned(config, chosen, frozenset(given)))
    return list(runs.values())


def check_number(grids: Iterable[Mapping[str, Any]]) -> None:
    """Make sure that the grids of a command, option -> value or list of values, are no more runs than one can have.

    Raises:
        UsageError: there are more than :data:`MOST_RUNS` combinations.
    """
    number = sum(math.prod(map(len, _dimensions(given).values())) for given in grids)
    if number > MOST_RUNS:
        raise UsageError(
            f"the values given make {_count(number)} runs, and a command takes at most {MOST_RUNS:,}: give fewer "
            "values, or several commands a part each"
        )


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**15 else f"more than 10 ** {int(math.log10(number))}"


def _dimensions(given: Mapping[str, Any]) -> dict[Dimension, Sequence[Any]]:
    """What the grid varies -> its values; a single one for most."""
    single = single_fields(RunConfig)
    found: dict[Dimension, Sequence[Any]] = {
        name: value if isinstance(value, list | tuple) and name not in single else [value]
        for name, value in given.items()
        if name != "settings"
    }
    settings = given.get("settings")
    if not isinstance(settings, Mapping):
        return found
    return found | {
        (SETTING, name): value if isinstance(value, list | tuple) else [value] for name, value in settings.items()
    }


def _profile_of(config: RunConfig, data_root: Path) -> str:
    """The profile of a run for which none was asked."""
    own = STREAMS.load(config.stream).traits.profile
    return own or ("demo" if source_of(config.stream, config.data, data_root) == "synthetic" else "paper")


def _check_settings(settings: Any, strategies: Sequence[Any]) -> None:
    """Make sure that each setting is one that some strategy of the grid has.

    Raises:
        UsageError: none of the strategies has it, or the settings are no mapping.
    """
    if not isinstance(settings, Mapping):
        raise UsageError("settings must hold one 'name: value' a line")
    known = {name: list(STRATEGIES.load(name).settings) for name in strategies if name in STRATEGIES.names()}
    for name in settings:
        if known and not any(name in own for own in known.values()):
            has = "; ".join(f"{strategy} has {', '.join(own) or 'none'}" for strategy, own in known.items())
            raise UsageError(f"no strategy of this run has a setting {shortened(name)}: {has}")


def _with_settings(options: dict[Any, Any]) -> dict[str, Any]:
    """The options of one run, with the settings that its strategy has as one mapping."""
    own = STRATEGIES.load(options["strategy"]).settings if options.get("strategy") in STRATEGIES.names() else {}
    settings = {key[1]: options.pop(key) for key in list(options) if isinstance(key, tuple)}
    return {**options, "settings": {name: value for name, value in settings.items() if name in own}}
