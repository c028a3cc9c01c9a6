"""Room on the disk for large files, taken before they are written."""

from __future__ import annotations

import errno
import os
from typing import BinaryIO

BLOCK = 1 << 20
"""Bytes written at a time where a file system cannot reserve any."""

NOT_SUPPORTED = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}


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
