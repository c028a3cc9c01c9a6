"""Which code a result comes from: a fingerprint of what decides it, and of nothing else."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from benchmark.config.run_config import NAMED, RunConfig
from benchmark.registry import METRICS
from strategies.registry import structure_entry

DECIDING = (
    "strategies",
    "benchmark.config",
    "benchmark.metrics",
    "benchmark.models",
    "benchmark.running",
    "benchmark.streams",
)
"""Packages that decide what a run computes; commands, engines, recording and boards do not."""

LIBRARIES = ("version.torch", "version.torchvision", "version.avalanche-lib", "version.numpy")
"""Tags of the libraries that decide what a run computes."""


def code_fingerprint(config: RunConfig) -> str:
    """12 hex digits over the sources of the deciding packages, and of those of others that the run has parts of."""
    digest = hashlib.sha256(_own_sources())
    asked = tuple((field, getattr(config, field)) for field in NAMED)
    for root in _others(asked, config.structure, tuple(METRICS.names())):
        digest.update(_sources(root))
    return digest.hexdigest()[:12]


def code_differences(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between the code and libraries of two records (tags without prefix), in words."""
    unlike = [name for name in ("code", *LIBRARIES) if recorded.get(name) != now.get(name)]
    return [f"{name.removeprefix('version.')} {_told(name, recorded)} -> {_told(name, now)}" for name in unlike]


def _told(name: str, record: Mapping[str, str]) -> str:
    value = record.get(name, "not recorded")
    commit = record.get("commit", "")[:8] if name == "code" else ""
    return f"{value} ({commit})" if commit else value


@cache
def _own_sources() -> bytes:
    digest = hashlib.sha256()
    for package in DECIDING:
        digest.update(_sources(package))
    return digest.digest()


@cache
def _sources(package: str) -> bytes:
    """Digest of all Python files of a package, or of the one file of a module."""
    digest = hashlib.sha256()
    for name, path in sorted(_files(package)):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


def _files(package: str) -> Iterator[tuple[str, Path]]:
    try:
        spec = find_spec(package)
    except ValueError:
        # A script or a notebook: what is known of it is the file it may have.
        spec = None
    if spec is None:
        file = getattr(sys.modules.get(package), "__file__", None)
        if file is not None:
            yield package, Path(file)
        return
    if not spec.submodule_search_locations:
        if spec.origin:
            yield package, Path(spec.origin)
        return
    for place in spec.submodule_search_locations:
        for path in Path(place).rglob("*.py"):
            if path.is_file():
                yield f"{package}/{path.relative_to(place).as_posix()}", path


@cache
def _others(asked: tuple[tuple[str, str], ...], structure: str, metrics: tuple[str, ...]) -> list[str]:
    """Packages outside of the suite that parts of a run come from."""
    entries = [NAMED[field].load(name) for field, name in asked]
    entries += [structure_entry(structure), *map(METRICS.load, metrics)]
    modules = {inspect.unwrap(entry.target).__module__.partition(".")[0] for entry in entries}
    return sorted(modules - {"benchmark", "strategies"})
