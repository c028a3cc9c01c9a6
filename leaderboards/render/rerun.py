"""The command that makes a run again, written from what the run has recorded."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from leaderboards.text import printable

OPTIONS = frozenset(
    {
        "strategy",
        "score",
        "schedule",
        "density",
        "tau",
        "scope",
        "layer_density",
        "structure",
        "nested",
        "score_fraction",
        "control",
        "known_length",
        "buffer_size",
        "replay",
    }
)
"""Fields of a variant that are options of the command; others are hyperparameters of the strategy's own."""

FLAGS = {"scenario": "--protocol"}
"""Fields whose option has another name."""

READ = ("profile", "compiled", "skipped_images", "max_pixels", "threads")
"""Tags of a run's provenance that its command depends on."""

ALL = "all"
"""How an option says what a record says with null: all images there are."""

OWN = "own"
"""Replay of strategies that bring their own memory, whatever is asked for."""


def rerun_command(protocol: Mapping[str, Any], variant: Mapping[str, Any], provenance: Mapping[str, str]) -> str:
    """A line for a POSIX shell, without the seed.

    Args:
        protocol, variant: of the run's record, versions included.
        provenance: its tags, those of :data:`READ` among them.

    Returns:
        The command but for ``--seed``, ``--data-root`` and ``--device``: all that decides what is computed. Whatever a
        record says is one word of the shell.
    """
    options = {name: value for name, value in protocol.items() if not name.endswith("_version")}
    if options.get("replay") == OWN:
        del options["replay"]
    words = ["python", "-m", "benchmark.run"]
    if "profile" in provenance:
        words += ["--profile", provenance["profile"]]
    for name, value in sorted(options.items(), key=lambda item: item[0] != "stream"):
        words += _words(name, value)
    for name, value in sorted(variant.items(), key=lambda item: (item[0] != "strategy", item[0] not in OPTIONS)):
        if not name.endswith("_version"):
            words += _words(name, value) if name in OPTIONS else ["--set", f"{name}={_text(value)}"]
    if provenance.get("compiled") == "yes":
        words.append("--compile")
    if provenance.get("skipped_images", "0") != "0":
        words.append("--skip-corrupt")
    if "max_pixels" in provenance:
        words += ["--max-pixels", provenance["max_pixels"]]
    threads = provenance.get("threads", "")
    before = f"OMP_NUM_THREADS={threads} " if threads.isascii() and threads.isdigit() else ""
    return before + " ".join(shlex.quote(printable(word)) for word in words)


def _words(name: str, value: Any) -> Iterator[str]:
    flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
    if isinstance(value, bool):
        yield flag if value else f"--no-{flag[2:]}"
    elif isinstance(value, Mapping):
        for key, number in value.items():
            yield from (flag, f"{key}={_text(number)}")
    else:
        yield from (flag, ALL if value is None else _text(value))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return str(value)
