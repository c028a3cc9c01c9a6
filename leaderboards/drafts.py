"""Drafts of files: a folder for them beside their places, and none stays when its process is dead."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PREFIX = ".anytime-bench-drafts-"
"""Of the folders that drafts lie in."""

LOCK = "lock"
"""The file in such a folder that its process holds as long as it lives."""


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """A new folder below ``folder``, which is made if it is not there; removed at the end of the context.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drafts, lock = _held(folder)
    try:
        yield drafts
    finally:
        # NFS removes no folder with an open file in it.
        lock.close()
        shutil.rmtree(drafts, ignore_errors=True)


def clear_dead_drafts(folder: Path) -> None:
    """Remove the drafts in ``folder`` whose processes were killed; those of a living one stay, however old."""
    for drafts in folder.glob(f"{PREFIX}*"):
        try:
            with (drafts / LOCK).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(drafts, ignore_errors=True)
        except OSError:
            continue  # Held, cleared by another process meanwhile, or not ours to remove.


def _held(folder: Path) -> tuple[Path, BinaryIO]:
    """A new folder of drafts and its lock. Until it is held, another process may take the folder for a dead one's."""
    while True:
        drafts = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        try:
            lock = (drafts / LOCK).open("wb")
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_held = os.fstat(lock.fileno()).st_nlink > 0
        except BlockingIOError:
            is_held = False
        except OSError:
            is_held = True  # A file system without locks: nobody clears there.
        if is_held:
            return drafts, lock
        lock.close()
