"""The end of a command: what it has to do is done, what it holds is the system's to free."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable


def end_at_once(main: Callable[[], None]) -> None:
    """Call a command that is the whole process, and leave out the interpreter's own clean-up when it has ended.

    To take some 670,000 objects of the libraries apart, one by one, costs 2 s after each command. Threads are joined
    and what is registered with ``atexit`` is done before, as always; exit codes are those of ``main``.

    Raises:
        SystemExit: what ``main`` raised.
    """
    codes: list[int] = []

    def leave() -> None:
        if codes:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            except OSError:
                return  # Whoever read has gone: the interpreter has a code for that.
            os._exit(codes[0])

    # The first that is registered is the last that is called: libraries are imported by ``main``.
    atexit.register(leave)
    try:
        main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            codes.append(ended.code or 0)
        raise
