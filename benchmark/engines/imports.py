"""Libraries that a run needs, imported without those that it does not."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmark.engines.avalanche_settings import write_avalanche_settings

UNUSED = ("jax",)
"""Packages that are imported for nothing: Avalanche asks for a solver of quadratic programs, which tries all it has."""

LATER: dict[str, tuple[str, ...]] = {"wandb": (), "scipy.signal": ("hamming",)}
"""Modules that are imported once something of them is used, and names that others only look for while importing.

Avalanche imports wandb for a picture; torchmetrics looks for an old name of SciPy's signals, which takes a second.
"""


class Later(ModuleType):
    """Stands for a module until something of it is used; that imports it."""

    def __init__(self, name: str, names: tuple[str, ...] = ()):
        super().__init__(name)
        self.__dict__.update(dict.fromkeys(names))

    def __getattr__(self, name: str) -> Any:
        # Whoever looks through all modules that there are asks for such names.
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def libraries_imported() -> Iterator[None]:
    """A context to import the libraries in: Avalanche can be, the :data:`UNUSED` look as if they were not there, and
    the modules of :data:`LATER` wait for their use.

    No garbage is looked for meanwhile: all of it stays, and looking took an eighth of the time.

    Raises:
        UsageError: Avalanche could not be imported.
    """
    write_avalanche_settings()
    hidden = [name for name in UNUSED if name not in sys.modules]
    # This is how Python is told that a module cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    standing = {name: Later(name, names) for name, names in LATER.items() if name not in sys.modules}
    sys.modules.update(standing)
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()
        for name in hidden:
            del sys.modules[name]
        for name, module in standing.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
