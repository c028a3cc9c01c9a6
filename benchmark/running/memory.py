"""Memory of a long run: what has been freed goes back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def return_freed() -> None:
    """Give freed memory back, where the C library is glibc; nothing elsewhere.

    Megabatches differ in the sizes of their last batches. The pieces that each leaves behind fit no later one, so that
    a process of a hundred megabatches grows by a quarter though it holds no more than one of ten.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
