"""Grids: options with several values become one configuration for each combination."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.config import PROFILES, SINGLE, RunConfig, fingerprint, resolved
from benchmark.errors import UsageError
from strategies.registry import STRATEGIES

SETTING = "settings"
"""First part of the key under which a strategy's hyperparameter is one dimension of a grid."""


def expanded(
    given: Mapping[str, Any], *, profile: str | None, data_root: Path, beside: Sequence[str] = ()
) -> list[tuple[str, RunConfig]]:
    """All runs of a grid, each with the name of its profile.

    Args:
        given: option -> value or list of values.
        profile: name of a profile; None takes ``demo`` for stand-in images and ``paper`` for real ones.
        data_root: where images are looked for, to tell the two apart.
        beside: strategies of other grids of the same command, whose settings may be among those given.

    Returns:
        Pairs of profile and configuration in the order given, the last option varying fastest. Combinations
        that differ only in options their strategy does not use run once.

    Raises:
        UsageError: any combination is invalid.
    """
    from benchmark.streams.build import source_of

    if profile is not None and (not isinstance(profile, str) or profile not in PROFILES):
        raise UsageError(f"unknown profile {profile!r}: known are {', '.join(PROFILES)}")
    several: dict[Any, Any] = {
        name: value if isinstance(value, list | tuple) and name not in SINGLE else [value]
        for name, value in given.items()
        if name != "settings"
    }
    settings = _settings(given.get("settings") or {}, [*several.get("strategy", []), *beside])
    several |= {(SETTING, name): values for name, values in settings.items()}
    for name, values in several.items():
        if not values:
            raise UsageError(f"{name} is an empty list: give it at least one value")
    runs: dict[str, tuple[str, RunConfig]] = {}
    for combination in itertools.product(*several.values()):
        options = _with_settings(dict(zip(several, combination, strict=True)))
        # Any profile does to find out whether names and values are right.
        checked = resolved(options, profile=profile or "demo")
        chosen = profile or ("demo" if source_of(checked.stream, checked.data, data_root) == "synthetic" else "paper")
        config = resolved(options, profile=chosen)
        identity = {"protocol": config.protocol(), "variant": config.variant(), "seed": config.seed}
        runs.setdefault(fingerprint(identity), (chosen, config))
    return list(runs.values())


def _settings(settings: Any, strategies: Sequence[Any]) -> dict[str, list[Any]]:
    """Setting -> values; each must be one that some strategy of the grid has.

    Raises:
        UsageError: none of the strategies has it, or the settings are no mapping.
    """
    if not isinstance(settings, Mapping):
        raise UsageError("settings must hold one 'name: value' a line")
    known = {name: list(STRATEGIES.load(name).settings) for name in strategies if name in STRATEGIES.names()}
    for name in settings:
        if known and not any(name in own for own in known.values()):
            has = "; ".join(f"{strategy} has {', '.join(own) or 'none'}" for strategy, own in known.items())
            raise UsageError(f"no strategy of this run has a setting {name!r}: {has}")
    return {name: list(value) if isinstance(value, list | tuple) else [value] for name, value in settings.items()}


def _with_settings(options: dict[Any, Any]) -> dict[str, Any]:
    """The options of one run, with the settings that its strategy has as one mapping."""
    own = STRATEGIES.load(options["strategy"]).settings if options.get("strategy") in STRATEGIES.names() else {}
    settings = {key[1]: options.pop(key) for key in list(options) if isinstance(key, tuple)}
    return {**options, "settings": {name: value for name, value in settings.items() if name in own}}
