"""Commands in processes of their own: new interpreters, as a user's is, or forked from one that is ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SILENCE = 120
"""Seconds after which a command that does not say what is waited for is given up."""


class Running:
    """A command that was started in the background, as the leader of a process group.

    Attributes:
        pid: its number, which is also that of the group.
    """

    def __init__(self, preloaded: Preloaded, pid: int, streams: list[Path]):
        self.preloaded, self.pid, self.streams = preloaded, pid, streams
        self._code: int | None = None

    def said(self) -> str:
        """What it has said until now."""
        return self.streams[1].read_text()

    def wait_for(self, *beginnings: str) -> None:
        """Wait until it has said lines that begin so; a run that failed will not say any."""
        deadline = time.monotonic() + SILENCE
        missing = set(beginnings)
        while missing:
            lines = self.said().splitlines()
            missing = {words for words in missing if not any(line.startswith(words) for line in lines)}
            failed = [line for line in lines if line.startswith("Run ") and " failed" in line]
            over = self._ended() or time.monotonic() > deadline
            assert not (missing and over) and not failed, f"never said {missing}: {lines}"
            time.sleep(0.01)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end: its exit code, or minus the signal that ended it, what it printed and what it said."""
        if self._code is None:
            self._code = self.preloaded.ask(wait={"child": self.pid})
        return subprocess.CompletedProcess(self.pid, self._code, *(path.read_text() for path in self.streams))

    def _ended(self) -> bool:
        if self._code is None:
            self._code = self.preloaded.ask(wait={"child": self.pid, "at_once": True})
        return self._code is not None


class Preloaded:
    """The process of ``preloaded.py``, which commands are forked from."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def ask(self, **order: Any) -> Any:
        """Have an order carried out."""
        print(json.dumps(order), file=self.process.stdin, flush=True)
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def start(self, *arguments: str, folder: Path, streams: list[Path], **options: Any) -> Running:
        """Start a command; the options are those of ``preloaded.become``."""
        for path in streams:
            path.touch()
        order = {"module": "benchmark.run", "environment": {}, **options}
        order.update(arguments=arguments, folder=str(folder), streams=list(map(str, streams)))
        return Running(self, self.ask(start=order), streams)


@contextmanager
def preloading() -> Iterator[Preloaded]:
    """A context that has the process of ``preloaded.py``."""
    script = [sys.executable, str(Path(__file__).with_name("preloaded.py"))]
    # One thread, also where the environment asks for none: what is compared bit by bit has as many.
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        yield Preloaded(process)
        assert process.stdin is not None
        process.stdin.close()


def environment_of(cache: Path, site: str = "") -> dict[str, str]:
    """What a command of the tests finds in its environment; ``site`` is a folder of installed packages."""
    path = os.pathsep.join(filter(None, (site, os.environ.get("PYTHONPATH"))))
    return {"ANYTIME_BENCH_CACHE": str(cache), "COLUMNS": "160", "PYTHONPATH": path}


def fresh(*arguments: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A command in a new interpreter."""
    whole = [sys.executable, "-m", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(whole, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
