"""A strategy as bytes: all that it has learned and remembers, for strategies that know nothing of it.

The whole object is pickled, in PyTorch's format. What it refers to but does not own (images, streams, loaders, loggers)
stays out and is found again by its number in the :class:`Surroundings` that the next process builds in the same way.
So are functions, closures among them, and classes that have no name to import them by.

What is trusted (docs/reliability.md): reading names no function and calls nothing but what rebuilds tensors, arrays and
collections; of classes it knows those of the packages in :data:`TRUSTED`, of registered ones, and PyTorch's modules,
optimisers and schedules.
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, SimpleNamespace
from typing import Any, ClassVar

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.serialization import default_restore_location

from benchmark.registry import METRICS, MODELS, STREAMS
from strategies.registry import DISTRIBUTIONS, REPLAYS, SCHEDULES, SCORES, STRATEGIES, STRUCTURES

PROTOCOL = 4
"""Of pickle: the first one that knows nested names."""

TRUSTED = ("benchmark", "strategies", "leaderboards", "avalanche", "torchvision")
"""Packages whose classes may be named in a snapshot, beside those of registered packages."""

KINDS = (nn.Module, Optimizer, LRScheduler, Tensor)
"""Of PyTorch, the classes that are one of these may be named."""

CONSTANTS = (torch.dtype, torch.layout, torch.memory_format)
"""And objects of these."""

CALLED = frozenset(
    {
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch._utils", "_rebuild_parameter_with_state"),
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("torch", "Size"),
        ("torch", "device"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        ("numpy", "dtype"),
        ("numpy.random._pickle", "__generator_ctor"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("_codecs", "encode"),
        ("functools", "partial"),
        *(("collections", name) for name in ("OrderedDict", "defaultdict", "Counter", "deque")),
        *(("builtins", one.__name__) for one in (set, frozenset, slice, complex, bytearray, range)),
    }
)
"""All that a snapshot may call, by the names that pickle writes."""

NAMED = frozenset(
    {
        ("numpy", "ndarray"),
        ("torch._C", "_VariableFunctionsClass"),
        ("numpy.random._pcg64", "PCG64"),
        ("numpy.random._generator", "Generator"),
        *(("builtins", one.__name__) for one in (dict, list, tuple, int, float, str, bytes, bool, object)),
    }
)
"""What may be named beside, and is not called."""

MAKING = frozenset({"zeros", "ones", "empty", "full"})
"""Functions of PyTorch that some of Avalanche's plugins remember."""


class Unsaveable(Exception):
    """The strategy holds something that cannot be written down; the message says what."""


class Untrusted(Exception):
    """A file names something that no snapshot of ours has in it; the message says what."""


class Surroundings:
    """What a strategy refers to and does not own, numbered in an order that every process finds again.

    Args:
        strategy: as it was built, before it has learned anything.
        stream: an object whose parts all stay out: the scenario with its data sets.
        others: objects that stay out as they are, always as many.
    """

    def __init__(self, strategy: SupervisedTemplate, stream: object, others: Iterable[object]):
        self._objects: list[object] = []
        self._numbers: dict[int, int] = {}
        self._left_out: dict[int, object] = {}
        for other in others:
            self._add(other)
        _walk(stream, self._add_part)
        _walk(strategy, lambda value: self.number(value) is None and self._add_code(value))

    def leave_out(self, plugins: Iterable[object]) -> None:
        """Plugins that belong to the process: a snapshot has nothing in their places."""
        self._left_out |= {id(plugin): plugin for plugin in plugins}

    def is_left_out(self, value: object) -> bool:
        """Whether nothing is to stand in the place of this object."""
        return id(value) in self._left_out

    def number(self, value: object) -> int | None:
        """Number of an object that stays out; None for one that does not."""
        return self._numbers.get(id(value))

    def __getitem__(self, number: int) -> object:
        return self._objects[number]

    def __len__(self) -> int:
        return len(self._objects)

    def _add(self, value: object) -> None:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._objects)
            # Held, so that no other object can come to have its identity.
            self._objects.append(value)

    def _add_part(self, value: object) -> bool:
        if not isinstance(value, type | FunctionType | BuiltinFunctionType):
            self._add(value)
        return self._add_code(value)

    def _add_code(self, value: object) -> bool:
        if isinstance(value, FunctionType):
            # Those that pickle calls are no one's.
            if (value.__module__, value.__qualname__) not in CALLED:
                self._add(value)
            return False
        if isinstance(value, type) and not _has_name(value):
            self._add(value)
            return False
        return True


def save(state: Any, surroundings: Surroundings) -> bytes:
    """``state`` as bytes.

    Raises:
        Unsaveable: something in it cannot be written down.
    """

    class Pickler(pickle.Pickler):
        def reducer_override(self, value: object) -> Any:
            if surroundings.is_left_out(value):
                return nothing, ()
            number = surroundings.number(value)
            return NotImplemented if number is None else (outside, (number,))

    buffer = io.BytesIO()
    try:
        shim = SimpleNamespace(__name__="snapshot", Pickler=Pickler)
        torch.save(state, buffer, pickle_module=shim, pickle_protocol=PROTOCOL)
    except Exception as error:
        # Whatever the code of others raises, it must not end a run.
        raise Unsaveable(" ".join(f"{type(error).__name__}: {error}".split())) from error
    return buffer.getvalue()


def load(data: bytes, surroundings: Surroundings, device: str) -> Any:
    """The state that :func:`save` made of it. What lay on a device lies on ``device``, the rest in main memory.

    Raises:
        Untrusted: it names or calls something that no snapshot of ours does.
        Exception: it is damaged, in whatever way, or there is no room for it.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        if any(name.endswith("constants.pkl") for name in parts.namelist()):
            # PyTorch would take it for a program.
            raise Untrusted("it holds a program")

    class Unpickler(_Restricted):
        found_outside = surroundings.__getitem__

    def place(storage: Any, where: str) -> Any:
        return storage if where == "cpu" else default_restore_location(storage, device)

    shim = SimpleNamespace(__name__="snapshot", Unpickler=Unpickler)
    return torch.load(io.BytesIO(data), map_location=place, pickle_module=shim, weights_only=False)


# The one written in Python: only there can it be said what is called.
class _Restricted(pickle._Unpickler):
    """An unpickler that names and calls nothing but what is listed above."""

    found_outside: Callable[[int], object]
    stack: list[Any]

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._callable: list[object] = [nothing, _method, self.found_outside]
        self._packages = frozenset({*TRUSTED, *_registered_packages()})

    def find_class(self, module: str, name: str) -> Any:
        """What a name means, if it may be named."""
        if module == __name__ and name in STANDING_IN:
            return {"outside": self.found_outside, "nothing": nothing}[name]
        if (module, name) == ("builtins", "getattr"):
            return _method
        root = module.partition(".")[0]
        listed = (module, name) in CALLED or (module, name) in NAMED
        if listed or root == "torch" or root in self._packages:
            found = super().find_class(module, name)
            if (module, name) in CALLED:
                self._callable.append(found)
            if listed or isinstance(found, CONSTANTS) or self._is_ours(found, root, name):
                return found
        raise Untrusted(f"it names {module}.{name}")

    def _is_ours(self, found: object, root: str, name: str) -> bool:
        """Whether it is a class of the package that it is asked of, and no guest there."""
        if not isinstance(found, type) or found.__qualname__ != name or found.__module__.partition(".")[0] != root:
            return False
        return root != "torch" or issubclass(found, KINDS)

    def load_reduce(self) -> None:
        """Call something, if it may be called, and with what makes nothing larger than the file."""
        called, arguments = self.stack[-2:]
        if not any(called is one for one in self._callable):
            raise Untrusted(f"it calls {getattr(called, '__qualname__', called)}")
        if any(isinstance(one, range) or (called is bytearray and isinstance(one, int)) for one in arguments):
            raise Untrusted(f"it makes a {called.__qualname__} of a number")
        self._standard[pickle.REDUCE[0]](self)

    def load_later(self) -> None:
        """Refuse what our protocol has not: it would take room for any number of bytes before it reads them."""
        raise Untrusted(f"it is of a later protocol of pickle than {PROTOCOL}")

    _standard: ClassVar[dict[int, Callable[[Any], None]]] = pickle._Unpickler.dispatch
    _later = (pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0])
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_standard,
        pickle.REDUCE[0]: load_reduce,
        **dict.fromkeys(_later, load_later),
    }


def outside(number: int) -> object:
    """Stands in a snapshot for the object of this number; it is found in surroundings, never called."""
    raise Untrusted(f"number {number} of no surroundings")


def nothing() -> None:
    """Stands in a snapshot for a plugin that was left out."""


STANDING_IN = ("outside", "nothing")


def _method(value: object, name: str) -> object:
    """How pickle writes a method of an object, and the functions that PyTorch makes tensors with."""
    if isinstance(value, type):
        allowed = value.__module__.startswith("torch.") and name in MAKING
    else:
        allowed = not name.startswith("_") and getattr(getattr(value, name), "__self__", None) is value
    if not allowed:
        raise Untrusted(f"it names the attribute {name} of a {type(value).__name__}")
    return getattr(value, name)


def _has_name(value: type) -> bool:
    """Whether an import finds this very object under its name."""
    found: object = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _walk(root: object, visit: Callable[[object], bool]) -> None:
    """Call ``visit`` with every object that a pickle of ``root`` would hold, in that order; if False, not its parts."""

    class Walker(pickle.Pickler):
        def reducer_override(self, value: object) -> Any:
            return NotImplemented if value is outside or visit(value) else (outside, (0,))

        def persistent_id(self, value: object) -> Any:
            # The numbers in a tensor are no objects.
            return 0 if torch.is_storage(value) else None

    Walker(_Nowhere(), PROTOCOL).dump(root)


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def _registered_packages() -> frozenset[str]:
    """The packages, as they are imported, of all entries that have been loaded."""
    registries = (STRATEGIES, SCORES, DISTRIBUTIONS, SCHEDULES, STRUCTURES, REPLAYS, STREAMS, MODELS, METRICS)
    loaded = (entry for registry in registries for entry in registry.loaded())
    return frozenset(str(entry.target.__module__).partition(".")[0] for entry in loaded)
