"""Options from several places as one set of options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strategies.registry import n_and_m


def merge(options: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Options, such as those of a configuration file, with others, such as those of the command line, which win.

    An option also takes away what is said about the same thing in other words, such as ``tau`` where ``density`` is
    given. Settings and layer densities are joined name by name.
    """
    kept = dict(options)
    beside: dict[str, tuple[str, ...]] = {
        "tau": ("density",),
        "density": ("tau",),
        "megabatches": ("known_length",),
    }
    if any(n_and_m(str(one.get("structure", ""))) for one in (options, over)):
        beside["structure"] = ("tau", "density")
    if "scope" in over and "layer_density" not in over:
        beside["scope"] = ("layer_density",)
    for option in over:
        for name in beside.get(option, ()):
            kept.pop(name, None)
    joined: dict[str, Any] = {
        name: {**options[name], **over[name]}
        for name in ("settings", "layer_density")
        if name in over and isinstance(options.get(name), dict) and isinstance(over[name], dict)
    }
    return {**kept, **over, **joined}
