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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")
Traits = TypeVar("Traits")

N_OF_M = "n:m"
"""The structure that is given with its numbers, as 2:4."""

LARGEST_M = 1024
"""Of N:M. Layers are filled up to whole groups of M, which a larger one makes of little but filling."""

LONGEST_NAME = 80
"""Characters that are shown of a name that does not exist."""

LONGEST_REASON = 500
"""Characters that are shown of what the code of others raises."""

SETTING_TYPES = (bool, int, float, str)
"""Types that a hyperparameter of an entry's own may have."""

PRUNING = (
    "score",
    "schedule",
    "density",
    "scope",
    "layer_density",
    "structure",
    "nested",
    "score_fraction",
    "control",
    "known_length",
)
"""Options of pruning that a strategy may declare."""

OPTIONS = (*PRUNING, "buffer_size")
"""All options that a strategy may declare: it gets those that it does, and no other."""


class RegistryError(ValueError):
    """A registration or a name that cannot be used; the message is one line that says what to do."""


class UnknownName(RegistryError):
    """A name that no registry entry has; the message suggests the nearest one."""


@dataclass(frozen=True)
class NoTraits:
    """Nothing has to be known beforehand of entries of this kind."""


@dataclass(frozen=True)
class ReplayTraits:
    """What is to be known of a replay policy before it is made: whether it is ``bounded`` by the buffer's size."""

    bounded: bool = False


@dataclass(frozen=True)
class StrategyTraits:
    """What is to be known of a strategy before it is made.

    Attributes:
        options: those of :data:`OPTIONS` that it reads. It gets what was asked for of these alone; the rest are at
            their defaults, so that two runs which differ in an option that is not declared are one run.
        defaults: option -> the strategy's own default.
        later: option that the strategy has not read from its first version on -> what it did before. A run that still
            does so does not record the option: it is the same run as one from before.
        memory: ``stream`` replays as the protocol says, ``own`` brings a memory of its own, so that ``--replay`` does
            not apply.
        replays: of a memory of its own, the replay policy that costs about as much, for estimates of time.
        task_labels: of a stream with a head for each task: whether the strategy's networks have them (``heads``), it
            cannot do without them (``needed``), or it runs networks that take no task labels (``ignored``).
        needs_new_classes: whether it asks each experience for classes that are nowhere else.
        check: called with a model and the epochs of a megabatch; raises ValueError if the strategy cannot train it.
    """

    options: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    later: Mapping[str, Any] = field(default_factory=dict)
    memory: Literal["stream", "own"] = "stream"
    replays: str = ""
    task_labels: Literal["heads", "needed", "ignored"] = "heads"
    needs_new_classes: bool = False
    check: Callable[[Any, int], None] | None = None

    def __post_init__(self) -> None:
        for name in self.options:
            if name not in OPTIONS:
                raise RegistryError(f"unknown option {name!r}: {_nearest(name, OPTIONS)}")
        for name in (*self.defaults, *self.later):
            if name not in self.options:
                raise RegistryError(
                    f"a default of {name!r}, which is none of its options: {_nearest(name, self.options)}"
                )


@dataclass(frozen=True)
class Scoring:
    """How a score is used: what its registration says beyond the function itself.

    Attributes:
        rounds: the weights are pruned in this many rounds, scored anew in each; the density falls exponentially.
        revives: between rounds all weights compete again. The score is then called with ``masks``, those of the round
            before, and the dense model.
        samples: how many samples the score reads at most; None: as many as the strategy's scoring sample has.
        balanced: the sample holds every class equally often, as far as it can.
        passes: cost of a sample each time the score reads it, in forward and backward passes of ordinary training.
        check: called with a model; raises ValueError if the score cannot score it.
    """

    rounds: int = 1
    revives: bool = False
    samples: int | None = None
    balanced: bool = False
    passes: float = 1.0
    check: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class ScopeTraits:
    """What is to be known of a distribution over layers.

    Attributes:
        options: those of :data:`OPTIONS` that it is made with, by name; none: it is used as it is.
    """

    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.options:
            if name not in OPTIONS:
                raise RegistryError(f"unknown option {name!r}: {_nearest(name, OPTIONS)}")


@dataclass(frozen=True)
class Entry(Generic[Traits]):
    """A registered object.

    ``version`` is bumped whenever the meaning of the entry changes: it is recorded with every result, and
    results of two versions never share a leaderboard. ``reference`` is the paper, with the equation if there is one.
    ``traits`` are what the registry's readers need to know beforehand. ``test_config`` holds options of a run that
    tests the entry.
    """

    name: str
    target: Any
    version: int
    reference: str
    test_config: Mapping[str, Any]
    traits: Traits

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
    """Where a name comes from, its first docstring line, and traits that are written as plain words, not imported."""

    module: str
    description: str
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Registry(Generic[Traits]):
    """Named entries of one kind.

    ``variable`` is the name under which the registry is used as a decorator (``@SCORES.register("snip")``),
    ``package`` the package whose files are read for such decorators, ``group`` the entry-point group through
    which an installed third-party package adds entries without a fork. ``traits`` is the frozen dataclass of what is
    to be known of an entry beforehand: its fields are the further arguments of :meth:`register`.
    """

    kind: str
    variable: str
    package: str
    group: str
    traits: type[Traits]
    _entries: dict[str, Entry[Traits]] = field(default_factory=dict)

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
            RegistryError: the name is taken, a trait is unknown, missing or wrong, or the object has no docstring
                (``--list`` would show an empty line).
        """
        own = self._traits_of(name, traits)

        def add(target: T) -> T:
            if name in self._entries:
                raise RegistryError(f"{self.kind} {name!r} is registered twice")
            if not (getattr(target, "__doc__", None) or "").strip():
                raise RegistryError(f"{self.kind} {name!r} needs a docstring: its first line is what --list shows")
            self._entries[name] = Entry(name, target, version, reference, test_config or {}, own)
            return target

        return add

    def names(self) -> list[str]:
        """All names, sorted without regard to case."""
        return sorted(self._listed, key=str.lower)

    def descriptions(self) -> dict[str, str]:
        """Name -> one line, sorted like :meth:`names`."""
        return {name: self._listed[name].description for name in self.names()}

    def told(self, name: str, trait: str, otherwise: str) -> str:
        """A trait that the registration of ``name`` writes as a plain word, without importing it."""
        return self._listed[name].traits.get(trait, otherwise)

    def check(self, name: str) -> str:
        """Return ``name`` if it exists.

        Raises:
            UnknownName: it does not; the message names the nearest entry, or all of them.
        """
        if name in self._listed or name in self._entries:
            return name
        shown = name[:LONGEST_NAME]
        raise UnknownName(f"unknown {self.kind} {shown!r}: {_nearest(shown, self.names())}")

    def loaded(self) -> list[Entry[Traits]]:
        """The entries whose modules have been imported so far."""
        return list(self._entries.values())

    def load(self, name: str) -> Entry[Traits]:
        """Import the module that registers ``name`` and return its entry.

        Raises:
            UnknownName: no such name.
            RegistryError: the module cannot be imported, or registers no such name, though its package announces it.
        """
        self.check(name)
        if name not in self._entries:
            module = self._listed[name].module
            try:
                importlib.import_module(module)
            except RegistryError:
                raise
            except Exception as error:
                # Whatever the code of others raises, it must not end in a traceback of ours.
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
                raise RegistryError(
                    f"the {self.kind} {name!r} cannot be used: importing {module} failed ({reason})"
                ) from error
            if name not in self._entries:
                raise RegistryError(
                    f"{module} does not register the {self.kind} {name!r} that its package announces: "
                    f"put @{self.variable}.register({name!r}) on it, or remove the entry point"
                )
        return self._entries[name]

    def _traits_of(self, name: str, given: Mapping[str, Any]) -> Traits:
        known = {one.name: one for one in fields(self.traits)}  # type: ignore[arg-type]
        for trait in given:
            if trait not in known:
                raise RegistryError(f"{self.kind} {name!r} has an unknown trait {trait!r}: {_nearest(trait, known)}")
        for trait, one in known.items():
            if trait not in given and one.default is MISSING and one.default_factory is MISSING:
                raise RegistryError(f"{self.kind} {name!r} needs the trait {trait!r}: register({name!r}, {trait}=...)")
        try:
            own = self.traits(**given)
            self._check_types(own)
        except RegistryError as error:
            raise RegistryError(f"{self.kind} {name!r}: {error}") from error
        return own

    def _check_types(self, traits: Traits) -> None:
        """Make sure that the traits are of the types that they are declared with.

        Raises:
            RegistryError: one is not.
        """
        for trait, check in self._type_checks.items():
            value = getattr(traits, trait)
            try:
                check.validate_python(value)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise RegistryError(f"trait {trait!r}: {reason[:1].lower()}{reason[1:]}, not {value!r}") from error

    @cached_property
    def _type_checks(self) -> dict[str, TypeAdapter[Any]]:
        """Trait -> what its values have to be."""
        strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
        return {name: TypeAdapter(hint, config=strict) for name, hint in get_type_hints(self.traits).items()}

    @cached_property
    def _listed(self) -> dict[str, _Listed]:
        listed = dict(self._from_files())
        for point in entry_points(group=self.group):
            if point.name in listed:
                raise RegistryError(
                    f"the installed package {_distribution(point)} repeats the {self.kind} {point.name!r}: uninstall "
                    "it, or rename its entry point"
                )
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
                    for decorator in node.decorator_list:
                        name = self._registered_name(decorator)
                        if name in listed:
                            raise RegistryError(f"{self.kind} {name!r} is in {listed[name].module} and in {module}")
                        if name is not None:
                            listed[name] = _Listed(module, doc, _plain_words(decorator))
        return listed

    def _registered_name(self, decorator: ast.expr) -> str | None:
        match decorator:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=variable), attr="register"),
                args=[ast.Constant(value=str(name)), *_],
            ) if variable == self.variable:
                return name
        return None


def _plain_words(decorator: ast.expr) -> dict[str, str]:
    """Keyword arguments of a decorator that are literal texts."""
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    return {
        one.arg: one.value.value
        for one in keywords
        if one.arg is not None and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
    }


def _nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant by ``name``, or everything that there is."""
    folded = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f"did you mean {folded[near[0]]!r}?" if near else f"known: {', '.join(folded.values()) or 'none'}"


def _distribution(point: EntryPoint) -> str:
    if point.dist is None:
        return f"installed: {point.value}"
    # A package may leave any of them out, and reading what is not there is an error in newer versions of Python.
    about = {key: value for key, value in point.dist.metadata.json.items() if isinstance(value, str)}
    summary, name, version = (about.get(key, "") for key in ("summary", "name", "version"))
    return f"{summary or point.value} ({name} {version})"


STRATEGIES = Registry("strategy", "STRATEGIES", "strategies", "anytime_bench.strategies", StrategyTraits)
SCORES = Registry("score", "SCORES", "strategies.pruning", "anytime_bench.scores", Scoring)
DISTRIBUTIONS = Registry("scope", "DISTRIBUTIONS", "strategies.pruning", "anytime_bench.scopes", ScopeTraits)
SCHEDULES = Registry("schedule", "SCHEDULES", "strategies.pruning", "anytime_bench.schedules", NoTraits)
STRUCTURES = Registry("structure", "STRUCTURES", "strategies.pruning", "anytime_bench.structures", NoTraits)
REPLAYS = Registry("replay policy", "REPLAYS", "strategies", "anytime_bench.replays", ReplayTraits)


def is_bounded(replay: str) -> bool:
    """Whether a learner that replays so keeps ``buffer_size`` samples; no policy of ours, such as ``own``, says so."""
    return replay in REPLAYS.names() and REPLAYS.load(replay).traits.bounded


def n_and_m(structure: str) -> tuple[int, ...]:
    """(2, 4) for ``2:4``, in whatever digits and spacing; empty for the name of any other structure."""
    parts = [part.strip() for part in structure.split(":")]
    # Decimal digits of other scripts count too: int reads them, but not thousands of digits.
    is_number = [part.isdecimal() and len(part) <= LONGEST_NAME for part in parts]
    return tuple(map(int, parts)) if len(parts) == 2 and all(is_number) else ()


def structure_name(structure: str) -> str:
    """The one way to write a structure: ``2:4`` for ``02:04``; the name of any other as it is.

    Raises:
        UnknownName: there is none of that name, or it is N:M without numbers or with impossible ones.
    """
    structure_entry(structure)
    return ":".join(map(str, n_and_m(structure))) or structure


def structure_entry(structure: str) -> Entry[NoTraits]:
    """The registered structure; ``2:4`` is an ``n:m``.

    Raises:
        UnknownName: there is none of that name, or it is N:M without numbers or with impossible ones.
    """
    numbers = n_and_m(structure)
    if structure == N_OF_M or (numbers and not 0 < numbers[0] <= numbers[1] <= LARGEST_M):
        raise UnknownName(
            f"structure {structure[:LONGEST_NAME]!r}: N:M takes numbers, as in 2:4, which keeps 2 of each 4; "
            f"0 < N <= M <= {LARGEST_M}"
        )
    return STRUCTURES.load(N_OF_M if numbers else structure)
