"""A claim on a run: of several processes that are asked for the same one, one carries it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def claim(folder: Path, identity: str) -> Iterator[bool]:
    """A context with whether the run is this process's to carry out.

    The system drops a claim with its process, however that ends. Whoever gets a claim has to look whether the run was
    done meanwhile: it may be that of a file which the one before has just removed.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{identity}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def clear_claims(folder: Path) -> None:
    """Remove what processes have left behind that died while they had a claim."""
    for path in folder.glob("*.lock"):
        with claim(folder, path.stem):
            pass
