"""Everything that is registered, one line each, without importing any of it."""

from __future__ import annotations

import shutil
from typing import Any

from benchmark.config.run_config import ALMA
from benchmark.registry import METRICS, MODELS, PROTOCOLS, STREAMS
from strategies.registry import DISTRIBUTIONS, REPLAYS, SCHEDULES, SCORES, STRATEGIES, STRUCTURES, Registry

HEADINGS: dict[str, Registry[Any]] = {
    "Streams (--stream)": STREAMS,
    "Protocols (--protocol)": PROTOCOLS,
    "Strategies (--strategy)": STRATEGIES,
    "Scores (--score)": SCORES,
    "Schedules (--schedule)": SCHEDULES,
    "Scopes (--scope)": DISTRIBUTIONS,
    "Structures (--structure)": STRUCTURES,
    "Replay (--replay)": REPLAYS,
    "Models (--model)": MODELS,
    "Metrics": METRICS,
}


def listing() -> str:
    """Names and descriptions by kind, cut to the terminal's width where there is one."""
    width = max(shutil.get_terminal_size((160, 24)).columns, 60)
    lines = []
    for heading, registry in HEADINGS.items():
        for part, names in _parts(registry).items():
            lines.append(f"{heading}{part}:")
            for name in names:
                line = f"  {name:<33}{registry.descriptions()[name]}"
                lines.append(line if len(line) <= width else line[: width - 3].rstrip() + "...")
            lines.append("")
    return "\n".join(lines).rstrip()


def _parts(registry: Registry[Any]) -> dict[str, list[str]]:
    """What follows the heading -> the names under it; streams stand under the protocol that they come with."""
    if registry is not STREAMS:
        return {"": registry.names()}
    parts: dict[str, list[str]] = {}
    for name in registry.names():
        parts.setdefault(registry.told(name, "protocol", ALMA), []).append(name)
    return {f", {protocol}": parts[protocol] for protocol in sorted(parts, key=lambda one: (one != ALMA, one))}
