"""Registries: one file plus one decorator adds a name, and listing the names imports nothing.

A registry knows its entries in two ways. ``names()`` and ``descriptions()`` read the source files of a
package (and the metadata of installed entry points), so that ``--list`` answers without importing torch.
``load(name)`` imports the one module that registers the name.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")

N_OF_M = "n:m"
"""The structure that is given with its numbers, as 2:4."""

SETTING_TYPES = (bool, int, float, str)
"""Types that a hyperparameter of an entry's own may have."""


class UnknownName(ValueError):
    """A name that no registry entry has; the message suggests the nearest one."""


@dataclass(frozen=True)
class Entry:
    """A registered object.

    ``version`` is bumped whenever the meaning of the entry changes: it is recorded with every result, and
    results of two versions never share a leaderboard. ``reference`` is the paper, with the equation if there is one.
    ``traits`` are what the registry's readers need to know beforehand (for a stream: its default number of
    megabatches; for a strategy: the options it uses; for a score: a ``check`` that raises ValueError for models that it
    cannot score). ``test_config`` holds options of a run that tests the entry.
    """

    name: str
    target: Any
    version: int
    reference: str
    test_config: Mapping[str, Any]
    traits: Mapping[str, Any]

    @cached_property
    def settings(self) -> dict[str, bool | int | float | str]:
        """The entry's own hyperparameters and their defaults: keyword-only parameters of the target with a default."""
        parameters = inspect.signature(self.target).parameters.values()
        return {
            p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and isinstance(p.default, SETTING_TYPES)
        }

    @cached_property
    def setting_types(self) -> dict[str, Any]:
        """The annotation of each setting; ``Annotated[int, Ge(0)]`` says which values make sense."""
        hints = get_type_hints(self.target, include_extras=True)
        return {name: hints.get(name, type(default)) for name, default in self.settings.items()}


@dataclass(frozen=True)
class _Listed:
    """Where a name comes from and its first docstring line, known without importing it."""

    module: str
    description: str


@dataclass
class Registry:
    """Named entries of one kind.

    ``variable`` is the name under which the registry is used as a decorator (``@SCORES.register("snip")``),
    ``package`` the package whose files are read for such decorators, ``group`` the entry-point group through
    which an installed third-party package adds entries without a fork.
    """

    kind: str
    variable: str
    package: str
    group: str
    _entries: dict[str, Entry] = field(default_factory=dict)

    def register(
        self,
        name: str,
        *,
        version: int = 1,
        reference: str = "",
        test_config: Mapping[str, Any] | None = None,
        **traits: Any,
    ) -> Callable[[T], T]:
        """Decorator that adds a class or function under ``name``; see :class:`Entry` for the rest.

        Raises:
            ValueError: the name is taken, or the object has no docstring (``--list`` would show an empty line).
        """

        def add(target: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            if not (getattr(target, "__doc__", None) or "").strip():
                raise ValueError(f"{self.kind} {name!r} needs a docstring: its first line is what --list shows")
            self._entries[name] = Entry(name, target, version, reference, test_config or {}, traits)
            return target

        return add

    def names(self) -> list[str]:
        """All names, sorted without regard to case."""
        return sorted(self._listed, key=str.lower)

    def descriptions(self) -> dict[str, str]:
        """Name -> one line, sorted like :meth:`names`."""
        return {name: self._listed[name].description for name in self.names()}

    def check(self, name: str) -> str:
        """Return ``name`` if it exists.

        Raises:
            UnknownName: it does not; the message names the nearest entry, or all of them.
        """
        if name in self._listed or name in self._entries:
            return name
        folded = {known.lower(): known for known in self.names()}
        near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
        hint = f"did you mean {folded[near[0]]!r}?" if near else "known: " + ", ".join(self.names())
        raise UnknownName(f"unknown {self.kind} {name!r}: {hint}")

    def load(self, name: str) -> Entry:
        """Import the module that registers ``name`` and return its entry.

        Raises:
            UnknownName: no such name.
        """
        self.check(name)
        if name not in self._entries:
            importlib.import_module(self._listed[name].module)
        return self._entries[name]

    @cached_property
    def _listed(self) -> dict[str, _Listed]:
        listed = dict(self._from_files())
        for point in entry_points(group=self.group):
            if point.name in listed:
                raise ValueError(f"the installed package {_distribution(point)} repeats the {self.kind} {point.name!r}")
            listed[point.name] = _Listed(point.module, _distribution(point))
        return listed

    def _from_files(self) -> dict[str, _Listed]:
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"no package {self.package!r}")
        listed: dict[str, _Listed] = {}
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(root.rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if f"@{self.variable}.register(" not in source:
                continue
            module = ".".join((self.package, *path.relative_to(root).with_suffix("").parts))
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    doc = (ast.get_docstring(node) or "").split("\n")[0]
                    for name in map(self._registered_name, node.decorator_list):
                        if name in listed:
                            raise ValueError(f"{self.kind} {name!r} is in {listed[name].module} and in {module}")
                        if name is not None:
                            listed[name] = _Listed(module, doc)
        return listed

    def _registered_name(self, decorator: ast.expr) -> str | None:
        match decorator:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=variable), attr="register"),
                args=[ast.Constant(value=str(name)), *_],
            ) if variable == self.variable:
                return name
        return None


def _distribution(point: EntryPoint) -> str:
    if point.dist is None:
        return f"installed: {point.value}"
    summary = point.dist.metadata["Summary"] or point.value
    return f"{summary} ({point.dist.name} {point.dist.version})"


STRATEGIES = Registry("strategy", "STRATEGIES", "strategies", "anytime_bench.strategies")
SCORES = Registry("score", "SCORES", "strategies.pruning", "anytime_bench.scores")
DISTRIBUTIONS = Registry("scope", "DISTRIBUTIONS", "strategies.pruning", "anytime_bench.scopes")
SCHEDULES = Registry("schedule", "SCHEDULES", "strategies.pruning", "anytime_bench.schedules")
STRUCTURES = Registry("structure", "STRUCTURES", "strategies.pruning", "anytime_bench.structures")
REPLAYS = Registry("replay policy", "REPLAYS", "strategies", "anytime_bench.replays")


def n_and_m(structure: str) -> tuple[int, ...]:
    """(2, 4) for ``2:4``, empty for the name of any other structure."""
    return tuple(map(int, structure.split(":"))) if re.fullmatch(r"\d+:\d+", structure) else ()


def structure_named(structure: str) -> Entry:
    """The registered structure; ``2:4`` is an ``n:m``.

    Raises:
        UnknownName: there is none of that name, or it is N:M without numbers or with impossible ones.
    """
    numbers = n_and_m(structure)
    if structure == N_OF_M or (numbers and not 0 < numbers[0] <= numbers[1]):
        raise UnknownName(f"structure {structure!r}: N:M takes numbers, as in 2:4, which keeps 2 of each 4; 0 < N <= M")
    return STRUCTURES.load(N_OF_M if numbers else structure)
