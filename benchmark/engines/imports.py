"""Libraries that a run needs, imported without those that it does not."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmark.engines.avalanche_settings import write_avalanche_settings

UNUSED = ("jax",)
"""Packages that are imported for nothing: Avalanche asks for a solver of quadratic programs, which tries all it has."""


@contextmanager
def libraries_imported() -> Iterator[None]:
    """A context to import the libraries in: Avalanche can be, and the :data:`UNUSED` look as if they were not there.

    No garbage is looked for meanwhile: all of it stays, and looking took an eighth of the time.

    Raises:
        UsageError: Avalanche could not be imported.
    """
    write_avalanche_settings()
    hidden = [name for name in UNUSED if name not in sys.modules]
    # This is how Python is told that a module cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()
        for name in hidden:
            del sys.modules[name]
