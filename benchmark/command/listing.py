"""Everything that is registered, one line each, without importing any of it."""

from __future__ import annotations

import shutil
from typing import Any

from benchmark.registry import METRICS, MODELS, STREAMS
from strategies.registry import DISTRIBUTIONS, REPLAYS, SCHEDULES, SCORES, STRATEGIES, STRUCTURES, Registry

HEADINGS: dict[str, Registry[Any]] = {
    "Streams (--stream)": STREAMS,
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
        lines.append(f"{heading}:")
        for name, description in registry.descriptions().items():
            line = f"  {name:<33}{description}"
            lines.append(line if len(line) <= width else line[: width - 3].rstrip() + "...")
        lines.append("")
    return "\n".join(lines).rstrip()
