"""Grids: options with several values become one configuration for each combination."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.config import PROFILES, SINGLE, RunConfig, fingerprint, resolved
from benchmark.errors import UsageError


def expanded(given: Mapping[str, Any], *, profile: str | None, data_root: Path) -> list[tuple[str, RunConfig]]:
    """All runs of a grid, each with the name of its profile.

    Args:
        given: option -> value or list of values.
        profile: name of a profile; None takes ``demo`` for stand-in images and ``paper`` for real ones.
        data_root: where images are looked for, to tell the two apart.

    Returns:
        Pairs of profile and configuration in the order given, the last option varying fastest. Combinations
        that differ only in options their strategy does not use run once.

    Raises:
        UsageError: any combination is invalid.
    """
    from benchmark.streams.build import source_of

    if profile is not None and (not isinstance(profile, str) or profile not in PROFILES):
        raise UsageError(f"unknown profile {profile!r}: known are {', '.join(PROFILES)}")
    several = {
        name: value if isinstance(value, list | tuple) and name not in SINGLE else [value]
        for name, value in given.items()
    }
    for name, values in several.items():
        if not values:
            raise UsageError(f"{name} is an empty list: give it at least one value")
    runs: dict[str, tuple[str, RunConfig]] = {}
    for combination in itertools.product(*several.values()):
        options = dict(zip(several, combination, strict=True))
        # Any profile does to find out whether names and values are right.
        checked = resolved(options, profile=profile or "demo")
        chosen = profile or ("demo" if source_of(checked.stream, checked.data, data_root) == "synthetic" else "paper")
        config = resolved(options, profile=chosen)
        identity = {"protocol": config.protocol(), "variant": config.variant(), "seed": config.seed}
        runs.setdefault(fingerprint(identity), (chosen, config))
    return list(runs.values())
