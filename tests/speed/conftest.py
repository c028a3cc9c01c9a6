"""Things timed side by side, and the table of what was measured beside what was aimed at: ``tox -e speed``.

Training loops are timed in one process, in turns: a figure is the median of the ratios of some rounds. Whole runs and
commands are timed one after the other, each in a process of its own. Seconds stand only where a target is in seconds. A
test with a row that misses its target fails, and the table is printed all the same.
"""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import pytest
import torch
from tabulate import tabulate

from benchmark.recording.provenance import provenance
from leaderboards.record import PREFIX

ROWS = pytest.StashKey[list]()

SIGNS = {"<=": operator.le, ">=": operator.ge}

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))


@dataclass(frozen=True)
class Row:
    """What was measured: ``value`` beside a target such as ``<= 1.05``, on a device."""

    device: str
    name: str
    value: float
    target: str
    unit: str
    note: str

    @property
    def met(self) -> bool:
        """Whether the value is where it was aimed at."""
        sign, limit = self.target.split()
        return bool(SIGNS[sign](self.value, float(limit)))


def pytest_configure(config):
    config.stash[ROWS] = []


@pytest.fixture(params=["cpu", CUDA])
def device(request):
    """Each device that there is."""
    return request.param


@pytest.fixture
def report(request):
    """Function: add a row to the table. A test fails at its end if one of its rows misses the target."""
    rows = []

    def add(name, value, target, *, device="cpu", unit="", note=""):
        rows.append(Row(device, name, value, target, unit, note))

    yield add
    request.config.stash[ROWS] += rows
    missed = [f"{row.name}: {row.value:.3f}{row.unit}, target {row.target}" for row in rows if not row.met]
    assert not missed, "; ".join(missed)


@pytest.fixture(scope="session")
def in_turns():
    """Function: contenders by name -> the seconds that each took in each round.

    Every contender runs once beforehand. The order turns round from one round to the next.
    """

    def wait():
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def run(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
        seconds = {name: [] for name in contenders}
        for step in contenders.values():
            step()
        for number in range(rounds):
            for name in list(contenders)[:: -1 if number % 2 else 1]:
                wait()
                start = perf_counter()
                contenders[name]()
                wait()
                seconds[name].append(perf_counter() - start)
        return seconds

    return run


@pytest.fixture(scope="session")
def ratio():
    """Function: two lists of seconds, round by round -> the median of their ratios."""
    return lambda first, second: median(a / b for a, b in zip(first, second, strict=True))


def pytest_terminal_summary(terminalreporter, config):
    """Print one table for each device."""
    rows = config.stash[ROWS]
    for device in ("cpu", "cuda"):
        own = [row for row in rows if row.device == device]
        if not own:
            continue
        about = {name.removeprefix(PREFIX): value for name, value in provenance(device).items()}
        versions = [f"{name} {about[f'version.{name}']}" for name in ("torch", "torchvision", "avalanche-lib")]
        machine = [about["hardware"], f"{about['threads']} threads", f"Python {about['python']}"]
        terminalreporter.section(f"speed on {device}")
        terminalreporter.write_line(", ".join([str(datetime.date.today()), *machine, *versions]))
        table = [
            [row.name, f"{row.value:.3g}{row.unit}", f"{row.target}{row.unit}", "yes" if row.met else "no", row.note]
            for row in own
        ]
        headers = ["Measured side by side", "Value", "Target", "Met", "Note"]
        terminalreporter.write_line(tabulate(table, headers=headers, tablefmt="pipe", disable_numparse=True))
