"""Drafts of large files: room on the disk is taken before they are written, and none stays when its process is dead."""

from __future__ import annotations

import errno
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

BLOCK = 1 << 20
"""Bytes written at a time where a file system cannot reserve any."""

NOT_SUPPORTED = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}


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


def reserve(file: BinaryIO, size: int) -> None:
    """Make ``file`` ``size`` bytes long, with room on the disk for all of them; what it holds so far stays.

    A file that is mapped without room for it kills the process that finds the disk full.

    Raises:
        OSError: there is no room.
    """
    file.flush()
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise
    for start in range(file.tell(), size, BLOCK):
        file.write(bytes(min(BLOCK, size - start)))
    file.flush()


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
