"""Commands that can be killed."""

from __future__ import annotations

import os
import signal
import time

import pytest


@pytest.fixture(scope="session")
def killing(preloaded):
    """Function: (arguments, folder, kill) -> what became of the command: its code and the seconds that it took.

    ``kill`` says when it is killed: ``{"after": seconds}``, or at a call of a function, where another signal may be
    sent: the arguments of ``preloaded.send_itself``. Its store is made as it is for users. It appends to ``said.txt``.
    """

    def carry_out(arguments, folder, kill=None):
        kill = dict(kill or {})
        after = kill.pop("after", None)
        began = time.monotonic()
        process = preloaded.start(
            *arguments,
            folder=folder,
            streams=[folder / "said.txt"] * 2,
            environment={"ANYTIME_BENCH_CACHE": str(folder / "cache")},
            new_store=True,
            signal_at=kill or None,
        )
        if after is not None:
            time.sleep(max(0.0, began + after - time.monotonic()))
            # One that has ended keeps its number until it is waited for.
            os.kill(process.pid, signal.SIGKILL)
        code = process.end().returncode
        return {"code": code, "seconds": time.monotonic() - began}

    return carry_out
