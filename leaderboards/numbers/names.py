"""Names of rows and pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from leaderboards.text import slug

ACROSS = "across-streams.md"
"""File name of the page across streams."""


def variant_name(
    variant: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    density: float | None = None,
) -> str:
    """A row's name: the strategy, then the options in which it differs from ``defaults``, its own ones.

    ``density`` takes the place of the option ``tau`` of earlier records, which says the same.
    """
    words = []
    usual = defaults or {}
    options = {n: v for n, v in variant.items() if n != "strategy" and not n.endswith("_version") and usual.get(n) != v}
    if "tau" in options and density is not None:
        options["density"] = density
        del options["tau"]
    if options.get("known_length") is False:
        options["unknown length"] = True
        del options["known_length"]
    if "replay" in options:
        options["replay"] = _memory(options["replay"], options.pop("buffer_size", None))
    options |= extra or {}
    for name in sorted(options, key=_reading_order):
        value = options[name]
        if isinstance(value, bool):
            words.append(name if value else f"not {name}")
        elif isinstance(value, str) and name not in (extra or {}):
            words.append(value)
        elif isinstance(value, Mapping):
            words += [f"{key} {_number(number)}" for key, number in value.items()]
        else:
            words.append(f"{name} {_number(value) if isinstance(value, int | float) else value}")
    return f"{variant['strategy']}" + (f" ({', '.join(words)})" if words else "")


def row_name(runs: pd.DataFrame, extra: Mapping[str, Any] | None = None) -> str:
    """The name of the variant that all of ``runs`` have."""
    last = runs.iloc[-1]
    return variant_name(last.variant, extra, last.variant_defaults, None if pd.isna(last.density) else last.density)


def page_name(label: str, data: str, data_fingerprint: str, protocol: Mapping[str, Any]) -> str:
    """File name of a board's page: readable, and different for different boards."""
    identity = json.dumps([data, data_fingerprint, dict(protocol)], sort_keys=True)
    megabatches, epochs = f"b{protocol.get('megabatches')}", f"e{protocol.get('epochs')}"
    words = [label, protocol.get("scenario"), data, megabatches, protocol.get("replay"), protocol.get("model"), epochs]
    return f"{slug(' '.join(str(word) for word in words if word))}-{_digest(identity)}.md"


def contrast_name(field: str) -> str:
    """File name of the page of a contrast."""
    name = slug(field)
    return f"contrast-{name if name == field else f'{name}-{_digest(field)}'}.md"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]


def _memory(replay: Any, size: Any) -> str:
    """What a strategy replays, where that is an option of its own."""
    if size is not None:
        return f"{replay} {_number(size)}"
    return "no replay" if replay == "none" else f"{replay} replay"


def _number(value: Any) -> str:
    try:
        return f"{value:g}"
    except (TypeError, ValueError, OverflowError):
        return str(value)


def _reading_order(option: str) -> tuple[int, str]:
    first = ("score", "schedule", "tau", "density", "scope", "structure", "nested", "control")
    return first.index(option) if option in first else len(first), option
